"""Polygons of event logs: well-known text along pixel edges, filled without a rasteriser."""

from __future__ import annotations

import re

import numpy as np

from changen_cli.core.types import BoolArray, Box

_TEXT = re.compile(r"(POLYGON|MULTIPOLYGON) \([\d\s,().-]+\)")
_RING = re.compile(r"\(([^()]+)\)")
_MAX_PX = 1 << 28
"""Larger boxes than this are those of no tile, and memory for them need not be there."""


def fill_polygon(text: str) -> tuple[BoolArray, Box]:
    """Fill a polygon that runs along pixel edges, by the even-odd rule: exact for holes and for several pieces.

    Args:
        text: ``POLYGON`` or ``MULTIPOLYGON`` with whole ``(col row)`` coordinates.

    Returns:
        Bool ``[h, w]``, and the box it fills, half-open ``(row0, col0, row1, col1)`` in pixels.

    Raises:
        ValueError: It is no such text, a ring is not closed, an edge is not upright or level, or it is larger than any
            tile.
    """
    if not _TEXT.fullmatch(text):
        raise ValueError("is no WKT polygon")
    try:
        rings = [np.array([pair.split() for pair in ring.split(",")], np.int64) for ring in _RING.findall(text)]
    except (ValueError, OverflowError):
        raise ValueError("has coordinates that are no whole pixels") from None
    if not rings or any(ring.ndim != 2 or ring.shape[1] != 2 or (ring[0] != ring[-1]).any() for ring in rings):
        raise ValueError("has a ring that is not closed")
    corners = np.concatenate(rings)
    (col0, row0), (col1, row1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    if (row1 - row0) * (col1 - col0 + 1) > _MAX_PX:
        raise ValueError("is larger than any tile")
    crossings = np.zeros((row1 - row0, col1 - col0 + 1), bool)
    for ring in rings:
        for (col, row), (next_col, next_row) in zip(ring[:-1] - (col0, row0), ring[1:] - (col0, row0), strict=True):
            if col != next_col and row != next_row:
                raise ValueError("has an edge across pixels")
            if col == next_col:
                crossings[min(row, next_row) : max(row, next_row), col] ^= True
    # Between the first and the second upright edge of a row lies the inside, then the outside, …
    inside = np.logical_xor.accumulate(crossings, axis=1)[:, :-1]
    return inside, (row0, col0, row1, col1)
