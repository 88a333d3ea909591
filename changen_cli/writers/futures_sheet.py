"""Alternative futures of one scene, side by side: what people look at to choose settings, before any image is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from changen_cli.core.files import atomic_path
from changen_cli.core.types import ClassSchema, TimeSeries, UInt8Array
from changen_cli.writers.drawing import (
    GREY,
    INK,
    REMOVED,
    Color,
    clip,
    fit,
    font,
    header,
    kind_map,
    kinds_of,
    nearest,
    paint,
    paint_changes,
    percent,
)

_MARGIN, _GAP, _LINE = 32, 16, 20
_COLUMNS = 4

Caption = list[tuple[str, Color]]
"""Lines of text, and their colours."""


def futures_sheet(
    samples: Sequence[TimeSeries],
    schema: ClassSchema,
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    cell_px: int = 420,
) -> Path:
    """Write the sheet as PNG, atomically: the source image, its mask, then every future.

    A future is the mask of the last date, pale, on which the changes of all steps are outlined by kind.

    Args:
        samples: One or more series of one scene.
        schema: Classes and colours of the masks.
        path: Where to write.
        title: Heading.
        subtitle: What was asked for, below it.
        cell_px: Longer side of one picture.
    """
    scene, mask = samples[0].scene, samples[0].masks[0]
    height, width = mask.shape
    scale = cell_px / max(height, width)
    cell = (max(1, round(width * scale)), max(1, round(height * scale)))
    size = f"{width} x {height} px" + (f", {scene.gsd_m:.2g} m" if scene.gsd_m else "")
    date = samples[0].calendar[0] if samples[0].calendar else ""
    pictures: list[tuple[Caption, UInt8Array]] = [
        ([("source image", INK), (size, GREY)], fit(scene.image, cell)),
        ([("mask at t0", INK), (date, GREY)], paint(nearest(mask, cell), schema)),
    ]
    pictures += [(_caption(sample), _future(sample, schema, cell)) for sample in samples]

    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    span = columns * (cell[0] + _GAP) - _GAP
    top = header(title, {event.kind for sample in samples for event in sample.events}, schema, span, subtitle)
    above = 14 + _LINE * max(len(caption) for caption, _ in pictures)
    pitch = above + cell[1] + _GAP
    sheet = Image.new("RGB", (span + 2 * _MARGIN, top.height + rows * pitch + 2 * _MARGIN), "white")
    sheet.paste(top, (_MARGIN, _MARGIN))
    draw = ImageDraw.Draw(sheet)
    for index, (caption, picture) in enumerate(pictures):
        row, column = divmod(index, columns)
        x, y = _MARGIN + column * (cell[0] + _GAP), _MARGIN + top.height + row * pitch
        for line, (text, color) in enumerate(caption):
            draw.text((x, y + 10 + _LINE * line), clip(text, cell[0], font(15)), font=font(15), fill=color)
        sheet.paste(Image.fromarray(picture), (x, y + above))
    with atomic_path(path) as partial:
        sheet.save(partial, "PNG", compress_level=1)
    return path


def _future(sample: TimeSeries, schema: ClassSchema, cell: tuple[int, int]) -> UInt8Array:
    kinds = np.zeros(sample.masks.shape[1:], np.uint8)
    for t in range(len(sample.masks) - 1):
        step = kind_map(sample, t)
        kinds[step > 0] = step[step > 0]
    return paint_changes(sample.masks[-1], kinds, schema, cell)


def _caption(sample: TimeSeries) -> Caption:
    """What happened, how much, and why not more where the area asked for was not met."""
    asked = " + ".join(f"{100 * report.asked:.1f}" for report in sample.reports)
    changed = percent((sample.masks[1:] != sample.masks[:-1]).any(axis=0))
    lines = [
        (f"v{sample.variant:02d}  {kinds_of(sample.events) or 'no events'}", INK),
        (f"{changed} changed, {asked} % asked", GREY),
    ]
    missed = [report for report in sample.reports if not report.met]
    if missed:
        lines.append((f"step {missed[0].time_index}: {missed[0].note}", REMOVED))
    return lines
