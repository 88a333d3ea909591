"""One picture people look at first: dates, masks, changes and the largest changes close up.

Each sample is one block. Left: a column per date (image over semantic mask) and, between two dates, the change drawn
over the later image and alone. Right: the largest events, before, as changed pixels, and after. Changes are small at
tile scale; the close-ups are what shows whether they look real. A sample without images shows its masks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from changen_cli.core.files import atomic_path
from changen_cli.core.types import ChangeEvent, ClassSchema, EventKind, TimeSeries, UInt8Array
from changen_cli.writers.drawing import (
    GREY,
    INK,
    LOOKS,
    RULE,
    Color,
    any_of,
    fit,
    font,
    header,
    kind_map,
    kinds_of,
    nearest,
    outline_kinds,
    paint,
    paint_changes,
    percent,
    tag,
)

_MARGIN, _GAP, _SECTION = 32, 8, 40
_CLOSE_UPS = 3
_MIN_CROP_PX = 48

Column = tuple[str, Color, list[UInt8Array]]
"""A caption, its colour, and pictures of one size from top to bottom."""


def contact_sheet(
    samples: Iterable[TimeSeries], schema: ClassSchema, path: Path, *, max_samples: int = 6, cell_px: int = 320
) -> Path:
    """Write a contact sheet of ``samples`` to ``path`` (PNG) and return it. See :class:`ContactSheet`."""
    sheet = ContactSheet(schema, max_samples=max_samples, cell_px=cell_px)
    for sample in samples:
        sheet.add(sample)
    return sheet.save(path)


class ContactSheet:
    """Collects samples one by one; keeps only their small rendered blocks.

    Shown are the samples that come first by variant, then by id, so the sheet does not depend on the order of
    arrival and shows different scenes before it shows a second variant of one.

    Args:
        schema: Classes and colours of the masks.
        max_samples: Most blocks on the sheet.
        cell_px: Longer side of one date's cell, in pixels of the sheet.
        title: Heading of the sheet.
        folder: Where blocks are kept for a later run; those there are taken up. None keeps none.
    """

    def __init__(
        self,
        schema: ClassSchema,
        max_samples: int = 6,
        cell_px: int = 320,
        title: str = "Generated change series",
        folder: Path | None = None,
    ) -> None:
        self.schema = schema
        self.max_samples = max_samples
        self.cell_px = cell_px
        self.title = title
        self._blocks: dict[tuple[int, str], Image.Image] = {}
        self._kinds: dict[tuple[int, str], set[EventKind]] = {}
        self._folder = folder
        for path in folder.glob("[0-9]*_*.png") if folder and folder.is_dir() else ():
            self._load(path)

    def keep(self, ids: Collection[str]) -> None:
        """Drop the blocks of all samples but these."""
        for key in [key for key in self._blocks if key[1] not in ids]:
            self._drop(key)

    def add(self, sample: TimeSeries) -> bool:
        """Render ``sample`` if it belongs on the sheet; return whether it (still) does."""
        key = (sample.variant, sample.id)
        if key not in self._blocks and len(self._blocks) >= self.max_samples:
            last = max(self._blocks, default=key)
            if key >= last:
                return False
            self._drop(last)
        self._blocks[key] = self._block(sample)
        self._kinds[key] = {event.kind for event in sample.events}
        if self._folder is not None:
            kept = PngInfo()
            kept.add_text("kinds", " ".join(sorted(self._kinds[key])))
            with atomic_path(self._path(key)) as partial:
                self._blocks[key].save(partial, "PNG", pnginfo=kept)
        return True

    def _path(self, key: tuple[int, str]) -> Path:
        assert self._folder is not None
        return self._folder / f"{key[0]}_{key[1]}.png"

    def _drop(self, key: tuple[int, str]) -> None:
        del self._blocks[key], self._kinds[key]
        if self._folder is not None:
            self._path(key).unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        variant, _, name = path.stem.partition("_")
        try:
            with Image.open(path, formats=["PNG"]) as block:
                block.load()
                words = str(block.info.get("kinds", "")).split()
                self._blocks[int(variant), name] = block.copy()
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
            return
        self._kinds[int(variant), name] = {kind for kind in LOOKS if kind in words}

    def save(self, path: Path) -> Path:
        """Write the sheet as PNG, atomically, and return ``path``."""
        for key in sorted(self._blocks)[self.max_samples :]:  # several processes add to one folder
            self._drop(key)
        blocks = [block for _, block in sorted(self._blocks.items())]
        width = max([block.width for block in blocks], default=720)
        top = header(self.title, set().union(*self._kinds.values()), self.schema, width)
        height = top.height + sum(block.height + _SECTION for block in blocks)
        sheet = Image.new("RGB", (width + 2 * _MARGIN, height + 2 * _MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        sheet.paste(top, (_MARGIN, _MARGIN))
        y = _MARGIN + top.height
        for block in blocks:
            draw.line((_MARGIN, y + 12, _MARGIN + width, y + 12), fill=RULE, width=1)
            sheet.paste(block, (_MARGIN, y + _SECTION - 6))
            y += block.height + _SECTION
        with atomic_path(path) as partial:
            sheet.save(partial, "PNG", compress_level=6)
        return path

    def _block(self, sample: TimeSeries) -> Image.Image:
        _, height, width = sample.masks.shape
        scale = self.cell_px / max(height, width)
        cell = (max(1, round(width * scale)), max(1, round(height * scale)))
        images = sample.images
        columns = self._masks(sample, cell) if images is None else self._series(sample, images, cell)
        rows = len(columns[0][2])
        rows_px = rows * (cell[1] + _GAP) - _GAP
        left = len(columns) * (cell[0] + _GAP) - _GAP
        # Without images there is one row only: fewer close-ups, so that they stay large enough to see.
        count = _CLOSE_UPS if rows > 1 else _CLOSE_UPS - 1
        small = (rows_px - (count - 1) * _GAP) // count
        total = left + _GAP * 3 + 3 * small + 2 * _GAP
        top = 62
        block = Image.new("RGB", (total, top + rows_px), "white")
        draw = ImageDraw.Draw(block)
        draw.text((0, 0), sample.id, font=font(20), fill=INK)
        draw.text((font(20).getlength(sample.id) + 16, 4), _summary(sample), font=font(15), fill=GREY)
        for column, (caption, ink, pictures) in enumerate(columns):
            x = column * (cell[0] + _GAP)
            draw.text((x + 1, top - 7), caption, font=font(15), fill=ink, anchor="ls")
            for row, picture in enumerate(pictures):
                block.paste(Image.fromarray(picture), (x, top + row * (cell[1] + _GAP)))
        self._close_ups(block, draw, sample, (left + 3 * _GAP, top), small, count)
        return block

    def _series(self, sample: TimeSeries, images: UInt8Array, cell: tuple[int, int]) -> list[Column]:
        """Columns of dates, image over mask, and of steps: the later image with outlined changes, and these alone."""
        columns: list[Column] = []
        for t, (image, mask) in enumerate(zip(images, sample.masks, strict=True)):
            if t:
                kinds = kind_map(sample, t - 1)
                over = fit(image, cell)
                alone = np.full_like(over, 16)
                for code, (_, color) in enumerate(LOOKS.values(), start=1):
                    alone[any_of(kinds == code, cell)] = color
                outline_kinds(over, kinds)
                columns.append((_step(sample, t - 1), GREY, [over, alone]))
            columns.append((_date(sample, t), INK, [fit(image, cell), paint(nearest(mask, cell), self.schema)]))
        return columns

    def _masks(self, sample: TimeSeries, cell: tuple[int, int]) -> list[Column]:
        """The source image, then columns of masks, and of steps: the later mask, pale, with outlined changes."""
        columns: list[Column] = [("source image", INK, [fit(sample.scene.image, cell)])]
        for t, mask in enumerate(sample.masks):
            if t:
                over = paint_changes(mask, kind_map(sample, t - 1), self.schema, cell)
                columns.append((_step(sample, t - 1), GREY, [over]))
            columns.append((_date(sample, t), INK, [paint(nearest(mask, cell), self.schema)]))
        return columns

    def _close_ups(
        self,
        block: Image.Image,
        draw: ImageDraw.ImageDraw,
        sample: TimeSeries,
        origin: tuple[int, int],
        size: int,
        count: int,
    ) -> None:
        """Paste the largest events as rows of before, change, after; date names stand above the columns."""
        x0, y0 = origin
        events = _largest(sample.events, count)
        if not events:
            draw.text((x0, y0), "No change in this sample.", font=font(15), fill=GREY)
            return
        for column, name in enumerate(("before", "change", "after")):
            draw.text((x0 + column * (size + _GAP) + 1, y0 - 7), name, font=font(15), fill=INK, anchor="ls")
        for row, event in enumerate(events):
            y = y0 + row * (size + _GAP)
            t = event.time_index
            rows, cols = _crop(event, sample.masks.shape[1:])
            cell = (size, size)
            before, after = (paint(nearest(sample.masks[d][rows, cols], cell), self.schema) for d in (t, t + 1))
            # Classes in grey: buildings are red, as removals are.
            gray = after @ np.array([0.4, 0.4, 0.2])
            change = np.repeat((gray * 0.65 + 48).astype(np.uint8)[..., None], 3, axis=2)
            outline_kinds(change, kind_map(sample, t)[rows, cols], tint=0.4)
            if sample.images is not None:
                before, after = (fit(sample.images[d][rows, cols], cell) for d in (t, t + 1))
            for column, pixels in enumerate((before, change, after)):
                block.paste(Image.fromarray(pixels), (x0 + column * (size + _GAP), y))
            word, color = LOOKS[event.kind]
            if event.kind == "swap":
                word += " away" if event.placement is None else " here"
            told = f"{word}, {event.area_px:,} px"
            if event.kind in ("transition", "damage"):  # the classes say more than the area; there is no room for both
                told = " to ".join(self.schema.names[index] for index in (event.from_class, event.to_class))
            # On the middle panel: the images stay clean.
            tag(draw, (x0 + size + _GAP + 5, y + 5), f"t{t} to t{t + 1}: {told}", color, size - 10)


def _date(sample: TimeSeries, t: int) -> str:
    words = [f"t{t}", *sample.calendar[t : t + 1], *(["(source)"] if t == 0 else [])]
    return " ".join(words)


def _step(sample: TimeSeries, t: int) -> str:
    return f"t{t} to t{t + 1}: {percent(sample.change_masks[t])} changed"


def _summary(sample: TimeSeries) -> str:
    """Return e.g. ``3 created, 2 removed, 4.1 % of 512 x 512 px changed``."""
    changed = (sample.masks[1:] != sample.masks[:-1]).any(axis=0)
    height, width = changed.shape
    return f"{kinds_of(sample.events) or 'no events'}, {percent(changed)} of {width} x {height} px changed"


def _largest(events: Sequence[ChangeEvent], count: int = _CLOSE_UPS) -> list[ChangeEvent]:
    """Return the largest events, largest first; that of every kind is always among them, both places of a swap."""
    ranked = sorted(events, key=lambda e: (-e.area_px, e.time_index, e.object_id))
    kinds = [(e.kind, e.kind == "swap" and e.placement is None) for e in ranked]
    heads = [e for i, e in enumerate(ranked) if kinds[i] not in kinds[:i]]
    chosen = (heads + [e for e in ranked if e not in heads])[:count]
    return [e for e in ranked if e in chosen]


def _crop(event: ChangeEvent, shape: Sequence[int]) -> tuple[slice, slice]:
    """Return a square crop around an event, twice its size and inside the tile."""
    height, width = shape
    r0, c0, r1, c1 = event.bbox
    side = min(max(_MIN_CROP_PX, 2 * max(r1 - r0, c1 - c0)), height, width)
    row = min(max((r0 + r1 - side) // 2, 0), height - side)
    col = min(max((c0 + c1 - side) // 2, 0), width - side)
    return slice(row, row + side), slice(col, col + side)
