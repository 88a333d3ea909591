"""A sample as a time-lapse: its dates one after the other, what changed outlined as it appears."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.files import atomic_path
from changen_cli.core.types import ClassSchema, UInt8Array
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import Master, Sample, open_master
from changen_cli.exports.polygons import fill_polygon
from changen_cli.workflows.report import checked_target
from changen_cli.writers.drawing import LOOKS, fit, nearest, outline_kinds, paint, tag

if TYPE_CHECKING:
    from PIL import Image

_OUTLINED = 0.6
"""Share of a date's time for which its changes are outlined."""
_TAG = (255, 255, 255)


def timelapse(
    out: Path,
    *,
    sample: str = "",
    output: Path | None = None,
    width: int = 512,
    seconds: float = 1.0,
    outlines: bool = True,
) -> Path:
    """Write an animated GIF or WebP of a sample and return its path.

    Args:
        out: The dataset, in either layout.
        sample: Id of the sample; the first one if not given.
        output: The file, ``.gif`` or ``.webp``; ``<id>.gif`` in the current folder if not given.
        width: Of the pictures in pixels, at most; they are never enlarged.
        seconds: How long a date is shown.
        outlines: Whether every date is shown with its changes outlined first, then alone.

    Raises:
        UsageError: There is no such dataset or sample, or the file has another ending or would lie among the dataset's.
        OutputError: A file of the dataset cannot be read.
    """
    master = open_master(out)
    series = find_sample(master, sample)
    target = checked_target(master, output or Path(f"{series.id}.gif"), ".gif", ".webp")
    frames, times = _frames(series, master.schema, width, round(1000 * seconds), outlines=outlines)
    with atomic_path(target) as partial:
        if target.suffix.lower() == ".gif":
            frames = _one_palette(frames)
        frames[0].save(partial, save_all=True, append_images=frames[1:], duration=times, loop=0, quality=85)
    return target


def find_sample(master: Master, name: str) -> Sample:
    """The sample of this id, or the first one where no id is given.

    Raises:
        UsageError: There is none.
    """
    for number, row in enumerate(master.rows()):
        if not name or row["image_name"] == name:
            return Lookup(master)[number]
    if not name:
        raise UsageError(f"{master.root} holds no sample", "Run the command that made it again")
    raise UsageError(f"{master.root} holds no sample {name!r}", "Ids are the column image_name of its metadata")


def _frames(
    sample: Sample, schema: ClassSchema, width: int, time_ms: int, *, outlines: bool
) -> tuple[list[Image.Image], list[int]]:
    """Pictures and how long each is shown, in milliseconds."""
    masks = sample.mask_arrays
    height_px, width_px = masks.shape[1:]
    scale = min(1.0, width / width_px)
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    frames, times = [], []
    for date, mask in enumerate(masks):
        image = fit(_rgb(sample, date), size) if sample.images else paint(nearest(mask, size), schema)
        name = sample.calendar[date] if sample.calendar else f"t{date}"
        changed = date > 0 and bool((masks[date - 1] != mask).any())
        if outlines and changed:
            outlined = image.copy()
            outline_kinds(outlined, _kinds(sample, date - 1))
            frames.append(_labelled(outlined, name))
            times.append(round(time_ms * _OUTLINED))
        frames.append(_labelled(image, name))
        times.append(time_ms - round(time_ms * _OUTLINED) if outlines and changed else time_ms)
    return frames, times


def _rgb(sample: Sample, date: int) -> UInt8Array:
    from PIL import Image

    return np.array(Image.fromarray(sample.images[date].array()).convert("RGB"))


def _kinds(sample: Sample, step: int) -> UInt8Array:
    """The kinds of a step as :func:`~changen_cli.writers.drawing.outline_kinds` takes them, uint8 ``[H, W]``."""
    kinds = np.zeros(sample.mask_arrays.shape[1:], np.uint8)
    codes = {str(kind): code for code, kind in enumerate(LOOKS, start=1)}
    for event in sample.events:
        if event.get("step") != step:
            continue
        try:
            inside, (row0, col0, row1, col1) = fill_polygon(str(event.get("polygon")))
            kinds[row0:row1, col0:col1][inside] = codes.get(str(event.get("kind")), codes["transition"])
        except (ValueError, IndexError) as error:
            raise OutputError(f"{sample.id}: the polygon of an event {error}", "Run changen validate on it") from None
    return kinds


def _labelled(image: UInt8Array, name: str) -> Image.Image:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    tag(ImageDraw.Draw(picture), (8, 8), name, _TAG, picture.width - 16)
    return picture


def _one_palette(frames: list[Image.Image]) -> list[Image.Image]:
    """Give all frames the same 256 colours: with one palette per frame, unchanged ground would flicker."""
    from PIL import Image

    strip = Image.new("RGB", (frames[0].width, frames[0].height * len(frames)))
    for place, frame in enumerate(frames):
        strip.paste(frame, (0, place * frame.height))
    palette = strip.quantize(256, method=Image.Quantize.MEDIANCUT)
    return [frame.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
