"""Denoising is all the cost, so only windows around the change are denoised, and pasted back with a soft seam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box

FloatArray = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.int64]
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


def _boxes(own: Boxes, shape: tuple[int, int], multiple: int, context: int) -> Boxes:
    """Grow boxes ``[n, 4]`` by context to multiples, shifted into the tile where they fit."""
    low, high, extent = own[:, :2], own[:, 2:], np.asarray(shape)
    length = -(-(high - low + 2 * context) // multiple) * multiple
    first = (low + high - length) // 2
    first = np.where(length <= extent, np.clip(first, 0, np.maximum(extent - length, 0)), first)
    return np.concatenate([first, first + length], axis=1)


def _pixels(boxes: Boxes) -> npt.NDArray[np.int64]:
    size: npt.NDArray[np.int64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return size


def _merge(own: Boxes, shape: tuple[int, int], multiple: int, context: int) -> tuple[Boxes, npt.NDArray[np.int64]]:
    """Unite boxes whenever one common window costs no more than two; returns the boxes and who belongs to which."""
    member = np.arange(len(own))
    alive = np.ones(len(own), dtype=bool)
    cost = _pixels(_boxes(own, shape, multiple, context))
    todo = list(range(len(own)))
    while todo:
        index = todo.pop()
        if not alive[index]:
            continue
        union = np.concatenate([np.minimum(own[:, :2], own[index, :2]), np.maximum(own[:, 2:], own[index, 2:])], axis=1)
        common = _pixels(_boxes(union, shape, multiple, context))
        saved = np.where(alive, cost + cost[index] - common, -1)
        saved[index] = -1
        best = int(saved.argmax())
        if saved[best] < 0:
            continue
        own[index], cost[index], alive[best] = union[best], common[best], False
        member[member == best] = index
        todo.append(index)
    return own, member


def plan_windows(area: BoolArray, *, multiple: int = 64, context: int = 6) -> list[Window]:
    """Cover the change area with windows of few pixels in all.

    Components are merged into a common window whenever that costs no more than two separate ones.

    Args:
        area: bool ``[H, W]``, pixels that may be redrawn.
        multiple: Window sides are multiples of this many pixels: whole tokens, and few different sizes.
        context: Pixels of surroundings on every side.

    Returns:
        Windows in reading order; every pixel of ``area`` is owned by exactly one.
    """
    labels, _ = ndimage.label(area, structure=np.ones((3, 3)))
    found = ndimage.find_objects(labels)
    if not found:
        return []
    own = np.array([(rows.start, cols.start, rows.stop, cols.stop) for rows, cols in found], dtype=np.int64)
    shape = (area.shape[0], area.shape[1])
    own, member = _merge(own, shape, multiple, context)
    owners = np.concatenate([[0], member + 1])[labels]
    windows = []
    for index in np.unique(member):
        row0, col0, row1, col1 = (int(value) for value in _boxes(own[index : index + 1], shape, multiple, context)[0])
        box = (row0, col0, row1, col1)
        windows.append(Window(box, crop(owners, box, fill=0) == index + 1))
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
