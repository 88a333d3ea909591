"""Where a footprint is laid: free sites, and circumstances like those of a real building."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Exemplar, Int32Array
from changen_cli.events.habits import Habits
from changen_cli.events.laying import MIRROR_SHARE, Laid, fold, lay_any, outline
from changen_cli.events.regions import FloatArray, ObjectTable, crop, dilate, pad_box

Values = TypeVar("Values", BoolArray, Int32Array)

_BLOCK = 4  # free ground is searched on a map reduced by this factor and verified at full resolution
_DRAWN = 256  # blocks looked at for one object; so many of them, at most, are tried
_TRIED = 6
_COMPARED = 2
_SLACK = (0.15, 0.5, 2.0)  # how far the distance asked for may be missed, in sizes of the object, in turn


class SiteMap:
    """The free ground of one step; shrinks as objects are laid.

    Attributes:
        blocked: bool ``[H, W]``, True where no footprint may lie; objects count with their gap.
        clearance_px: float32 ``[H/4, W/4]``, distance of a block to the nearest blocked one or to the border.
        near_px: float32 ``[H/4, W/4]``, distance to the nearest object; infinite without any.
        angle_rad: float32 ``[H/4, W/4]``, the direction of that object.
        road_px: float32 ``[H/4, W/4]``, distance to the nearest road; None without any.
    """

    def __init__(
        self, blocked: BoolArray, instances: Int32Array, objects: ObjectTable, road: BoolArray, gap_px: int
    ) -> None:
        """Build the map.

        Args:
            blocked: bool ``[H, W]``, ground nothing may cover, gaps included; becomes this map's own.
            instances: int32 ``[H, W]``, the objects new ones stand beside.
            objects: Their directions.
            road: bool ``[H, W]``, pixels of roads.
            gap_px: Free pixels kept between two objects, along rows, columns and diagonals.
        """
        self.blocked, self.gap_px = blocked, gap_px
        coarse = np.pad(_block_any(self.blocked, fill=True), 1, constant_values=True)
        self.clearance_px = (ndimage.distance_transform_edt(~coarse)[1:-1, 1:-1] * _BLOCK).astype(np.float32)
        self.near_px = np.full(self.clearance_px.shape, np.inf, dtype=np.float32)
        self.angle_rad = np.zeros(self.clearance_px.shape, dtype=np.float32)
        taken = _pad_to_blocks(instances)[_BLOCK // 2 :: _BLOCK, _BLOCK // 2 :: _BLOCK]
        if (taken > 0).any():
            # Without any object the distance transform has no meaning: every site is equally far.
            distance, where = ndimage.distance_transform_edt(taken == 0, return_indices=True)
            self.near_px[:] = distance * _BLOCK
            angles = np.zeros(1 + int(max(instances.max(), objects.numbers.max(initial=0))), dtype=np.float32)
            angles[objects.numbers] = objects.orientations_rad
            self.angle_rad[:] = angles[taken[tuple(where)]]
        self.road_px = None
        if road.any():
            self.road_px = (ndimage.distance_transform_edt(~_block_any(road, fill=False)) * _BLOCK).astype(np.float32)
        # Sorted once: the blocks at a distance are a slice. New objects change distances, which is looked up.
        free = np.flatnonzero(self.clearance_px > 0)
        # Eighths of a pixel in 16 bits: numpy sorts those several times faster than floats.
        eighths = np.minimum(self.near_px.ravel()[free] * 8, 65535).astype(np.uint16)
        order = np.argsort(eighths, kind="stable")
        self._sorted, self._distances = free[order], eighths[order] / 8
        self._alone = not (taken > 0).any()

    def sites(
        self, need_px: float, near_px: float, road_px: float, slack_px: float, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Draw pixels at about the distances asked for.

        Args:
            need_px: Clearance a site must have.
            near_px: Distance to the nearest object; any where there is none.
            road_px: Distance to the nearest road; any when infinite.
            slack_px: By how much both may be missed.
            rng: The step's generator.

        Returns:
            int64 ``[n, 2]`` (row, col), the best ones first.
        """
        low, high = 0, len(self._sorted)
        if not self._alone:
            low, high = np.searchsorted(self._distances, (near_px - slack_px, near_px + slack_px)).tolist()
        if low >= high:
            return np.zeros((0, 2), dtype=np.int64)
        picks = self._sorted[rng.integers(low, high, size=_DRAWN)]
        room = self.clearance_px.ravel()[picks]
        off = np.abs(self.near_px.ravel()[picks] - near_px) if not self._alone else np.zeros(_DRAWN)
        if self.road_px is not None and np.isfinite(road_px):
            off = np.maximum(off, np.abs(self.road_px.ravel()[picks] - road_px))
        fits = np.flatnonzero((room >= max(need_px, 1.0)) & (off <= slack_px))
        picks = picks[fits[np.argsort(off[fits], kind="stable")[:_TRIED]]]
        blocks = np.stack(np.unravel_index(picks, self.clearance_px.shape), axis=1)
        return np.asarray(blocks * _BLOCK + rng.integers(0, _BLOCK, blocks.shape), dtype=np.int64)

    def angle_at(self, site: npt.NDArray[np.int64]) -> float:
        """The direction of the object nearest to a pixel."""
        return float(self.angle_rad[site[0] // _BLOCK, site[1] // _BLOCK])

    def misfit(self, laid: Laid, gap_px: float, road_px: float, turn_rad: float) -> float:
        """How far a laid footprint is from the circumstances asked for, in sizes of its own."""
        rows, cols = (
            np.arange(a, b, _BLOCK) // _BLOCK for a, b in ((laid.box[0], laid.box[2]), (laid.box[1], laid.box[3]))
        )
        inside = laid.footprint[::_BLOCK, ::_BLOCK]
        near = np.where(inside, self.near_px[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], np.inf)
        at = np.unravel_index(int(near.argmin()), near.shape)
        if not np.isfinite(near[at]):
            return 0.0
        side = math.sqrt(laid.footprint.sum())
        turn = fold(laid.orientation_rad - float(self.angle_rad[rows[0] + at[0], cols[0] + at[1]]))
        missed = abs(float(near[at]) - gap_px) / side + 2 * abs(turn - turn_rad)
        if self.road_px is not None and math.isfinite(road_px):
            road = np.where(inside, self.road_px[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], np.inf)
            missed += abs(float(road.min()) - road_px) / side
        return missed

    def road_at(self, place: FloatArray | npt.NDArray[np.int64]) -> float:
        """Distance of a pixel (row, col) to the nearest road; that of the nearest pixel when it is outside the tile."""
        if self.road_px is None:
            return math.inf
        row, col = (min(max(int(v) // _BLOCK, 0), s - 1) for v, s in zip(place, self.road_px.shape, strict=True))
        return float(self.road_px[row, col])

    def occupy(self, laid: Laid) -> None:
        """Take a new object's ground, and the gap around it, out of the map."""
        box = laid.box
        wide = pad_box(box, self.gap_px, self.blocked.shape)
        grown = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), dtype=bool)
        grown[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = laid.footprint
        self.blocked[crop(wide)] |= dilate(grown, self.gap_px)
        # The box stands for the object here: this map only proposes, `blocked` decides. Beyond a few of its own sizes
        # nothing is looked up that it could change.
        reach = 2 * max(wide[2] - wide[0], wide[3] - wide[1])
        row, col = max(wide[0] - reach, 0) // _BLOCK, max(wide[1] - reach, 0) // _BLOCK
        where = np.s_[row : (wide[2] + reach) // _BLOCK + 1, col : (wide[3] + reach) // _BLOCK + 1]
        shape = self.clearance_px[where].shape
        rows, cols = np.arange(row, row + shape[0]) * _BLOCK, np.arange(col, col + shape[1]) * _BLOCK
        off_row = np.maximum(np.maximum(wide[0] - rows, rows - wide[2] + 1), 0)
        off_col = np.maximum(np.maximum(wide[1] - cols, cols - wide[3] + 1), 0)
        distance = np.hypot(off_row[:, None], off_col[None, :]).astype(np.float32)
        np.minimum(self.clearance_px[where], distance, out=self.clearance_px[where])
        nearer = distance + self.gap_px < self.near_px[where]
        self.near_px[where][nearer] = distance[nearer] + self.gap_px
        self.angle_rad[where][nearer] = laid.orientation_rad


def lay(
    exemplar: Exemplar,
    scale: float,
    sites: SiteMap,
    habits: Habits,
    rng: np.random.Generator,
    *,
    aligned: bool = False,
) -> Laid | None:
    """Lay an exemplar somewhere it fits, standing to its neighbours as a real building of the tile does.

    The circumstances of one real building are drawn: its distance to the nearest other one and to the nearest road,
    and how it is turned against its neighbour. Of the four quarter turns that give that direction the one is taken that
    brings its shadow to the side of everybody else's, where both scenes show theirs; else the one that turns it least
    (at most 45 degrees).

    Args:
        exemplar: The object.
        scale: Size factor, GSD ratio included.
        sites: Free ground; not changed here.
        habits: How the tile's buildings stand.
        rng: The step's generator.
        aligned: Turn it as its neighbour is turned, whatever real buildings do.

    Returns:
        The laid footprint, or None when no drawn site fits.
    """
    mirrored = bool(rng.random() < MIRROR_SHARE)
    gap_px, road_px, turn_rad = habits.draw(rng)
    turn_rad = 0.0 if aligned else turn_rad
    long_px, short_px = outline(exemplar).long_px, outline(exemplar).short_px
    # With which side it will face its neighbour is not known before it lies.
    half = 0.5 * scale * (short_px if rng.random() < 0.5 else long_px)
    gap_px = max(gap_px, sites.gap_px + 1)
    for slack in _SLACK:
        slack_px = slack * scale * short_px + _BLOCK / 2
        found: list[tuple[float, int, Laid]] = []
        drawn = sites.sites(0.4 * short_px * scale, gap_px + half, road_px + half, slack_px, rng)
        directions = [sites.angle_at(site) + turn_rad for site in drawn]
        for laid in lay_any(drawn, exemplar, scale, mirrored, sites.blocked, directions, habits.shadow_rad):
            found.append((sites.misfit(laid, gap_px, road_px, turn_rad), len(found), laid))
            if len(found) == _COMPARED:
                break
        if found:
            return min(found)[2].in_one_piece()
    return None


def _block_any(mask: BoolArray, *, fill: bool) -> BoolArray:
    """Reduce by :data:`_BLOCK`: True where any pixel of a block is. Pixels outside the tile count as ``fill``."""
    mask = _pad_to_blocks(mask, fill)
    rows = np.logical_or.reduce([mask[i::_BLOCK] for i in range(_BLOCK)])
    return np.asarray(np.logical_or.reduce([rows[:, i::_BLOCK] for i in range(_BLOCK)]))


def _pad_to_blocks(values: Values, fill: bool | int = 0) -> Values:
    """Grow an ``[H, W]`` array to whole blocks."""
    short = (-values.shape[0] % _BLOCK, -values.shape[1] % _BLOCK)
    return np.pad(values, ((0, short[0]), (0, short[1])), constant_values=fill) if any(short) else values
