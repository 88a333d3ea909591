"""Object creation and removal: whole objects come and go, worth an area."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from changen_cli.events.budget import creation_size, pick_removals
from changen_cli.events.laying import Laid
from changen_cli.events.placement import SiteMap, lay
from changen_cli.events.regions import class_table, dilate, ground_around, road_pixels
from changen_cli.events.step import AIM, TOLERANCE, Step

_MAX_REMOVED_SHARE = 0.6  # of the buildings present, in one step
_RING_PX = 8
_MAX_MISSES = 24


def change_objects(step: Step) -> None:
    """Spend the target: some on removals, the rest on creations, what is left on removals again."""
    rated = step.rules.demography.rates if step.rules.demography else {}
    kinds = [kind for kind in step.rules.kinds if kind not in rated]
    if not step.objects_can_change():
        named = step.building >= 0
        step.shortages.append("no class is free ground" if named else "no class is named like a building")
        return
    if "create" in kinds and "remove" in kinds:
        remove(step, step.rng.uniform(0.2, 0.8) * step.left_px, AIM)
    if "create" in kinds:
        create(step)
    if "remove" in kinds and step.owes():
        step.shortages.append(remove(step, step.left_px, TOLERANCE))


def remove(step: Step, budget_px: float, over: float) -> str:
    """Remove whole objects worth about ``budget_px``.

    Args:
        step: The step.
        budget_px: Area to remove.
        over: How far it may be exceeded, as a share of the step's target.

    Returns:
        Why no more could be removed.
    """
    objects, rows = step.state.objects, removable(step)
    quota = max(int(_MAX_REMOVED_SHARE * len(objects)), 1) - len(step.removed)
    picked = pick_removals(objects.areas_px[rows], budget_px, budget_px + over * step.target_px, quota, step.rng)
    for row in rows[picked]:
        # Read from date t, so that the order of the removals does not matter.
        step.clear_object("remove", int(row), ground_below(step, int(row)))
    name = step.rules.schema.building_name
    if len(picked) == len(rows):
        return f"no {name} left to remove ({len(objects)} present)"
    if len(picked) >= quota:
        return f"at most {_MAX_REMOVED_SHARE:.0%} of the {len(objects)} {name}s go in one step"
    return f"none of the {len(rows) - len(picked)} {name}s left fits the area asked for"


def removable(step: Step) -> npt.NDArray[np.intp]:
    """Rows of the objects that may change: those created in the series stay, or a date shows what none explains."""
    objects = step.state.objects
    open_ = (objects.numbers < step.state.first_created) & (objects.areas_px >= step.rules.min_area_px)
    open_ &= ~np.isin(objects.numbers, list(step.state.reshaped))
    open_[[*step.removed, *step.altered]] = False
    return np.flatnonzero(open_)


def ground_below(step: Step, row: int) -> int:
    """The class an object gives way to: what lies around it, else the tile's most frequent ground class."""
    state = step.state
    target = ground_around(state.mask, step.object(row)[1], state.objects.box(row), step.ground, _RING_PX)
    return step.usual_ground if target is None else target


def create(step: Step) -> None:
    """Lay objects on free ground until the target is spent or nothing more fits."""
    if not step.stock.exemplars:
        step.shortages.append("the exemplar library is empty")
        return
    rules, sites = step.rules, free_sites(step)
    misses, room = 0, math.inf
    while step.owes() and misses < _MAX_MISSES:
        ceiling = min(step.left_px + AIM * step.target_px, room)
        choice = creation_size(step.stock, step.left_px, ceiling, rules.min_area_px, step.rng)
        if choice is None and not misses:
            break
        if choice is None:  # down to the smallest: start over with all sizes
            misses, room = misses + 1, math.inf
            continue
        exemplar, scale = choice
        laid = lay(exemplar, scale, sites, step.habits, step.rng)
        # Nearest-neighbour sampling may shift a small footprint's area by a few pixels.
        most_px = step.left_px + TOLERANCE * step.target_px
        if laid is None or not rules.min_area_px <= laid.footprint.sum() <= most_px:
            misses, room = misses + 1, 0.9 * exemplar.area_px * scale**2  # try something smaller
            continue
        misses, room = 0, math.inf
        sites.occupy(laid)
        create_object(step, laid)
    step.shortages.append(
        f"no free ground for another {rules.schema.building_name}"
        if misses
        else f"no exemplar fits the {step.left_px:.0f} px that remain"
    )


def free_sites(step: Step) -> SiteMap:
    """The ground a step may still build on."""
    state, gap_px = step.state, step.rules.min_gap_px
    # The gap is kept to everything that is no ground: houses keep off roads and shores, too.
    taken = dilate(~step.ground[state.mask] | (step.instances > 0) | (state.instances > 0), gap_px) | step.closed
    if step.rules.surfaces:
        taken |= ~class_table(sorted(step.rules.surfaces))[state.mask]
    return SiteMap(taken, step.instances, step.added, road_pixels(state.mask, step.rules.schema), gap_px)


def create_object(step: Step, laid: Laid) -> int:
    """Write a new object; returns its pixels."""
    number = step.next_number()
    name = f"new{step.state.time_index:02d}-{number - step.state.next_number:03d}"
    step.register(number, name, laid)
    return step.change("create", name, number, laid.box, laid.footprint, step.building, laid.placement)
