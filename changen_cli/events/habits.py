"""How a tile's buildings stand: how far from each other and from roads, and how they turn to their neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Int32Array, UInt8Array
from changen_cli.events.regions import FloatArray, ObjectTable
from changen_cli.events.shadows import shadow_direction

Values = TypeVar("Values", BoolArray, Int32Array)

_BLOCK = 2
_FEWEST = 4
_TYPICAL_PX = 24.0


@dataclass(frozen=True, eq=False)
class Habits:
    """The circumstances of every building of a tile; a new one takes those of a real one, drawn at random.

    Attributes:
        gaps_px: float64 ``[N]``, distance to the nearest other building, edge to edge.
        roads_px: float64 ``[N]``, distance to the nearest road; infinite where the mask shows none.
        turns_rad: float64 ``[N]``, own direction minus that of the nearest other building, in [-pi/4, pi/4).
        typical_px: Side of a square as large as the median building.
        shadow_rad: Where shadows fall, counter-clockwise in (col, -row) axes; None when it does not show.
    """

    gaps_px: FloatArray
    roads_px: FloatArray
    turns_rad: FloatArray
    typical_px: float
    shadow_rad: float | None = None

    @cached_property
    def road_limit_px(self) -> float:
        """How far from a road nine of ten buildings lie; infinite without roads."""
        return float(np.quantile(self.roads_px, 0.9)) if np.isfinite(self.roads_px).any() else math.inf

    def draw(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Draw ``(gap_px, road_px, turn_rad)`` of one real building.

        A tile with hardly any building tells nothing: then new ones stand side by side, a house apart on average.
        """
        if len(self.gaps_px) < _FEWEST:
            return float(rng.exponential(self.typical_px)), math.inf, 0.0
        index = int(rng.integers(len(self.gaps_px)))
        return float(self.gaps_px[index]), float(self.roads_px[index]), float(self.turns_rad[index])


def measure_habits(
    instances: Int32Array, objects: ObjectTable, road: BoolArray, image: UInt8Array | None = None
) -> Habits:
    """Measure the buildings of a tile, to within two pixels.

    Args:
        instances: int32 ``[H, W]``, object numbers.
        objects: The objects to describe.
        road: bool ``[H, W]``, pixels of roads.
        image: uint8 ``[H, W, 3]``, for the direction of shadows.

    Returns:
        One entry per object that has a neighbour.
    """
    typical = float(np.sqrt(np.median(objects.areas_px))) if len(objects) else _TYPICAL_PX
    shadow = None if image is None else shadow_direction(image, np.asarray(instances > 0))
    if len(objects) < _FEWEST:
        return Habits(np.zeros(0), np.zeros(0), np.zeros(0), typical, shadow)
    # The largest number of a block stands for it: thin gaps between two objects may close, none opens.
    labels = _halved(instances)
    distance, where = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    nearest = labels[tuple(where)]
    size = int(instances.max()) + 1
    gaps = np.full(size, np.inf)
    neighbours = np.zeros(size, dtype=np.int64)
    # Two objects are closest where the ground that is nearest to the one meets that nearest to the other.
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        meets = nearest[a] != nearest[b]
        one, other = nearest[a][meets], nearest[b][meets]
        gap = distance[a][meets] + distance[b][meets]
        for own, next_to in ((one, other), (other, one)):
            order = np.argsort(-gap, kind="stable")  # the smallest is written last
            closer = order[gap[order] < gaps[own[order]]]
            gaps[own[closer]] = gap[closer]
            neighbours[own[closer]] = next_to[closer]
    angles = np.zeros(size)
    angles[objects.numbers] = objects.orientations_rad
    known = objects.numbers[np.isfinite(gaps[objects.numbers])]
    quarter = math.pi / 2
    turns = (angles[known] - angles[neighbours[known]] + quarter / 2) % quarter - quarter / 2
    return Habits(gaps[known] * _BLOCK + 1, _road_distances(labels, road, size)[known], turns, typical, shadow)


def _road_distances(labels: Int32Array, road: BoolArray, size: int) -> FloatArray:
    """Distance of every object's nearest pixel to a road, float64 ``[size]``; infinite without any road."""
    found = np.full(size, np.inf)
    coarse = _halved(road)
    if coarse.any():
        distance: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~coarse) * _BLOCK
        np.minimum.at(found, labels.ravel(), distance.ravel())
    return found


def _halved(values: Values) -> Values:
    """The largest value of every block of two by two: ``[H, W]`` to ``[ceil(H/2), ceil(W/2)]``."""
    rows = values[::_BLOCK].copy()
    np.maximum(rows[: values.shape[0] // _BLOCK], values[1::_BLOCK], out=rows[: values.shape[0] // _BLOCK])
    both = rows[:, ::_BLOCK].copy()
    np.maximum(both[:, : rows.shape[1] // _BLOCK], rows[:, 1::_BLOCK], out=both[:, : rows.shape[1] // _BLOCK])
    return both
