"""Outlines that follow the image: what is cut out of a region ends at a track or a hedge where there is one near."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.events.regions import FloatArray

_STRONG = 0.95  # quantile of a tile's gradients that counts as a full edge, ...
_FAINTEST = 10  # ... unless it is this faint, in grey levels
_RANGE = 0.3  # how far an outline moves, as a share of its distance from the seed
_ALONG_PX, _ACROSS_PX = 3.0, 1.5  # about the size of a cell of the search
_MOST_ALONG, _MOST_ACROSS = 128, 31
_AWAY, _BEND = 0.1, 0.05  # what moving by the whole range costs, and a bend by one cell; a full edge is worth 1
_BENDS = np.arange(-2, 3)[:, None]
SMALLEST_PX = 256
"""Smaller parts keep their outlines: they have hardly a cell to move by."""


def image_edges(image: UInt8Array) -> UInt8Array:
    """How much of an edge every pixel lies on.

    Args:
        image: uint8 ``[H, W, 3]``.

    Returns:
        uint8 ``[H, W]``; 255 for the strongest 5 % of the tile.
    """
    grey = image[..., 0].astype(np.int16)
    grey += image[..., 1]
    grey += image[..., 2]
    steps = np.zeros(grey.shape, dtype=np.int16)
    for axis in (0, 1):
        lines, found = np.moveaxis(grey, axis, 0), np.moveaxis(steps, axis, 0)
        pairs = lines[1:] + lines[:-1]  # one pixel of noise is no edge
        np.maximum(found[2:-1], np.abs(pairs[2:] - pairs[:-2]), out=found[2:-1])  # six times a step in grey levels
    strong = max(float(np.quantile(steps[::4, ::4], _STRONG)), 6 * _FAINTEST) if steps.size else 1.0
    scale = np.minimum(np.arange(int(steps.max(initial=0)) + 1) * (255 / strong), 255).astype(np.uint8)
    return np.asarray(scale[steps])


def follow_edges(
    rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp], distance: FloatArray, edges: UInt8Array
) -> BoolArray:
    """Move the outline of a part, ``distance <= 1``, to image edges near it.

    In every direction the outline may lie at 0.7 to 1.3 of its distance from the seed. Of all closed outlines the one
    is taken that collects the strongest edges for the least bending: dynamic programming over directions, as for active
    contours (Amini, Weymouth and Jain, PAMI 1990).

    Args:
        rows: int ``[N]``, the region's pixels relative to the seed.
        cols: int ``[N]``.
        distance: float64 ``[N]``, from the seed; 1 at the outline.
        edges: uint8 ``[N]``, what :func:`image_edges` says of them.

    Returns:
        bool ``[N]``, the pixels of the part.
    """
    inside = distance <= 1
    ring = np.flatnonzero(np.abs(distance - 1) < _RANGE)
    if not edges[ring].any():
        return inside
    radius_px = math.sqrt(float(inside.sum()) / math.pi)
    directions = min(math.ceil(2 * math.pi * radius_px / _ALONG_PX), _MOST_ALONG)
    places = min(math.ceil(2 * _RANGE * radius_px / _ACROSS_PX), _MOST_ACROSS) | 1  # odd: the middle one is 1
    angle = (np.arctan2(rows[ring], cols[ring]) / (2 * math.pi) + 0.5) * directions
    place = ((distance[ring] - 1 + _RANGE) * (places / (2 * _RANGE))).astype(np.intp)
    cell = angle.astype(np.intp) % directions * places + np.minimum(place, places - 1)
    count = np.bincount(cell, minlength=directions * places)
    worth = np.bincount(cell, weights=edges[ring], minlength=directions * places) / np.maximum(255 * count, 1)
    worth = worth.reshape(directions, places) - _AWAY * np.abs(np.linspace(-1, 1, places))
    outline = 1 + (2 * _best_path(worth) + 1 - places) * (_RANGE / places)
    inside[ring] = distance[ring] <= np.interp(angle, np.arange(directions) + 0.5, outline, period=directions)
    return inside


def _best_path(worth: FloatArray) -> npt.NDArray[np.intp]:
    """The closed path through a polar grid that collects most, less what its bends cost.

    Args:
        worth: float64 ``[D, P]``, by direction and place.

    Returns:
        int ``[D]``, the place in every direction.
    """
    directions, places = worth.shape
    index = np.arange(places)
    sources = np.clip(index + _BENDS, 0, places - 1)
    price = _BEND * np.abs(_BENDS)
    # Once around and a half: the middle of so long a path no longer knows where it began, so its ends meet.
    order = np.arange(directions + directions // 2) % directions
    total, choices = np.zeros(places), np.empty((order.size, places), dtype=np.intp)
    for turn, direction in enumerate(order):
        options = total[sources] - price
        choices[turn] = options.argmax(axis=0)
        total = options.max(axis=0) + worth[direction]
    path = np.zeros(directions, dtype=np.intp)
    here = int(total.argmax())
    first = directions // 4
    for turn in range(order.size - 1, first - 1, -1):
        if turn < first + directions:
            path[order[turn]] = here
        here = int(sources[choices[turn, here], here])
    return path
