"""One picture people look at first: dates, masks, changes and the largest changes close up.

Each sample is one block. Left: a column per date (image over semantic mask) and, between two dates, the change drawn
over the later image and alone. Right: the largest events, before, as changed pixels, and after. Changes are small at
tile scale; the close-ups are what shows whether they look real.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from changen_cli.core.files import atomic_path
from changen_cli.core.types import BoolArray, ChangeEvent, ClassSchema, EventKind, TimeSeries, UInt8Array

Color = tuple[int, int, int]

CREATED: Color = (0, 230, 118)
REMOVED: Color = (255, 45, 85)
EDITED: Color = (255, 179, 0)
_KINDS = (("created", CREATED), ("removed", REMOVED), ("edited", EDITED))
_WORDS: dict[EventKind, str] = {"create": "created", "remove": "removed", "transition": "edited"}

_INK: Color = (28, 32, 38)
_GREY: Color = (110, 117, 126)
_RULE: Color = (222, 226, 230)
_HATCH: tuple[Color, Color] = ((205, 208, 212), (150, 155, 160))

_MARGIN, _GAP, _SECTION = 32, 8, 40
_CLOSE_UPS = 3
_MIN_CROP_PX = 48


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
    """

    def __init__(
        self, schema: ClassSchema, max_samples: int = 6, cell_px: int = 320, title: str = "Generated change series"
    ) -> None:
        self.schema = schema
        self.max_samples = max_samples
        self.cell_px = cell_px
        self.title = title
        self._blocks: dict[tuple[int, str], Image.Image] = {}
        self._edited: set[tuple[int, str]] = set()  # samples with transitions: only then the legend explains them

    def add(self, sample: TimeSeries) -> bool:
        """Render ``sample`` if it belongs on the sheet; return whether it (still) does."""
        key = (sample.variant, sample.id)
        if key not in self._blocks and len(self._blocks) >= self.max_samples:
            last = max(self._blocks, default=key)
            if key >= last:
                return False
            del self._blocks[last]
        self._blocks[key] = self._block(sample)
        if any(event.kind == "transition" for event in sample.events):
            self._edited.add(key)
        return True

    def save(self, path: Path) -> Path:
        """Write the sheet as PNG, atomically, and return ``path``."""
        blocks = [block for _, block in sorted(self._blocks.items())]
        width = max([block.width for block in blocks], default=720)
        header = self._header(width)
        height = header.height + sum(block.height + _SECTION for block in blocks)
        sheet = Image.new("RGB", (width + 2 * _MARGIN, height + 2 * _MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        sheet.paste(header, (_MARGIN, _MARGIN))
        y = _MARGIN + header.height
        for block in blocks:
            draw.line((_MARGIN, y + 12, _MARGIN + width, y + 12), fill=_RULE, width=1)
            sheet.paste(block, (_MARGIN, y + _SECTION - 6))
            y += block.height + _SECTION
        with atomic_path(path) as partial:
            sheet.save(partial, "PNG", compress_level=6)
        return path

    def _header(self, width: int) -> Image.Image:
        """Title and legend; the legend wraps."""
        edited = bool(self._edited & self._blocks.keys())
        entries: list[tuple[str, Any]] = [(name, color) for name, color in _KINDS if edited or name != "edited"]
        entries += [
            (name, tuple(color)) for name, color in zip(self.schema.names, self.schema.colors.tolist(), strict=True)
        ]
        entries.append(("ignore", None))
        font = _font(15)
        places: list[tuple[int, int]] = []
        x, y = 0, 44
        for i, (name, _) in enumerate(entries):
            step = 24 + round(font.getlength(name)) + 22
            if x and x + step > width:
                x, y = 0, y + 28
            places.append((x, y))
            # A wider gap sets the outline colours apart from the classes.
            x += step + (16 if i == 1 else 0)
        header = Image.new("RGB", (width, y + 32), "white")
        draw = ImageDraw.Draw(header)
        draw.text((0, 0), self.title, font=_font(26), fill=_INK)
        for i, ((name, color), (x, y)) in enumerate(zip(entries, places, strict=True)):
            box = (x, y, x + 16, y + 16)
            if i < 2:
                draw.rectangle(box, outline=color, width=3)
            elif color is None:
                header.paste(Image.fromarray(_hatch(17, 17)), (x, y))
            else:
                draw.rectangle(box, fill=color, outline=_GREY)
            draw.text((x + 24, y + 8), name, font=font, fill=_INK, anchor="lm")
        return header

    def _block(self, sample: TimeSeries) -> Image.Image:
        dates, height, width = sample.masks.shape
        scale = self.cell_px / max(height, width)
        cell = (max(1, round(width * scale)), max(1, round(height * scale)))
        rows_px = 2 * cell[1] + _GAP
        columns = 2 * dates - 1
        left = columns * cell[0] + (columns - 1) * _GAP
        small = (rows_px - (_CLOSE_UPS - 1) * _GAP) // _CLOSE_UPS
        total = left + _GAP * 3 + 3 * small + 2 * _GAP
        top = 62
        block = Image.new("RGB", (total, top + rows_px), "white")
        draw = ImageDraw.Draw(block)
        draw.text((0, 0), sample.id, font=_font(20), fill=_INK)
        draw.text((_font(20).getlength(sample.id) + 16, 4), _summary(sample), font=_font(15), fill=_GREY)

        kinds = [_kind_map(sample, t) for t in range(dates - 1)]
        for column in range(columns):
            x = column * (cell[0] + _GAP)
            t = column // 2
            if column % 2 == 0:
                upper, caption = _fit(sample.images[t], cell), f"t{t}" + (" (source)" if t == 0 else "")
                lower = self._paint(_nearest(sample.masks[t], cell))
            else:
                caption = f"t{t} to t{t + 1}: {_percent(sample.change_masks[t])} changed"
                upper, lower = self._overlay(sample.images[t + 1], kinds[t], cell)
            draw.text((x + 1, top - 7), caption, font=_font(15), fill=_INK if column % 2 == 0 else _GREY, anchor="ls")
            block.paste(Image.fromarray(upper), (x, top))
            block.paste(Image.fromarray(lower), (x, top + cell[1] + _GAP))
        self._close_ups(block, draw, sample, (left + 3 * _GAP, top), small)
        return block

    def _overlay(self, image: UInt8Array, kinds: UInt8Array, cell: tuple[int, int]) -> tuple[UInt8Array, UInt8Array]:
        """Return the later image with outlined changes, and the changes alone on black."""
        over = _fit(image, cell)
        alone = np.full_like(over, 16)
        for code, (_, color) in enumerate(_KINDS, start=1):
            area = _any(kinds == code, cell)
            alone[area] = color
            _outline(over, area, color)
        return over, alone

    def _close_ups(
        self, block: Image.Image, draw: ImageDraw.ImageDraw, sample: TimeSeries, origin: tuple[int, int], size: int
    ) -> None:
        """Paste the largest events as rows of before, change, after; date names stand above the columns."""
        x0, y0 = origin
        events = _largest(sample.events)
        if not events:
            draw.text((x0, y0), "No change in this sample.", font=_font(15), fill=_GREY)
            return
        for column, name in enumerate(("before", "change", "after")):
            draw.text((x0 + column * (size + _GAP) + 1, y0 - 7), name, font=_font(15), fill=_INK, anchor="ls")
        for row, event in enumerate(events):
            y = y0 + row * (size + _GAP)
            t = event.time_index
            rows, cols = _crop(event, sample.masks.shape[1:])
            before, after = sample.images[t][rows, cols], sample.images[t + 1][rows, cols]
            cell = (size, size)
            # Classes in grey: buildings are red, as removals are.
            gray = self._paint(_nearest(sample.masks[t + 1][rows, cols], cell)) @ np.array([0.4, 0.4, 0.2])
            change = np.repeat((gray * 0.65 + 48).astype(np.uint8)[..., None], 3, axis=2)
            kinds = _kind_map(sample, t)[rows, cols]
            for code, (_, color) in enumerate(_KINDS, start=1):
                _outline(change, _any(kinds == code, cell), color, tint=0.4)
            for column, pixels in enumerate((_fit(before, cell), change, _fit(after, cell))):
                block.paste(Image.fromarray(pixels), (x0 + column * (size + _GAP), y))
            word = _WORDS[_appears_as(event)]
            color = dict(_KINDS)[word]
            if event.kind == "swap":
                word = "moved here" if word == "created" else "moved away"
            told = f"{word}, {event.area_px:,} px"
            if event.kind == "transition":  # the classes say more than the area, and there is no room for both
                told = " to ".join(self.schema.names[index] for index in (event.from_class, event.to_class))
            # On the middle panel: the images stay clean.
            _tag(draw, (x0 + size + _GAP + 5, y + 5), f"t{t} to t{t + 1}: {told}", color, size - 10)

    def _paint(self, mask: UInt8Array) -> UInt8Array:
        """Return a semantic mask in class colours, ignored pixels hatched."""
        table = np.full((256, 3), 128, np.uint8)
        table[: len(self.schema.names)] = self.schema.colors
        painted = table[mask]
        ignored = mask == self.schema.ignore_index
        painted[ignored] = _hatch(*mask.shape)[ignored]
        return np.asarray(painted, dtype=np.uint8)


def _summary(sample: TimeSeries) -> str:
    """Return e.g. ``3 created, 2 removed, 4.1 % of the tile changed``."""
    kinds = [event.kind for event in sample.events]
    # A swap is two events: where the object was, and where it is.
    counts = {"created": kinds.count("create"), "removed": kinds.count("remove"), "moved": kinds.count("swap") // 2}
    other = kinds.count("transition")
    parts = [f"{n} {word}" for word, n in counts.items() if n] + ([f"{other} edited"] if other else [])
    changed = (sample.masks[1:] != sample.masks[:-1]).any(axis=0)
    height, width = changed.shape
    return ", ".join([*(parts or ["no events"]), f"{_percent(changed)} of {width} x {height} px changed"])


def _largest(events: Sequence[ChangeEvent]) -> list[ChangeEvent]:
    """Return the largest events, largest first; that of every kind is always among them, both places of a swap."""
    ranked = sorted(events, key=lambda e: (-e.area_px, e.time_index, e.object_id))
    kinds = [(e.kind, _appears_as(e)) for e in ranked]
    heads = [e for i, e in enumerate(ranked) if kinds[i] not in kinds[:i]]
    chosen = (heads + [e for e in ranked if e not in heads])[:_CLOSE_UPS]
    return [e for e in ranked if e in chosen]


def _appears_as(event: ChangeEvent) -> EventKind:
    """Return the kind an event looks like: an object that moved is gone at one place and new at the other."""
    if event.kind != "swap":
        return event.kind
    return "remove" if event.placement is None else "create"


def _percent(change: BoolArray) -> str:
    return f"{100 * float(change.mean()):.1f} %"


def _kind_map(sample: TimeSeries, t: int) -> UInt8Array:
    """Return uint8 ``[H, W]``: 0 unchanged, 1 created, 2 removed, 3 changed in another way, for step ``t``."""
    pre, post = sample.masks[t], sample.masks[t + 1]
    changed = pre != post
    kinds = np.where(changed, np.uint8(3), np.uint8(0))
    for event in sample.events:
        if event.time_index != t:
            continue
        r0, c0, r1, c1 = event.bbox
        box = (slice(r0, r1), slice(c0, c1))
        # Boxes overlap; the class tells whose pixel it is.
        appears = _appears_as(event)
        if appears == "create":
            kinds[box][changed[box] & (post[box] == event.to_class)] = 1
        elif appears == "remove":
            kinds[box][changed[box] & (pre[box] == event.from_class)] = 2
    return kinds


def _crop(event: ChangeEvent, shape: Sequence[int]) -> tuple[slice, slice]:
    """Return a square crop around an event, twice its size and inside the tile."""
    height, width = shape
    r0, c0, r1, c1 = event.bbox
    side = min(max(_MIN_CROP_PX, 2 * max(r1 - r0, c1 - c0)), height, width)
    row = min(max((r0 + r1 - side) // 2, 0), height - side)
    col = min(max((c0 + c1 - side) // 2, 0), width - side)
    return slice(row, row + side), slice(col, col + side)


def _fit(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))


def _nearest(mask: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    return np.array(Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.NEAREST))


def _any(area: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Resize a mask so that a third of a cell is enough to show: small objects stay visible when shrunk."""
    gray = Image.fromarray(area.astype(np.uint8) * np.uint8(255))
    shrinking = size[0] < area.shape[1]
    return np.asarray(gray.resize(size, Image.Resampling.BOX if shrinking else Image.Resampling.NEAREST)) > 80


def _outline(image: UInt8Array, area: BoolArray, color: Color, tint: float = 0.18) -> None:
    """Draw the border of ``area`` two pixels wide, just outside it, and tint its inside; in place."""
    if not area.any():
        return
    inside = (1 - tint) * image[area] + tint * np.asarray(color)
    image[area] = inside.astype(np.uint8)
    image[_grow(_grow(area)) & ~area] = color


def _grow(area: BoolArray) -> BoolArray:
    """Return ``area`` grown by one pixel in all eight directions."""
    padded = np.pad(area, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _hatch(height: int, width: int) -> UInt8Array:
    stripes = (np.add.outer(np.arange(height), np.arange(width)) // 4) % 2
    colors: UInt8Array = np.asarray(_HATCH, dtype=np.uint8)
    return np.asarray(colors[stripes])


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _tag(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, color: Color, limit_px: int) -> None:
    """Write a small label on a dark plate, with a bar of the event's colour; nothing where it does not fit."""
    x, y = at
    font = _font(12)
    if font.getlength(text) + 15 > limit_px:
        return
    width = round(font.getlength(text))
    draw.rectangle((x, y, x + width + 15, y + 19), fill=(20, 22, 26))
    draw.rectangle((x, y, x + 3, y + 19), fill=color)
    draw.text((x + 9, y + 10), text, font=font, fill="white", anchor="lm")
