"""One step in the making: objects removed and created, regions that change class, and the log of it all."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from changen_cli.core.landcover import openearthmap_name
from changen_cli.core.types import BoolArray, Box, ChangeEvent, EventKind, Placement, TransitionReport
from changen_cli.events.budget import creation_size, pick_removals
from changen_cli.events.footprints import Stock
from changen_cli.events.parcels import OpenGround, Shape
from changen_cli.events.placement import MIRROR_SHARE, Laid, SiteMap, lay, lay_at
from changen_cli.events.regions import (
    class_counts,
    crop,
    dilate,
    ground_around,
    ground_table,
    pad_box,
    polygon_wkt,
    tighten,
)
from changen_cli.events.state import EventRules, SeriesState
from changen_cli.events.transitions import Demand, drawable_classes

TOLERANCE = 0.2  # a step is met within this share of what was asked ...
_AIM = 0.1  # ... and is aimed at within this
_MAX_REMOVED_SHARE = 0.6  # of the buildings present, in one step
_RING_PX = 8
_MAX_MISSES = 24
_MAX_SEEDS = 8  # places tried for one transition
_PARCEL_SHARE = (0.06, 0.35)  # of a step's target
_STRIP_PX = (600.0, 2500.0)
_NATURAL = frozenset({"bareland", "rangeland", "tree", "water"})  # nobody surveyed their outlines


class Step:
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
        self.demand: Demand | None = None

    def run(self) -> None:
        """Spend the target: a share of it on objects, the rest on transitions, which can end a step exactly."""
        kinds, whole_px = self.rules.kinds, self.target_px
        if "transition" not in kinds:
            self.change_objects()
            return
        if len(kinds) > 1:
            self.target_px *= self.rng.uniform(0.3, 0.7)
            self.change_objects()
            self.target_px = whole_px
        self.transition()
        if "remove" in kinds and self._owes() and self._objects_can_change():
            self.shortages.append(self.remove(self.target_px - self.used_px, TOLERANCE))

    def change_objects(self) -> None:
        """Spend the target: some on removals, the rest on creations, what is left on removals again."""
        kinds = self.rules.kinds
        if not self._objects_can_change():
            named = self.building >= 0
            self.shortages.append("no class is free ground" if named else "no class is named like a building")
            return
        if "create" in kinds and "remove" in kinds:
            self.remove(self.rng.uniform(0.2, 0.8) * self.target_px, _AIM)
        if "create" in kinds:
            self.create()
        if "remove" in kinds and self._owes():
            self.shortages.append(self.remove(self.target_px - self.used_px, TOLERANCE))

    def _objects_can_change(self) -> bool:
        return self.building >= 0 and bool(self.ground.any())

    def _owes(self) -> bool:
        """Whether more is to change than the aim lets pass."""
        return self.used_px < (1 - _AIM) * self.target_px

    def remove(self, budget_px: float, over: float) -> str:
        """Remove whole objects worth about ``budget_px``.

        Args:
            budget_px: Area to remove.
            over: How far it may be exceeded, as a share of the step's target.

        Returns:
            Why no more could be removed.
        """
        objects, rows = self.state.objects, self._removable()
        quota = max(int(_MAX_REMOVED_SHARE * len(objects)), 1) - len(self.removed)
        picked = pick_removals(objects.areas_px[rows], budget_px, budget_px + over * self.target_px, quota, self.rng)
        for row in rows[picked]:
            # Read from date t, so that the order of the removals does not matter.
            self._clear_object("remove", int(row), self._ground_below(int(row)))
        name = self.rules.schema.building_name
        if len(picked) == len(rows):
            return f"no {name} left to remove ({len(objects)} present)"
        if len(picked) >= quota:
            return f"at most {_MAX_REMOVED_SHARE:.0%} of the {len(objects)} {name}s go in one step"
        return f"none of the {len(rows) - len(picked)} {name}s left fits the area asked for"

    def _removable(self) -> npt.NDArray[np.intp]:
        """Rows of the objects that may go: those created in the series stay, or a date shows what none explains."""
        objects = self.state.objects
        open_ = (objects.numbers < self.state.first_created) & (objects.areas_px >= self.rules.min_area_px)
        open_[self.removed] = False
        return np.flatnonzero(open_)

    def _ground_below(self, row: int) -> int:
        """The class an object gives way to: what lies around it."""
        box = self.state.objects.box(row)
        target = ground_around(self.state.mask, self._object(row)[1], box, self.ground, _RING_PX)
        return self._usual_ground() if target is None else target

    def _object(self, row: int) -> tuple[BoolArray, BoolArray]:
        """The pixels of an object in its box: the whole instance, and those of the building class."""
        where = crop(self.state.objects.box(row))
        whole = np.asarray(self.state.instances[where] == self.state.objects.numbers[row])
        return whole, whole & (self.state.mask[where] == self.building)

    def _clear_object(self, kind: EventKind, row: int, target: int) -> int:
        """Give an object's ground to another class; returns its pixels."""
        objects = self.state.objects
        whole, footprint = self._object(row)
        self.instances[crop(objects.box(row))][whole] = 0
        self.removed.append(row)
        return self._change(kind, objects.ids[row], int(objects.numbers[row]), objects.box(row), footprint, target)

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
        while self._owes() and misses < _MAX_MISSES:
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
            if laid is None or not rules.min_area_px <= laid.footprint.sum() <= left + TOLERANCE * self.target_px:
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
        number = self._next_number()
        name = f"new{self.state.time_index:02d}-{number - self.state.next_number:03d}"
        self._register(number, name, laid.box, laid.footprint, laid.orientation_rad)
        self._change("create", name, number, laid.box, laid.footprint, self.building, laid.placement)

    def _next_number(self) -> int:
        return self.state.next_number + len(self.added) - len(self.state.objects)

    def _register(self, number: int, name: str, box: Box, footprint: BoolArray, orientation_rad: float) -> None:
        """Enter a new object in the instance map and the table."""
        self.instances[crop(box)][footprint] = number
        self.added = self.added.with_row(number, name, box, int(footprint.sum()), orientation_rad)

    def transition(self) -> None:
        """Let regions, and parts of them, change class by the matrix until the target is spent or nothing is open."""
        state, rules = self.state, self.rules
        assert rules.transitions is not None  # the rules see to it
        # Pixels of an instance change with it or not at all, whatever class a tree above them has.
        closed = state.settled | (self.mask != state.mask) | ((state.instances > 0) & (state.mask != self.building))
        ground = OpenGround(state.mask, closed)
        areas = ground.areas_px()
        drawable = drawable_classes(areas, rules.drawable)
        # A roof is copied whole: single pixels of roofs, even of the same tile, make no building.
        drawable[list(rules.schema.building_ids)] = bool(self.stock.exemplars)
        self.demand = Demand(rules.transitions, areas, drawable, self.target_px - self.used_px)
        while self._owes():
            pair = self.demand.draw(self.rng)
            if pair is None:
                break
            of, to = pair
            if of == self.building:
                changed = self._object_transition(to)
            elif to in rules.schema.building_ids:
                changed = self._building_transition(ground, of, to)
            else:
                changed = self._part_transition(ground, of, to)
            self.demand.account(pair, changed)
        if not self._owes():
            return
        names = [rules.schema.names[index] for index in self.demand.missing(drawable)]
        if names:
            self.shortages.append(f"nothing shows {', '.join(names)} to draw it from")
        if not self.demand.asked_px.any():
            self.shortages.append("the transitions are about none of the classes that may still change")
        else:
            self.shortages.append(f"no region left for {self.target_px - self.used_px:.0f} px of transitions")

    def _object_transition(self, to: int) -> int:
        """Let one whole building become another class; returns its pixels, 0 when none fits."""
        rows = self._removable()
        most_px = self.target_px - self.used_px + TOLERANCE * self.target_px
        rows = rows[self.state.objects.areas_px[rows] <= most_px]
        return self._clear_object("transition", int(rows[self.rng.integers(rows.size)]), to) if rows.size else 0

    def _part_transition(self, ground: OpenGround, of: int, to: int) -> int:
        """Let a region, or part of one, become another class; returns its pixels, 0 when none was found."""
        left_px, least_px = self.target_px - self.used_px, self.rules.min_area_px
        most_px = left_px + TOLERANCE * self.target_px
        meaning = openearthmap_name(self.rules.schema.names[to])
        road = meaning == "road"
        shape: Shape = "strip" if road else "patch" if meaning in _NATURAL else "parcel"
        share = math.exp(self.rng.uniform(*np.log(_PARCEL_SHARE)))
        wanted_px = self.rng.uniform(*_STRIP_PX) if road else share * self.target_px
        assert self.rules.transitions is not None
        grows = self.rng.random() < self.rules.transitions.growth
        for attempt in range(_MAX_SEEDS):
            # What would remain to be changed must be enough for another event.
            wanted_px = left_px if left_px - wanted_px < least_px else wanted_px
            wanted_px = max(wanted_px, least_px)
            # Borders may have nothing left but slivers: then the new class appears elsewhere.
            at_border = grows and attempt < _MAX_SEEDS // 2
            seed = ground.seed(of, to if at_border else None, self.rng) or ground.seed(of, None, self.rng)
            if seed is None or wanted_px > most_px:
                return 0
            limits_px = (max(least_px, wanted_px / 2) if road else least_px, most_px)
            part = ground.cut(seed, wanted_px, limits_px, shape, self.rng)
            if part is not None:
                ground.take(*part)
                return self._change("transition", self._edit_name(), 0, *part, to)
            wanted_px *= 0.7
        return 0

    def _building_transition(self, ground: OpenGround, of: int, to: int) -> int:
        """Let a plot become a building: a real one, laid as a creation is, on ground of one class only."""
        left_px, least_px = self.target_px - self.used_px, self.rules.min_area_px
        blocked = ground.values != of
        room_px = left_px + _AIM * self.target_px
        for _ in range(_MAX_SEEDS):
            choice = creation_size(self.stock, left_px, room_px, least_px, self.rng)
            seed = ground.seed(of, None, self.rng)
            if choice is None or seed is None:
                return 0
            exemplar, scale = choice
            mirrored = bool(self.rng.random() < MIRROR_SHARE)
            laid = lay_at(np.asarray(seed), exemplar, scale, mirrored, blocked, self.added)
            fits = laid is not None and least_px <= laid.footprint.sum() <= left_px + TOLERANCE * self.target_px
            if laid is not None and fits and self._stands_free(laid.box, laid.footprint):
                ground.take(laid.box, laid.footprint)
                return self._found(to, laid)
            room_px = max(0.9 * exemplar.area_px * scale**2, least_px)  # try something smaller
        return 0

    def _found(self, to: int, laid: Laid) -> int:
        """Write a building that land became; it is an object from now on."""
        name, number = self._edit_name(), 0
        if to == self.building:
            number = self._next_number()
            self._register(number, name, laid.box, laid.footprint, laid.orientation_rad)
        return self._change("transition", name, number, laid.box, laid.footprint, to, laid.placement)

    def _edit_name(self) -> str:
        return f"edit{self.state.time_index:02d}-{len(self.events):03d}"

    def _stands_free(self, box: Box, footprint: BoolArray) -> bool:
        """Whether a new building keeps its distance from all others, those that go in this step too."""
        gap = self.rules.min_gap_px
        wide = pad_box(box, gap, self.mask.shape)
        grown = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), dtype=bool)
        grown[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = footprint
        masks = np.stack([self.state.mask[crop(wide)], self.mask[crop(wide)]])
        return not (dilate(grown, gap) & np.isin(masks, self.rules.schema.building_ids)).any()

    def _change(
        self,
        kind: EventKind,
        object_id: str,
        number: int,
        box: Box,
        footprint: BoolArray,
        to_class: int,
        placement: Placement | None = None,
    ) -> int:
        """Write one event into the next mask and log it; the only place where a mask changes. Returns its pixels."""
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
        return area

    def transition_reports(self) -> tuple[TransitionReport, ...]:
        """What the matrix asked for and got, by pair of classes."""
        if self.demand is None:
            return ()
        asked, reached = self.demand.asked_px, self.demand.reached_px
        pairs = np.argwhere((asked > 0) | (reached > 0)).tolist()
        return tuple(TransitionReport(a, b, round(float(asked[a, b]), 1), int(reached[a, b])) for a, b in pairs)

    def finish(self) -> SeriesState:
        """The state at the next date."""
        return replace(
            self.state,
            mask=self.mask,
            instances=self.instances,
            objects=self.added.without(self.removed),
            settled=self.state.settled | (self.mask != self.state.mask),
            next_number=self._next_number(),
            time_index=self.state.time_index + 1,
        )
