"""Damage: whole buildings go down xBD's scale, those hit hardest first and furthest, and may be rebuilt.

A disaster is drawn once per series and gives every building its turn to be hit. A step widens what is hit until its
target is spent; how early in that a building's turn comes decides its state, so that a later step can only worsen it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from changen_cli.core.landcover import openearthmap_name
from changen_cli.core.types import Placement
from changen_cli.events.footprints import as_it_was
from changen_cli.events.hazards import PROFILES, Damage, Site, draw_turns
from changen_cli.events.objects import removable
from changen_cli.events.regions import FloatArray, class_table
from changen_cli.events.step import AIM, TOLERANCE, Step

_LABEL_SAFE = (0.0, 0.0, 1.0)  # the reach of a disaster that only destroys


def damage(step: Step) -> None:
    """Rebuild some buildings, then spend the rest of the target on damage, hardest hit first."""
    plan = _plan(step)
    if step.turns is None:
        step.turns = _draw(step, plan)
    if plan.rebuild:
        rebuild(step)
    if step.owes():
        worsen(step)


def _plan(step: Step) -> Damage:
    assert step.rules.damage is not None  # the rules see to it
    return step.rules.damage


def _draw(step: Step, plan: Damage) -> FloatArray:
    """The turns of all objects by their numbers, float64 ``[first_created]``; inf where there is none."""
    state, schema = step.state, step.rules.schema
    turns = np.full(state.first_created, np.inf)
    rows = np.flatnonzero(state.objects.numbers < state.first_created)
    if rows.size:
        wet = [index for index, name in enumerate(schema.names) if openearthmap_name(name) == "water"]
        site = Site(state.objects.centres[rows], class_table(wet)[state.mask])
        turns[state.objects.numbers[rows]] = draw_turns(plan.disaster, site, step.rng)
    return turns


def _levels(step: Step) -> npt.NDArray[np.int64]:
    """The state of every object of date t, 0 none to 3 destroyed: int64 ``[N]``."""
    table = np.zeros(256, dtype=np.int64)
    table[list(step.rules.schema.damage_ids)] = range(4)
    return np.asarray(table[step.object_classes()])


def worsen(step: Step) -> None:
    """Bring objects to worse states, worth what is left of the target.

    With a share e of the buildings hit so far, one in turn r has come to a state if r <= e times the share of those
    hit that the profile brings to that state. Taking the objects whose next state needs the smallest e first is
    widening the disaster; the e of the last one decides how far each of them has come.
    """
    assert step.turns is not None
    plan, schema, objects = _plan(step), step.rules.schema, step.state.objects
    rows = removable(step)
    reach = np.asarray(_LABEL_SAFE if plan.label_safe else PROFILES[plan.disaster].reach)
    with np.errstate(divide="ignore"):
        onsets = step.turns[objects.numbers[rows], None] / reach  # [rows, states]
    onsets[np.arange(1, 4) <= _levels(step)[rows, None]] = np.inf  # there already, or past it
    next_ = onsets.min(axis=1)
    picked: list[int] = []
    left_px, spare_px, extent = step.left_px, TOLERANCE * step.target_px, 0.0
    for index in np.argsort(next_, kind="stable").tolist():
        if not np.isfinite(next_[index]) or left_px <= AIM * step.target_px:
            break
        area = int(objects.areas_px[rows[index]])
        if area <= left_px + spare_px:
            picked.append(index)
            left_px, extent = left_px - area, float(next_[index])
    for index in picked:
        level = 1 + int(np.flatnonzero(onsets[index] <= extent)[-1])
        step.alter_object(int(rows[index]), schema.damage_ids[level])
    unpicked = int(np.isfinite(next_).sum()) - len(picked)
    step.shortages.append(
        f"none of the {unpicked} {schema.building_name}s left to damage fits the area asked for"
        if unpicked
        else f"no {schema.building_name} left to damage ({len(objects)} present)"
    )


def rebuild(step: Step) -> None:
    """Rebuild a share of the damaged objects as they stood at date 0, as far as the step's target allows.

    Only what date 0 shows undamaged can be; it is not hit again, for its turn is over.
    """
    assert step.turns is not None
    schema, objects = step.rules.schema, step.state.objects
    rows = removable(step)
    rows = rows[_levels(step)[rows] > 0]
    rows = rows[step.rng.random(rows.size) < _plan(step).rebuild]
    for row in step.rng.permutation(rows).tolist():
        exemplar = as_it_was(step.state.scene, schema, objects, row)
        if exemplar is None or objects.areas_px[row] > step.left_px:
            continue
        top, left = exemplar.box[:2]
        as_there = np.array([[1.0, 0.0, -top], [0.0, 1.0, -left]])
        step.alter_object(row, schema.damage_ids[0], Placement(exemplar, as_there, 0.0, 1.0, False))
        step.turns = step.turns.copy()
        step.turns[objects.numbers[row]] = np.inf
