"""Simulate N steps of change on a mask, p(S_{t+1} | S_t) of Changen2 (TPAMI 2025).

A pixel changes at most once in a series: no flicker, and every change mask is the union of its logged events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from changen_cli.core.types import BoolArray, ChangeEvent, EventKind, Exemplar, MaskSeries, Scene, StepReport
from changen_cli.events.alterations import alter
from changen_cli.events.damage import damage, worsen
from changen_cli.events.demography import live
from changen_cli.events.edits import transition
from changen_cli.events.footprints import Stock, stock_library
from changen_cli.events.growth import grow
from changen_cli.events.objects import change_objects, remove
from changen_cli.events.outlines import image_edges
from changen_cli.events.regions import object_id
from changen_cli.events.state import EventRules, SeriesState, start_series
from changen_cli.events.step import TOLERANCE, Step
from changen_cli.events.swaps import swap

# Each process serves its kinds. Transitions come last: parts of regions can be cut to end a step exactly.
_PROCESSES: tuple[tuple[frozenset[EventKind], Callable[[Step], None]], ...] = (
    (frozenset({"damage"}), damage),
    (frozenset({"create", "remove"}), change_objects),
    (frozenset({"alter"}), alter),
    (frozenset({"swap"}), swap),
    (frozenset({"grow"}), grow),
    (frozenset({"transition"}), transition),
)
_SHARES = (0.3, 0.7)
"""Of a step's target, what a process may spend before those after it; whatever it leaves passes to them."""


def simulate_series(
    scene: Scene,
    rules: EventRules,
    *,
    steps: int,
    library: Sequence[Exemplar],
    rng_for_step: Callable[[int], np.random.Generator],
    negative: bool = False,
    avoid: BoolArray | None = None,
) -> MaskSeries:
    """Simulate the masks of one sample.

    Args:
        scene: The scene; its mask is date 0.
        rules: Its classes, and what may happen.
        steps: Number of steps; the series has ``steps + 1`` dates.
        library: Exemplars to create objects from; the scene's own are preferred.
        rng_for_step: Returns the generator of step t, derived from names only, so that no step depends on how many
            draws another made.
        negative: Let nothing change at all.
        avoid: bool ``[H, W]``, further ground nothing is built on.

    Returns:
        Masks, instance maps, events, one report per step, and the ids of all objects.

    Raises:
        SceneError: The scene has no mask.
    """
    state = start_series(scene, rules.schema, avoid)
    if "transition" in rules.kinds:
        state = replace(state, edges=image_edges(scene.image))
    masks, instances = [state.mask], [state.instances]
    objects = {number: object_id(number, scene.uids) for number in range(1, state.first_created)}
    events: list[ChangeEvent] = []
    reports: list[StepReport] = []
    stock = stock_library(library, scene)
    for time_index in range(steps):
        if negative:
            reports.append(StepReport(time_index, 0.0, 0.0, True, "negative sample: nothing was to change"))
        else:
            state, happened, report = simulate_step(state, rules, stock, rng_for_step(time_index))
            events.extend(happened)
            reports.append(report)
        masks.append(state.mask)
        instances.append(state.instances)
        objects |= state.objects.names()
    return MaskSeries(np.stack(masks), np.stack(instances), tuple(events), tuple(reports), objects)


def simulate_step(
    state: SeriesState, rules: EventRules, stock: Stock, rng: np.random.Generator
) -> tuple[SeriesState, list[ChangeEvent], StepReport]:
    """Simulate one step, S_t to S_{t+1}.

    A target area is drawn and split at random between the kinds; whole objects are removed and created, and regions
    change class, until the target is met. What one kind cannot use passes to another. Kinds with yearly rates come
    first, and have no part in it.

    Args:
        state: Date t; not changed.
        rules: What may happen.
        stock: Exemplars to create objects from.
        rng: This step's generator; the only source of chance.

    Returns:
        The state at date t+1, the events in order, and what was asked and reached. A target missed by more than
        20 % is reported as not met, with the reason.
    """
    step = Step(state, rules, stock, rng, 0.0)
    asked_px = 0.0 if rules.demography is None else live(step, rules.demography)
    wanted = set(rules.kinds) - set(rules.demography.rates if rules.demography else ())
    if wanted:
        area_px = float(rng.uniform(*rules.change_area)) * state.mask.size
        _spend(step, wanted, step.used_px + area_px)
        asked_px += area_px
    asked = asked_px / state.mask.size
    reached = step.used_px / state.mask.size
    met = abs(reached - asked) <= TOLERANCE * asked
    notes = [*([] if met else step.shortages), *step.remarks]
    if step.removed and not len(step.added.without(step.removed)):
        notes = [*notes, f"the last {rules.schema.building_name} was removed"]
    report = StepReport(state.time_index, asked, reached, met, "; ".join(notes), step.transitions)
    return step.finish(), step.events, report


def _spend(step: Step, wanted: set[EventKind], target_px: float) -> None:
    """Let every process that serves a kind asked for take its turn, each with a share of what is left."""
    turns = [process for kinds, process in _PROCESSES if kinds & wanted]
    for process in turns[:-1]:
        step.target_px = step.used_px + (target_px - step.used_px) * step.rng.uniform(*_SHARES)
        process(step)
    step.target_px = target_px
    turns[-1](step)
    if "remove" in wanted and turns[-1] is not change_objects and step.owes() and step.objects_can_change():
        step.shortages.append(remove(step, step.left_px, TOLERANCE))
    if "damage" in wanted and turns[-1] is not damage and step.owes():
        worsen(step)
