"""Simulate N steps of object creation and removal on a mask, p(S_{t+1} | S_t) of Changen2 (TPAMI 2025).

A pixel changes at most once in a series: no flicker, and every change mask is the union of its logged events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from changen_cli.core.types import (
    BoolArray,
    Box,
    ChangeEvent,
    ClassSchema,
    EventKind,
    Exemplar,
    MaskSeries,
    Placement,
    Scene,
    StepReport,
)
from changen_cli.events.budget import creation_size, pick_removals
from changen_cli.events.footprints import Stock, stock_library
from changen_cli.events.placement import Laid, SiteMap, lay
from changen_cli.events.regions import (
    class_counts,
    crop,
    dilate,
    ground_around,
    ground_table,
    polygon_wkt,
    tighten,
)
from changen_cli.events.state import EventRules, SeriesState, start_series

_TOLERANCE = 0.2  # a step is met within this share of what was asked ...
_AIM = 0.1  # ... and is aimed at within this
_MAX_REMOVED_SHARE = 0.6  # of the buildings present, in one step
_RING_PX = 8
_MAX_MISSES = 24


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

    Returns:
        Masks, instance maps, events and one report per step.

    Raises:
        SceneError: The scene has no mask.
        UsageError: The rules make no sense.
    """
    rules = EventRules(schema, kinds, change_area, min_area_px, min_gap_px)
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

    A target area is drawn and split at random between the kinds; whole objects are removed and created until the
    target is met, and what one kind cannot use passes to the other.

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
    step = _Step(state, rules, stock, rng, asked * state.mask.size)
    if rules.schema.building_id is None:
        step.shortages.append("no class is named like a building")
    elif not step.ground.any():
        step.shortages.append("no class is free ground")
    else:
        step.run()
    reached = step.used_px / state.mask.size
    met = abs(reached - asked) <= _TOLERANCE * asked
    notes = [] if met else step.shortages
    if step.removed and len(step.removed) == len(state.objects):
        notes = [*notes, f"the last {rules.schema.building_name} was removed"]
    report = StepReport(state.time_index, asked, reached, met, "; ".join(notes))
    return step.finish(), step.events, report


class _Step:
    """One step in the making: the next date's arrays and the events that led there."""

    def __init__(
        self, state: SeriesState, rules: EventRules, stock: Stock, rng: np.random.Generator, target_px: float
    ) -> None:
        self.state, self.rules, self.stock, self.rng = state, rules, stock, rng
        self.target_px = target_px
        self.ground = ground_table(rules.schema)
        self.building = -1 if rules.schema.building_id is None else rules.schema.building_id
        self.mask, self.instances = state.mask.copy(), state.instances.copy()
        self.added = state.objects  # the objects present plus those created; removals leave it at the end
        self.removed: list[int] = []
        self.events: list[ChangeEvent] = []
        self.shortages: list[str] = []
        self.used_px = 0

    def run(self) -> None:
        """Spend the target: some on removals, the rest on creations, what is left on removals again."""
        kinds = self.rules.kinds
        if "create" in kinds and "remove" in kinds:
            self.remove(self.rng.uniform(0.2, 0.8) * self.target_px, _AIM)
        if "create" in kinds:
            self.create()
        if "remove" in kinds and self.used_px < (1 - _AIM) * self.target_px:
            self.shortages.append(self.remove(self.target_px - self.used_px, _TOLERANCE))

    def remove(self, budget_px: float, over: float) -> str:
        """Remove whole objects worth about ``budget_px``.

        Args:
            budget_px: Area to remove.
            over: How far it may be exceeded, as a share of the step's target.

        Returns:
            Why no more could be removed.
        """
        objects = self.state.objects
        # Objects created in the series stay, or a date would show what no later one explains.
        open_ = (objects.numbers < self.state.first_created) & (objects.areas_px >= self.rules.min_area_px)
        open_[self.removed] = False
        rows = np.flatnonzero(open_)
        quota = max(int(_MAX_REMOVED_SHARE * len(objects)), 1) - len(self.removed)
        picked = pick_removals(objects.areas_px[rows], budget_px, budget_px + over * self.target_px, quota, self.rng)
        for row in rows[picked]:
            self._remove_object(int(row))
        name = self.rules.schema.building_name
        if len(picked) == len(rows):
            return f"no {name} left to remove ({len(objects)} present)"
        if len(picked) >= quota:
            return f"at most {_MAX_REMOVED_SHARE:.0%} of the {len(objects)} {name}s go in one step"
        return f"none of the {len(rows) - len(picked)} {name}s left fits the area asked for"

    def _remove_object(self, row: int) -> None:
        objects, state = self.state.objects, self.state
        box, number = objects.box(row), int(objects.numbers[row])
        whole = state.instances[crop(box)] == number
        footprint = whole & (state.mask[crop(box)] == self.building)
        # Read from date t, so that the order of the removals does not matter.
        target = ground_around(state.mask, footprint, box, self.ground, _RING_PX)
        if target is None:
            target = self._usual_ground()
        self.instances[crop(box)][whole] = 0
        self.removed.append(row)
        self._change("remove", objects.ids[row], number, box, footprint, target, None)

    def _usual_ground(self) -> int:
        """The tile's most frequent ground class; the schema's first one where it shows none."""
        counts = class_counts(self.state.mask, self.ground)
        return int((counts if counts.any() else self.ground).argmax())

    def create(self) -> None:
        """Lay objects on free ground until the target is spent or nothing more fits."""
        if not self.stock.exemplars:
            self.shortages.append("the exemplar library is empty")
            return
        state, rules = self.state, self.rules
        objects = state.objects
        typical = float(np.sqrt(np.median(objects.areas_px))) if len(objects) else 24.0
        # The gap is kept to everything that is no ground: houses keep off roads and shores, too.
        taken = dilate(~self.ground[state.mask] | (state.instances > 0), rules.min_gap_px)
        sites = SiteMap(taken | state.settled, state.mask == self.building, rules.min_gap_px, 2 * typical)
        misses, room = 0, math.inf
        while self.used_px < (1 - _AIM) * self.target_px and misses < _MAX_MISSES:
            left = self.target_px - self.used_px
            ceiling = min(left + _AIM * self.target_px, room)
            choice = creation_size(self.stock, left, ceiling, rules.min_area_px, self.rng)
            if choice is None and not misses:
                break
            if choice is None:  # down to the smallest: start over with all sizes
                misses, room = misses + 1, math.inf
                continue
            exemplar, scale = choice
            laid = lay(exemplar, scale, sites, self.added, self.rng)
            # Nearest-neighbour sampling may shift a small footprint's area by a few pixels.
            if laid is None or not rules.min_area_px <= laid.footprint.sum() <= left + _TOLERANCE * self.target_px:
                misses, room = misses + 1, 0.9 * exemplar.area_px * scale**2  # try something smaller
                continue
            misses, room = 0, math.inf
            sites.occupy(laid.box, laid.footprint)
            self._create_object(laid)
        left = self.target_px - self.used_px
        self.shortages.append(
            f"no free ground for another {rules.schema.building_name}"
            if misses
            else f"no exemplar fits the {left:.0f} px that remain"
        )

    def _create_object(self, laid: Laid) -> None:
        number = self.state.next_number + len(self.added) - len(self.state.objects)
        name = f"new{self.state.time_index:02d}-{number - self.state.next_number:03d}"
        self.instances[crop(laid.box)][laid.footprint] = number
        self.added = self.added.with_row(number, name, laid.box, int(laid.footprint.sum()), laid.orientation_rad)
        self._change("create", name, number, laid.box, laid.footprint, self.building, laid.placement)

    def _change(
        self,
        kind: EventKind,
        object_id: str,
        number: int,
        box: Box,
        footprint: BoolArray,
        to_class: int,
        placement: Placement | None,
    ) -> None:
        """Write one event into the next mask and log it; the only place where a mask changes."""
        before = np.bincount(self.state.mask[crop(box)][footprint], minlength=256)
        footprint, box = tighten(footprint, box)
        self.mask[crop(box)][footprint] = to_class
        area = int(footprint.sum())
        self.used_px += area
        self.events.append(
            ChangeEvent(
                object_id=object_id,
                instance=number,
                time_index=self.state.time_index,
                kind=kind,
                from_class=int(before.argmax()),
                to_class=to_class,
                bbox=box,
                area_px=area,
                polygon=polygon_wkt(footprint, (box[0], box[1])),
                from_areas_px={int(i): int(before[i]) for i in np.flatnonzero(before)},
                placement=placement,
            )
        )

    def finish(self) -> SeriesState:
        """The state at the next date."""
        return replace(
            self.state,
            mask=self.mask,
            instances=self.instances,
            objects=self.added.without(self.removed),
            settled=self.state.settled | (self.mask != self.state.mask),
            next_number=self.state.next_number + len(self.added) - len(self.state.objects),
            time_index=self.state.time_index + 1,
        )
