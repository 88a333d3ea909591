"""Laying a footprint: mirrored, turned, scaled, and verified pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, Exemplar, Placement
from changen_cli.events.regions import FloatArray, crop, oriented_extent, tighten

MIRROR_SHARE = 0.15

_PROBES = 12
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, eq=False)
class Laid:
    """A footprint that fits.

    Attributes:
        placement: How the exemplar was laid.
        box: Box of the footprint.
        footprint: bool ``[h, w]`` inside ``box``.
        orientation_rad: Direction of its dominant edge, in [0, pi/2).
    """

    placement: Placement
    box: Box
    footprint: BoolArray
    orientation_rad: float

    def in_one_piece(self) -> Laid:
        """Only its largest piece, in a tight box: scaling down can split a thin footprint."""
        footprint, box = tighten(_largest_piece(self.footprint), self.box)
        return replace(self, footprint=footprint, box=box)


@dataclass(frozen=True, eq=False)
class Outline:
    """What laying an exemplar needs to know of it, measured once.

    Attributes:
        centre: Centroid (row, col) of its footprint.
        corners: The four corners (row, col) of its upright box, along pixel edges.
        rim: float64 ``[2, n]``, some pixels of its rim: rows and cols from the centroid.
        framed: bool ``[h + 2, w + 2]``, the footprint in a frame of False.
        long_px: Longer side of its minimum-area rectangle.
        short_px: Shorter side.
    """

    centre: FloatArray
    corners: tuple[tuple[float, float], ...]
    rim: FloatArray
    framed: BoolArray
    long_px: float
    short_px: float


_outlines: WeakKeyDictionary[Exemplar, Outline] = WeakKeyDictionary()


def outline(exemplar: Exemplar) -> Outline:
    """Measure an exemplar with a footprint; the same one is measured once."""
    known = _outlines.get(exemplar)
    if known is None:
        points = np.argwhere(exemplar.footprint)
        rows, cols = (points.min(axis=0)[i] - 0.5 for i in (0, 1))
        rows_end, cols_end = (points.max(axis=0)[i] + 0.5 for i in (0, 1))
        corners = tuple((float(r), float(c)) for r in (rows, rows_end) for c in (cols, cols_end))
        rim = np.argwhere(exemplar.footprint & ~ndimage.binary_erosion(exemplar.footprint))
        _, long_px, short_px = oriented_extent(exemplar.footprint)
        centre = points.mean(axis=0)
        probes = np.ascontiguousarray((rim[:: max(1, len(rim) // _PROBES)] - centre).T)
        known = Outline(centre, corners, probes, np.pad(exemplar.footprint, 1), long_px, short_px)
        _outlines[exemplar] = known
    return known


def lay_any(
    places: npt.NDArray[np.int64],
    exemplar: Exemplar,
    scale: float,
    mirrored: bool,
    blocked: BoolArray,
    directions_rad: Sequence[float | None],
    shadow_rad: float | None = None,
) -> Iterator[Laid]:
    """Lay an exemplar at some places, one by one; those on blocked ground are passed over.

    Args:
        places: int64 ``[n, 2]``, (row, col) of its centroid.
        exemplar: The object.
        scale: Size factor.
        mirrored: Whether it is flipped.
        blocked: bool ``[H, W]``, ground nothing may cover.
        directions_rad: The direction it gets at each place, up to quarter turns; as it is when None.
        shadow_rad: Where shadows fall on the tile; None when that is not known.

    Yields:
        The laid footprints, in the order of the places; maybe of several pieces, see :meth:`Laid.in_one_piece`.
    """
    if not len(places):
        return
    upright = -exemplar.orientation_rad if mirrored else exemplar.orientation_rad
    turns = [_turn(exemplar, scale, mirrored, direction, shadow_rad) for direction in directions_rad]
    for index in np.flatnonzero(_fits(places, turns, exemplar, scale, mirrored, blocked)):
        placement = place(exemplar, places[index], turns[index], scale, mirrored)
        window = forward_box(placement)
        if window[0] < 0 or window[1] < 0 or window[2] > blocked.shape[0] or window[3] > blocked.shape[1]:
            continue
        footprint = warp_footprint(placement, window)
        if not footprint.any() or (footprint & blocked[crop(window)]).any():
            continue
        yield Laid(placement, window, footprint, (upright + turns[index]) % (math.pi / 2))


def _turn(
    exemplar: Exemplar, scale: float, mirrored: bool, direction_rad: float | None, shadow_rad: float | None
) -> float:
    """How far to turn an exemplar so that it has a direction, and its shadow falls as all others do."""
    if direction_rad is None:
        return 0.0
    turn = fold(direction_rad - (-exemplar.orientation_rad if mirrored else exemplar.orientation_rad))
    if shadow_rad is not None and exemplar.shadow_rad is not None:
        falls = math.pi - exemplar.shadow_rad if mirrored else exemplar.shadow_rad
        quarters = (turn, turn + math.pi / 2, turn + math.pi, turn - math.pi / 2)
        turn = max(quarters, key=lambda angle: math.cos(falls + angle - shadow_rad))
    # Where a turn moves neither end of the outline by a pixel nobody can tell, while resampling frays and blurs it.
    whole = round(turn / (math.pi / 2)) * math.pi / 2
    return whole if abs(turn - whole) * outline(exemplar).long_px * scale / 2 < 1 else turn


def _fits(
    places: npt.NDArray[np.int64],
    turns_rad: Sequence[float],
    exemplar: Exemplar,
    scale: float,
    mirrored: bool,
    blocked: BoolArray,
) -> BoolArray:
    """At which places no pixel of the rim is on blocked ground; most fail so, and all are seen at once."""
    turns = np.asarray(turns_rad)[:, None]
    cos, sin = scale * np.cos(turns), scale * np.sin(turns)
    down, right = outline(exemplar).rim
    right = -right if mirrored else right
    rows = np.rint(places[:, :1] + cos * down - sin * right).astype(np.intp)
    cols = np.rint(places[:, 1:] + sin * down + cos * right).astype(np.intp)
    inside = (rows >= 0) & (cols >= 0) & (rows < blocked.shape[0]) & (cols < blocked.shape[1])
    return np.asarray((inside & ~blocked[rows * inside, cols * inside]).all(axis=1))


def fold(angle_rad: float) -> float:
    """The equivalent of an angle under quarter turns that lies in [-pi/4, pi/4)."""
    quarter = math.pi / 2
    return (angle_rad + quarter / 2) % quarter - quarter / 2


def place(exemplar: Exemplar, site: npt.NDArray[np.int64], turn_rad: float, scale: float, mirrored: bool) -> Placement:
    """Mirror an exemplar left to right, turn it counter-clockwise, scale it, and put its centroid on a site.

    Coordinates are pixel indices: a pixel's centre is the integer itself.
    """
    centre = outline(exemplar).centre
    cos, sin = math.cos(turn_rad) / scale, math.sin(turn_rad) / scale
    flip = -1.0 if mirrored else 1.0
    linear = np.array([[cos, sin], [-sin * flip, cos * flip]])
    offset = centre - linear @ site
    return Placement(exemplar, np.column_stack([linear, offset]), turn_rad, scale, mirrored)


def forward_box(placement: Placement) -> Box:
    """The box, in scene pixels and not cut at the tile, that holds the whole laid footprint."""
    (a, b, c), (d, e, f) = placement.matrix.tolist()
    det = a * e - b * d
    corners = [(row - c, col - f) for row, col in outline(placement.exemplar).corners]
    rows = [(e * row - b * col) / det for row, col in corners]
    cols = [(a * col - d * row) / det for row, col in corners]
    return math.floor(min(rows)), math.floor(min(cols)), math.ceil(max(rows)) + 1, math.ceil(max(cols)) + 1


def warp_footprint(placement: Placement, box: Box) -> BoolArray:
    """Sample the exemplar's footprint at the pixels of a box, nearest neighbour: bool ``[h, w]``."""
    (a, b, c), (d, e, f) = placement.matrix.tolist()
    source = outline(placement.exemplar).framed
    height, width = source.shape
    rows, cols = np.arange(box[0], box[2], dtype=np.float64)[:, None], np.arange(box[1], box[3], dtype=np.float64)
    # Rounded to the nearest pixel, and one on for the frame: whatever lies outside falls on it.
    row = np.floor((a * rows + (c + 1.5)) + b * cols)
    col = np.floor((d * rows + (f + 1.5)) + e * cols)
    np.minimum(np.maximum(row, 0, out=row), height - 1, out=row)
    np.minimum(np.maximum(col, 0, out=col), width - 1, out=col)
    return np.asarray(source.ravel()[(row * width + col).astype(np.intp)])


def _largest_piece(footprint: BoolArray) -> BoolArray:
    """The largest 4-connected piece."""
    labels, count = ndimage.label(footprint, _CROSS)
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if count > 1 else footprint
