"""Spending a changed area: which objects to remove, which exemplar to create at which size."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import Exemplar
from changen_cli.events.footprints import Stock

SCALE_RANGE = (0.8, 1.25)
_OWN_SHARE = 0.8
_ORDERS = 8


def pick_removals(
    areas_px: npt.NDArray[np.int64], budget_px: float, ceiling_px: float, quota: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Choose objects whose areas add up to about a budget.

    A few random orders are tried, each taking what still fits; the one that comes nearest wins.

    Args:
        areas_px: int ``[N]``, areas of the objects that may go.
        budget_px: Area to remove.
        ceiling_px: Area never exceeded.
        quota: Most objects removed.
        rng: The step's generator.

    Returns:
        Indices into ``areas_px``, in the order drawn.
    """
    best: list[int] = []
    best_miss = budget_px
    for _ in range(_ORDERS):
        total = 0
        picked: list[int] = []
        for index in rng.permutation(len(areas_px)).tolist():
            if len(picked) >= quota:
                break
            # Taking it must bring the sum nearer to the budget, or the last object would always overshoot.
            after = total + int(areas_px[index])
            if after <= ceiling_px and abs(budget_px - after) < abs(budget_px - total):
                total = after
                picked.append(index)
        if abs(budget_px - total) < best_miss:
            best, best_miss = picked, abs(budget_px - total)
    return np.asarray(best, dtype=np.intp)


def creation_size(
    stock: Stock, left_px: float, ceiling_px: float, min_area_px: int, rng: np.random.Generator
) -> tuple[Exemplar, float] | None:
    """Choose an exemplar and a size for the area that remains.

    Args:
        stock: The library as seen from this scene.
        left_px: Area that remains to be changed.
        ceiling_px: Area the new object must not exceed.
        min_area_px: Area it must reach.
        rng: The step's generator.

    Returns:
        The exemplar and its size factor (GSD ratio included), or None when no exemplar fits.
    """
    if ceiling_px < min_area_px:
        return None
    low, high = SCALE_RANGE
    fits = (stock.areas_px * low**2 <= ceiling_px) & (stock.areas_px * high**2 >= min_area_px)
    own_first = rng.random() < _OWN_SHARE
    preferred = fits & (stock.own == own_first)
    pool = np.flatnonzero(preferred if preferred.any() else fits)
    if not pool.size:
        return None
    index = int(pool[rng.integers(pool.size)])
    area = float(stock.areas_px[index])
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    ending = math.sqrt(left_px / area)
    if low <= ending <= high:  # this object can finish the step exactly
        scale = ending
    scale = min(max(scale, math.sqrt(min_area_px / area)), math.sqrt(ceiling_px / area))
    return stock.exemplars[index], scale * float(stock.zooms[index])
