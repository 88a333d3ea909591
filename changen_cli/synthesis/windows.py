"""Denoising is all the cost, so only windows around the change are denoised, and pasted back with a soft seam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box

FloatArray = npt.NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Window:
    """A crop to denoise.

    Attributes:
        box: Half-open pixel box; may overhang the tile, whose pixels are then mirrored.
        own: bool ``[h, w]``: the part of the change area this window pastes back.
    """

    box: Box
    own: BoolArray


def _span(low: int, high: int, extent: int, multiple: int, context: int) -> tuple[int, int]:
    """Grow ``[low, high)`` by context to a multiple, shifted into ``[0, extent)`` where it fits."""
    wanted = high - low + 2 * context
    length = -(-wanted // multiple) * multiple
    first = (low + high - length) // 2
    if length <= extent:
        first = min(max(first, 0), extent - length)
    return first, first + length


def _box(own: Box, shape: tuple[int, int], multiple: int, context: int) -> Box:
    row0, row1 = _span(own[0], own[2], shape[0], multiple, context)
    col0, col1 = _span(own[1], own[3], shape[1], multiple, context)
    return row0, col0, row1, col1


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def plan_windows(area: BoolArray, *, multiple: int = 64, context: int = 12) -> list[Window]:
    """Cover the change area with windows of few pixels in all.

    Components are merged into a common window whenever that costs no more than two separate ones.

    Args:
        area: bool ``[H, W]``, pixels that may be redrawn.
        multiple: Window sides are multiples of this many pixels: whole attention windows, and few different sizes.
        context: Pixels of surroundings on every side.

    Returns:
        Windows in reading order; every pixel of ``area`` is owned by exactly one.
    """
    labels, count = ndimage.label(area, structure=np.ones((3, 3)))
    groups: list[tuple[Box, list[int]]] = [
        ((rows.start, cols.start, rows.stop, cols.stop), [index])
        for index, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1)
    ]
    shape = (area.shape[0], area.shape[1])
    merged = True
    while merged:
        merged = False
        for i in range(len(groups)):
            for j in range(len(groups) - 1, i, -1):
                a, b = groups[i][0], groups[j][0]
                union = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
                parts = _area(_box(a, shape, multiple, context)) + _area(_box(b, shape, multiple, context))
                if _area(_box(union, shape, multiple, context)) <= parts:
                    groups[i] = (union, groups[i][1] + groups[j][1])
                    del groups[j]
                    merged = True
    windows = []
    owner = np.zeros(count + 1, dtype=np.int32)
    for number, (_, members) in enumerate(groups, start=1):
        owner[members] = number
    owners = owner[labels]
    for number, (own, _) in enumerate(groups, start=1):
        box = _box(own, shape, multiple, context)
        windows.append(Window(box, crop(owners, box, fill=0) == number))
    return sorted(windows, key=lambda window: window.box)


def full_window(area: BoolArray, *, multiple: int = 64) -> list[Window]:
    """One window that is the whole tile, rounded up; none when nothing changes."""
    if not area.any():
        return []
    height, width = (-(-extent // multiple) * multiple for extent in area.shape)
    box = (0, 0, height, width)
    return [Window(box, crop(area, box, fill=0))]


def crop(array: npt.NDArray[Scalar], box: Box, *, fill: int | None = None) -> npt.NDArray[Scalar]:
    """Cut ``box`` out of ``[H, W, ...]``; what overhangs is mirrored, or set to ``fill``."""
    row0, col0, row1, col1 = box
    height, width = array.shape[:2]
    inside = array[max(row0, 0) : row1, max(col0, 0) : col1]
    pads = [(max(-row0, 0), max(row1 - height, 0)), (max(-col0, 0), max(col1 - width, 0))]
    if not any(map(any, pads)):
        return inside
    pads += [(0, 0)] * (array.ndim - 2)
    if fill is not None:
        return np.pad(inside, pads, constant_values=fill)
    return np.pad(inside, pads, mode="symmetric")


def soft_alpha(own: BoolArray, core: BoolArray, *, seam_px: float = 3.0) -> FloatArray:
    """Weight of the denoised pixels: 1 on the changed pixels, falling to 0 at the rim of the change area.

    Args:
        own: bool ``[h, w]``, pixels that may be replaced.
        core: bool ``[h, w]``, pixels whose class changed: always replaced in full.
        seam_px: Width of the transition.

    Returns:
        float32 ``[h, w]`` in [0, 1], exactly 0 outside ``own``.
    """
    if own.all():  # no rim, and no distance to one
        return np.ones(own.shape, dtype=np.float32)
    depth = ndimage.distance_transform_edt(np.pad(own, 1, mode="edge"))[1:-1, 1:-1]
    alpha = np.clip((depth - 0.5) / seam_px, 0, 1).astype(np.float32)
    return np.where(own & core, np.float32(1), alpha)


def paste(tile: FloatArray, patch: FloatArray, alpha: FloatArray, box: Box) -> None:
    """Blend a denoised window ``[h, w, 3]`` into ``tile`` ``[H, W, 3]``, in place."""
    row0, col0, row1, col1 = box
    height, width = tile.shape[:2]
    rows, cols = slice(max(row0, 0), min(row1, height)), slice(max(col0, 0), min(col1, width))
    inner = (slice(rows.start - row0, rows.stop - row0), slice(cols.start - col0, cols.stop - col0))
    weight = alpha[inner][..., None]
    tile[rows, cols] = tile[rows, cols] * (1 - weight) + patch[inner] * weight
