"""Simulate N steps of creation, removal and class transition on a mask, p(S_{t+1} | S_t) of Changen2 (TPAMI 2025).

A pixel changes at most once in a series: no flicker, and every change mask is the union of its logged events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from changen_cli.core.types import (
    BoolArray,
    ChangeEvent,
    ClassSchema,
    EventKind,
    Exemplar,
    MaskSeries,
    Scene,
    StepReport,
)
from changen_cli.events.footprints import Stock, stock_library
from changen_cli.events.state import EventRules, SeriesState, start_series
from changen_cli.events.step import TOLERANCE, Step
from changen_cli.events.transitions import Transitions


def simulate_series(
    scene: Scene,
    schema: ClassSchema,
    *,
    steps: int,
    kinds: tuple[EventKind, ...],
    change_area: tuple[float, float],
    negative: bool,
    library: Sequence[Exemplar],
    rng_for_step: Callable[[int], np.random.Generator],
    min_area_px: int = 64,
    min_gap_px: int = 4,
    avoid: BoolArray | None = None,
    transitions: Transitions | None = None,
    drawable: Collection[int] = (),
) -> MaskSeries:
    """Simulate the masks of one sample.

    Args:
        scene: The scene; its mask is date 0.
        schema: Its classes.
        steps: Number of steps; the series has ``steps + 1`` dates.
        kinds: The event kinds that may happen.
        change_area: Changed share of the tile per step, drawn uniformly from this range.
        negative: Let nothing change at all.
        library: Exemplars to create objects from; the scene's own are preferred.
        rng_for_step: Returns the generator of step t, derived from names only, so that no step depends on how many
            draws another made.
        min_area_px: No event is smaller.
        min_gap_px: Free pixels between a created object and any other.
        avoid: bool ``[H, W]``, further ground nothing is built on.
        transitions: The matrix that transitions follow; needed when they are among the kinds.
        drawable: Classes whose pixels can be drawn even where the tile shows none.

    Returns:
        Masks, instance maps, events and one report per step.

    Raises:
        SceneError: The scene has no mask.
        UsageError: The rules make no sense.
    """
    rules = EventRules(schema, kinds, change_area, min_area_px, min_gap_px, transitions, frozenset(drawable))
    state = start_series(scene, schema, avoid)
    masks, instances = [state.mask], [state.instances]
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
    return MaskSeries(np.stack(masks), np.stack(instances), tuple(events), tuple(reports))


def simulate_step(
    state: SeriesState, rules: EventRules, stock: Stock, rng: np.random.Generator
) -> tuple[SeriesState, list[ChangeEvent], StepReport]:
    """Simulate one step, S_t to S_{t+1}.

    A target area is drawn and split at random between the kinds; whole objects are removed and created, and regions
    change class, until the target is met. What one kind cannot use passes to another.

    Args:
        state: Date t; not changed.
        rules: What may happen.
        stock: Exemplars to create objects from.
        rng: This step's generator; the only source of chance.

    Returns:
        The state at date t+1, the events in order, and what was asked and reached. A target missed by more than
        20 % is reported as not met, with the reason.
    """
    asked = float(rng.uniform(*rules.change_area))
    step = Step(state, rules, stock, rng, asked * state.mask.size)
    step.run()
    reached = step.used_px / state.mask.size
    met = abs(reached - asked) <= TOLERANCE * asked
    notes = [] if met else step.shortages
    if step.removed and len(step.removed) == len(state.objects):
        notes = [*notes, f"the last {rules.schema.building_name} was removed"]
    report = StepReport(state.time_index, asked, reached, met, "; ".join(notes), step.transition_reports())
    return step.finish(), step.events, report
