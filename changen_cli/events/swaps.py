"""Swaps: an object and a piece of free ground exchange places, the region swap of self-supervised change generation.

Two objects could not exchange places with an exact label: where an object stood and another one stands, the picture
changes and the mask does not. Ground and object differ in class, so every pixel of either place changes in both.
"""

from __future__ import annotations

import numpy as np

from changen_cli.core.types import Exemplar
from changen_cli.events.budget import pick_removals
from changen_cli.events.laying import Laid
from changen_cli.events.objects import free_sites, ground_below, removable
from changen_cli.events.placement import lay
from changen_cli.events.step import AIM, TOLERANCE, Step


def swap(step: Step) -> None:
    """Move whole objects to free ground until the target is spent or none is left that fits.

    What may move is what can be drawn elsewhere: the exemplars of the scene itself that still stand where they were.
    """
    if not step.objects_can_change():
        named = step.building >= 0
        step.shortages.append("no class is free ground" if named else "no class is named like a building")
        return
    name = step.rules.schema.building_name
    candidates = _movable(step)
    if not candidates:
        step.shortages.append(f"no whole {name} left to move")
        return
    sites, open_, stuck = free_sites(step), list(range(len(candidates))), False
    areas = np.asarray([step.state.objects.areas_px[row] for row, _ in candidates])
    while step.owes():
        # The ground counts as much as the object: both places change.
        ceiling_px = step.left_px + AIM * step.target_px
        picked = pick_removals(2 * areas[open_], step.left_px, ceiling_px, len(open_), step.rng)
        if not len(picked):
            break
        for index in [open_[i] for i in picked]:
            open_.remove(index)
            row, exemplar = candidates[index]
            laid = lay(exemplar, 1.0, sites, step.habits, step.rng)
            if laid is None or not _fits(step, row, laid):
                stuck = True
                continue
            sites.occupy(laid)
            _move(step, row, laid)
    step.shortages.append(
        f"no free ground to move another {name} to" if stuck else f"no {name} left to move fits the area asked for"
    )


def _movable(step: Step) -> list[tuple[int, Exemplar]]:
    """Rows of the objects that may move, with what they are drawn from: they look as they did at date 0."""
    stock, open_ = step.stock, removable(step)
    unhurt = open_[step.object_classes()[open_] == step.building]
    rows = {step.state.objects.ids[row]: int(row) for row in unhurt}
    own = [exemplar for exemplar, own in zip(stock.exemplars, stock.own, strict=True) if own]
    return [(rows[exemplar.object_id], exemplar) for exemplar in own if exemplar.object_id in rows]


def _fits(step: Step, row: int, laid: Laid) -> bool:
    """Whether a move is neither too small nor, old place and new one together, too large."""
    area = int(laid.footprint.sum())
    most_px = step.left_px + TOLERANCE * step.target_px
    return area >= step.rules.min_area_px and area + step.state.objects.areas_px[row] <= most_px


def _move(step: Step, row: int, laid: Laid) -> None:
    """Write the two events of one swap; they share the object's id."""
    name, number = step.state.objects.ids[row], step.next_number()
    step.clear_object("swap", row, ground_below(step, row))
    # A new number: nothing created in the series, and nothing moved in it, changes again.
    step.register(number, name, laid)
    step.change("swap", name, number, laid.box, laid.footprint, step.building, laid.placement)
