"""What moves the content of an image: the lean of tall objects, misregistration; and which labels that spoils."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from changen_cli.core.nuisance import RIM_PX
from changen_cli.core.types import BoolArray, Int32Array, UInt8Array
from changen_cli.synthesis.nuisance.acquisition import Acquisition

_WALL = 0.68
"""Brightness of a wall over that of the roof's edge above it."""
_MOST_LEAN_PX = 24
_MARGIN_PX = 16

Offsets = npt.NDArray[np.int16]


def lean_offsets(instances: Int32Array, heights_m: npt.NDArray[np.float64], drawn: Acquisition) -> Offsets | None:
    """How far along the lean the content of every pixel has come from.

    A point of a building appears displaced in proportion to its height. Where the footprint is swept, its highest point
    that falls on a pixel hides all others: the roof, or on the far side the wall below it.

    Args:
        instances: int32 ``[H, W]``, object numbers, 0 where none.
        heights_m: float64 ``[N + 1]``, height of every object by number.
        drawn: The date.

    Returns:
        int16 ``[H, W]``: whole pixels along the lean, 0 for ground; of walls -1 less as many. None where nothing
        leans.
    """
    slope = math.hypot(*drawn.lean)
    if not slope or not instances.any():
        return None
    reach = np.minimum(np.rint(heights_m * slope), _MOST_LEAN_PX).astype(np.int16)
    reach[0] = 0
    roofs = reach[instances]
    offsets = np.zeros(instances.shape, dtype=np.int16)
    for px in range(int(roofs.max()) + 1):
        row, col = (round(px * part / slope) for part in drawn.lean)
        if abs(row) >= instances.shape[0] or abs(col) >= instances.shape[1]:
            break
        target, source = _overlap(instances.shape, row, col)
        height = roofs[source]
        here = offsets[target]
        here[height > px] = -1 - px
        here[(height == px) & (height > 0)] = px
    return offsets


def _overlap(shape: tuple[int, ...], row: int, col: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where content moved by ``row`` and ``col`` lands within a tile, and where it came from."""
    height, width = shape[:2]
    target = slice(max(row, 0), height + min(row, 0)), slice(max(col, 0), width + min(col, 0))
    return target, (slice(max(-row, 0), height + min(-row, 0)), slice(max(-col, 0), width + min(-col, 0)))


def _sources(offsets: Offsets, drawn: Acquisition) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Flat indices of the pixels that show something leaning, and of where that came from."""
    target = np.flatnonzero(offsets)
    slope = math.hypot(*drawn.lean)
    steps = np.arange(_MOST_LEAN_PX + 1)
    row, col = (np.rint(steps * part / slope).astype(np.intp) for part in drawn.lean)
    return target, target - (row * offsets.shape[1] + col)[_distance(offsets.ravel()[target])]


def _distance(offsets: Offsets) -> Offsets:
    """Pixels along the lean, of roofs and of walls."""
    return np.where(offsets < 0, -1 - offsets, offsets)


def lean_image(image: UInt8Array, offsets: Offsets | None, drawn: Acquisition) -> UInt8Array:
    """Draw buildings as the lean shows them: roofs displaced, walls in the colour of the roof's edge, darker."""
    if offsets is None or not offsets.any():
        return image
    target, source = _sources(offsets, drawn)
    walls = target[offsets.ravel()[target] < 0]
    leant = image.copy()
    pixels = leant.reshape(-1, 3)
    pixels[target] = image.reshape(-1, 3)[source]
    pixels[walls] = (pixels[walls] * np.float32(_WALL)).astype(np.uint8)
    return leant


def _affine(drawn: Acquisition, shape: tuple[int, ...]) -> tuple[float, ...]:
    """Coefficients that map (col, row) of a pixel to where its content comes from, about the middle of the tile."""
    (row, col), (rr, rc, cr, cc) = drawn.shift, drawn.warp
    middle_row, middle_col = shape[0] / 2, shape[1] / 2
    return (
        1 - cc, -cr, cc * middle_col + cr * middle_row - col,
        -rc, 1 - rr, rc * middle_col + rr * middle_row - row,
    )  # fmt: skip


def sample(picture: Image.Image, drawn: Acquisition, size: tuple[int, int]) -> Image.Image:
    """Look at the displaced content from the sensor's grid.

    Args:
        picture: The tile.
        drawn: The date: shift and warp.
        size: Width and height of the grid, which covers the tile.
    """
    width, height = picture.size
    if size == picture.size and not any((*drawn.shift, *drawn.warp)):
        return picture
    margin = min(_MARGIN_PX, height - 1, width - 1)
    padded = np.pad(np.asarray(picture), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    a, b, c, d, e, f = _affine(drawn, (height, width))
    across, down = width / size[0], height / size[1]
    coefficients = (a * across, b * down, c + margin, d * across, e * down, f + margin)
    return Image.fromarray(padded).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def spoilt_labels(mask: UInt8Array, offsets: Offsets | None, drawn: Acquisition) -> BoolArray:
    """Where a label no longer says what the image shows, because content was displaced by more than two pixels.

    Args:
        mask: uint8 ``[H, W]`` semantic mask.
        offsets: What leans, of :func:`lean_offsets`.
        drawn: The date.

    Returns:
        bool ``[H, W]``.
    """
    leaning = _distance(np.zeros(mask.shape, dtype=np.int16) if offsets is None else offsets)
    shown = mask
    if offsets is not None and offsets.any():
        target, source = _sources(offsets, drawn)
        shown = mask.copy()
        shown.ravel()[target] = mask.ravel()[source]
    height, width = mask.shape
    a, b, c, d, e, f = _affine(drawn, mask.shape)
    corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
    farthest = max(math.hypot((a - 1) * x + b * y + c, d * x + (e - 1) * y + f) for x, y in corners)
    if farthest + float(leaning.max(initial=0)) <= RIM_PX:
        return np.zeros(mask.shape, dtype=np.bool_)
    x = np.arange(width, dtype=np.float32) + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    across, down = np.float32(a - 1) * x + np.float32(b) * y + c, np.float32(d) * x + np.float32(e - 1) * y + f
    cols = np.clip(x + across, 0, width - 1).astype(np.int32)
    rows = np.clip(y + down, 0, height - 1).astype(np.int32)
    place = rows * np.int32(width) + cols
    moved = np.hypot(across, down) + leaning.ravel()[place]
    return np.asarray((moved > RIM_PX) & (shown.ravel()[place] != mask))
