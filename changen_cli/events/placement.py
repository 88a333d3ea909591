"""Where and how a footprint is laid: free sites, alignment with the neighbours, exact verification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, Exemplar, Placement
from changen_cli.events.regions import FloatArray, ObjectTable, crop, dilate, oriented_extent, pad_box, tighten

_BLOCK = 4  # free ground is searched on a map reduced by this factor and verified at full resolution
_FAR_WEIGHT = 0.002  # preference of a site far from every building, against 1 right beside one
_NEIGHBOURS = 4
MIRROR_SHARE = 0.15
_TIGHT_SITES, _ROOMY_SITES = 8, 4  # tried per exemplar


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


class SiteMap:
    """The free ground of one step; shrinks as objects are laid.

    Attributes:
        blocked: bool ``[H, W]``, True where no footprint may lie; objects count with their gap.
        clearance_px: float64 ``[H/4, W/4]``, distance of a block to the nearest blocked one or to the border.
    """

    def __init__(self, blocked: BoolArray, buildings: BoolArray, gap_px: int, near_px: float) -> None:
        """Build the map.

        Args:
            blocked: bool ``[H, W]``, ground nothing may cover, gaps included; becomes this map's own.
            buildings: bool ``[H, W]``, what new objects prefer to stand beside.
            gap_px: Free pixels kept between two objects, along rows, columns and diagonals.
            near_px: Distance from the buildings within which most sites are drawn.
        """
        self.blocked, self.gap_px, self.near_px = blocked, gap_px, near_px
        coarse = np.pad(_block_any(self.blocked, fill=True), 1, constant_values=True)
        self.clearance_px = ndimage.distance_transform_edt(~coarse)[1:-1, 1:-1] * _BLOCK
        taken = _block_any(buildings, fill=False)
        # Without any building the distance transform has no meaning: every site is equally far.
        near = ndimage.distance_transform_edt(~taken) * _BLOCK if taken.any() else np.full(taken.shape, np.inf)
        self._weight = self._preference(near**2)

    def sites(self, need_px: float, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw up to ``count`` pixels ``[n, 2]`` (row, col) with at least about ``need_px`` clearance."""
        room = np.flatnonzero(self.clearance_px >= max(need_px, 1.0))
        if not room.size:
            return np.zeros((0, 2), dtype=np.int64)
        sums = np.cumsum(self._weight.ravel()[room])
        drawn = np.searchsorted(sums, rng.random(count) * sums[-1], side="right")
        picks = room[np.minimum(drawn, room.size - 1)]
        blocks = np.stack(np.unravel_index(picks, self.clearance_px.shape), axis=1)
        return np.asarray(blocks * _BLOCK + rng.integers(0, _BLOCK, blocks.shape), dtype=np.int64)

    def occupy(self, box: Box, footprint: BoolArray) -> None:
        """Take a new object's ground, and the gap around it, out of the map."""
        wide = pad_box(box, self.gap_px, self.blocked.shape)
        grown = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), dtype=bool)
        grown[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = footprint
        self.blocked[crop(wide)] |= dilate(grown, self.gap_px)
        # The box stands for the object here: this map only proposes, `blocked` decides.
        rows, cols = np.ogrid[: self.clearance_px.shape[0], : self.clearance_px.shape[1]]
        off_row = np.maximum(np.maximum(wide[0] - rows * _BLOCK, rows * _BLOCK - wide[2] + 1), 0)
        off_col = np.maximum(np.maximum(wide[1] - cols * _BLOCK, cols * _BLOCK - wide[3] + 1), 0)
        squared = (off_row**2 + off_col**2).astype(np.float64)
        np.minimum(self.clearance_px, np.sqrt(squared), out=self.clearance_px)
        np.maximum(self._weight, self._preference(squared), out=self._weight)

    def _preference(self, squared_px: FloatArray) -> FloatArray:
        # Steep, because there is so much more ground far away than near.
        return _FAR_WEIGHT + 1.0 / (1.0 + (squared_px / self.near_px**2) ** 2)


def lay(
    exemplar: Exemplar, scale: float, sites: SiteMap, objects: ObjectTable, rng: np.random.Generator
) -> Laid | None:
    """Lay an exemplar somewhere it fits, aligned with its neighbours.

    Of the four quarter turns that align it, the one that turns it least is taken (at most 45 degrees), so that its
    shadow stays on about the same side as everybody else's.

    Args:
        exemplar: The object.
        scale: Size factor, GSD ratio included.
        sites: Free ground; not changed here.
        objects: The objects standing there, for alignment.
        rng: The step's generator.

    Returns:
        The laid footprint, or None when no drawn site fits.
    """
    mirrored = bool(rng.random() < MIRROR_SHARE)
    _, long_px, short_px = oriented_extent(exemplar.footprint)
    # Gaps it might just slip into first, then sites where it fits at any angle.
    tight = sites.sites(0.4 * short_px * scale, _TIGHT_SITES, rng)
    roomy = sites.sites(0.5 * math.hypot(long_px, short_px) * scale + _BLOCK, _ROOMY_SITES, rng)
    tried = (lay_at(site, exemplar, scale, mirrored, sites.blocked, objects) for site in np.concatenate([tight, roomy]))
    return next((laid for laid in tried if laid is not None), None)


def lay_at(
    site: npt.NDArray[np.int64],
    exemplar: Exemplar,
    scale: float,
    mirrored: bool,
    blocked: BoolArray,
    objects: ObjectTable,
) -> Laid | None:
    """Lay an exemplar at one site ``(row, col)``, aligned with its neighbours; None where it covers blocked ground."""
    upright = -exemplar.orientation_rad if mirrored else exemplar.orientation_rad
    target = neighbour_orientation(objects, site)
    turn = 0.0 if target is None else fold(target - upright)
    placement = place(exemplar, site, turn, scale, mirrored)
    window = forward_box(placement)
    if window[0] < 0 or window[1] < 0 or window[2] > blocked.shape[0] or window[3] > blocked.shape[1]:
        return None
    footprint = warp_footprint(placement, window)
    if not footprint.any() or (footprint & blocked[crop(window)]).any():
        return None
    footprint, box = tighten(largest_piece(footprint), window)
    return Laid(placement, box, footprint, (upright + turn) % (math.pi / 2))


def fold(angle_rad: float) -> float:
    """The equivalent of an angle under quarter turns that lies in [-pi/4, pi/4)."""
    quarter = math.pi / 2
    return (angle_rad + quarter / 2) % quarter - quarter / 2


def neighbour_orientation(objects: ObjectTable, site: npt.NDArray[np.int64]) -> float | None:
    """The prevailing orientation around a site, or None without any object.

    The nearest objects vote with area over distance. The winner is the one most supported by the others, not their
    mean: between rows of houses at 0 and 45 degrees nothing stands at 22.
    """
    if not len(objects):
        return None
    distance = np.hypot(*(objects.centres - site).T)
    nearest = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
    angles = objects.orientations_rad[nearest]
    votes = objects.areas_px[nearest] / (distance[nearest] + 1.0)
    support = np.cos(4 * (angles[:, None] - angles[None, :])) @ votes
    return float(angles[int(support.argmax())])


def place(exemplar: Exemplar, site: npt.NDArray[np.int64], turn_rad: float, scale: float, mirrored: bool) -> Placement:
    """Mirror an exemplar left to right, turn it counter-clockwise, scale it, and put its centroid on a site.

    Coordinates are pixel indices: a pixel's centre is the integer itself.
    """
    centre = np.argwhere(exemplar.footprint).mean(axis=0)
    cos, sin = math.cos(turn_rad) / scale, math.sin(turn_rad) / scale
    flip = -1.0 if mirrored else 1.0
    linear = np.array([[cos, sin], [-sin * flip, cos * flip]])
    offset = centre - linear @ site
    return Placement(exemplar, np.column_stack([linear, offset]), turn_rad, scale, mirrored)


def forward_box(placement: Placement) -> Box:
    """The box, in scene pixels and not cut at the tile, that holds the whole laid footprint."""
    inverse = np.linalg.inv(placement.matrix[:, :2])
    rows = np.flatnonzero(placement.exemplar.footprint.any(axis=1))[[0, -1]]
    cols = np.flatnonzero(placement.exemplar.footprint.any(axis=0))[[0, -1]]
    corners = np.array([[r, c] for r in (rows[0] - 0.5, rows[1] + 0.5) for c in (cols[0] - 0.5, cols[1] + 0.5)])
    laid = (corners - placement.matrix[:, 2]) @ inverse.T
    low, high = np.floor(laid.min(axis=0)).astype(int), np.ceil(laid.max(axis=0)).astype(int) + 1
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def warp_footprint(placement: Placement, box: Box) -> BoolArray:
    """Sample the exemplar's footprint at the pixels of a box, nearest neighbour: bool ``[h, w]``."""
    rows, cols = np.ogrid[box[0] : box[2], box[1] : box[3]]
    (a, b, c), (d, e, f) = placement.matrix
    row = np.floor(a * rows + b * cols + (c + 0.5)).astype(np.intp)
    col = np.floor(d * rows + e * cols + (f + 0.5)).astype(np.intp)
    source = placement.exemplar.footprint
    inside = (row >= 0) & (row < source.shape[0]) & (col >= 0) & (col < source.shape[1])
    return np.asarray(source[np.where(inside, row, 0), np.where(inside, col, 0)] & inside)


def largest_piece(footprint: BoolArray) -> BoolArray:
    """Keep the largest 4-connected piece: scaling down can split a thin one."""
    labels, count = ndimage.label(footprint)
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if count > 1 else footprint


def _block_any(mask: BoolArray, *, fill: bool) -> BoolArray:
    """Reduce by :data:`_BLOCK`: True where any pixel of a block is. Pixels outside the tile count as ``fill``."""
    height, width = mask.shape
    short = (-height % _BLOCK, -width % _BLOCK)
    if any(short):
        mask = np.pad(mask, ((0, short[0]), (0, short[1])), constant_values=fill)
    rows = np.logical_or.reduce([mask[i::_BLOCK] for i in range(_BLOCK)])
    return np.asarray(np.logical_or.reduce([rows[:, i::_BLOCK] for i in range(_BLOCK)]))
