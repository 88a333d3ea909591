"""One step in the making: the next date's arrays, and the log of every change that led there."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import BoolArray, Box, ChangeEvent, EventKind, Placement, TransitionReport
from changen_cli.events.footprints import Stock
from changen_cli.events.habits import Habits
from changen_cli.events.laying import Laid
from changen_cli.events.neighbours import Neighbours
from changen_cli.events.regions import (
    FloatArray,
    ObjectRow,
    ObjectTable,
    class_counts,
    class_table,
    crop,
    ground_table,
    polygon_wkt,
    tighten,
)
from changen_cli.events.state import EventRules, SeriesState

if TYPE_CHECKING:
    from changen_cli.events.growth import Site

TOLERANCE = 0.2
"""A step is met within this share of what was asked, ..."""
AIM = 0.1
"""... and is aimed at within this."""
ASSUMED_GSD_M = 0.5
"""Metres per pixel of scenes that do not say theirs."""


class Step:
    """The next date's arrays and the events that led there; the kinds of events write into it.

    Attributes:
        state: Date t; never changed.
        rules: What may happen.
        stock: Exemplars to create objects from.
        rng: The step's generator; the only source of chance.
        target_px: Area to change so far; kinds take their turns, each with a higher target.
        used_px: Area changed so far.
        building: The class of new buildings; -1 when there is none.
        built: bool ``[256]``, the mask values of objects, damaged ones too.
        ground: bool ``[256]``, the mask values that are free ground.
        mask: uint8 ``[H, W]``, S_{t+1} in the making. Only :meth:`change` writes to it.
        instances: int32 ``[H, W]``, its objects.
        removed: Rows of ``state.objects`` that are gone.
        closed: bool ``[H, W]``, pixels nothing may happen to any more: changed in the series, avoided, or claimed.
        sites: Buildings under construction at the next date.
        altered: Rows of ``state.objects`` that stay and have changed in some way; once is enough in a step.
        replaced: Rows of ``state.objects`` that are entered anew, with another outline.
        turns: When the disaster hits which object, see :class:`SeriesState`.
        events: What happened, in order.
        shortages: Why something asked for did not happen.
        remarks: What is worth saying though the step was met.
        transitions: What the matrix asked for and got, by pair of classes.
    """

    def __init__(
        self, state: SeriesState, rules: EventRules, stock: Stock, rng: np.random.Generator, target_px: float
    ) -> None:
        self.state, self.rules, self.stock, self.rng = state, rules, stock, rng
        self.target_px = target_px
        self.ground = ground_table(rules.schema)
        self.building = -1 if rules.schema.building_id is None else rules.schema.building_id
        self.mask, self.instances = state.mask.copy(), state.instances.copy()
        self.closed = state.settled.copy()
        self.sites: list[Site] = []
        self._added = state.objects
        self._entered: list[ObjectRow] = []
        self.built = class_table(rules.schema.object_ids)
        self.removed: list[int] = []
        self.altered: list[int] = []
        self.replaced: list[int] = []
        self.turns: FloatArray | None = state.turns
        self.events: list[ChangeEvent] = []
        self.shortages: list[str] = []
        self.remarks: list[str] = []
        self.used_px = 0
        self.transitions: tuple[TransitionReport, ...] = ()

    @property
    def habits(self) -> Habits:
        """How the buildings of date 0 stand."""
        return self.state.habits()

    @cached_property
    def usual_ground(self) -> int:
        """The tile's most frequent ground class; the first one of the schema where it shows none."""
        counts = class_counts(self.state.mask, self.ground)
        return int((counts if counts.any() else self.ground).argmax())

    @property
    def added(self) -> ObjectTable:
        """The objects present and those created; the removed ones leave it at the end."""
        if self._entered:  # joined here, not one by one: that would be quadratic in the objects
            self._added = self._added.with_rows(self._entered)
            self._entered = []
        return self._added

    @cached_property
    def neighbours(self) -> Neighbours:
        """The objects present and those created, by place."""
        return Neighbours(self.added)

    @property
    def left_px(self) -> float:
        """Area still to be changed."""
        return self.target_px - self.used_px

    def owes(self) -> bool:
        """Whether more is to change than the aim lets pass."""
        return self.used_px < (1 - AIM) * self.target_px

    def pixel_m(self) -> float:
        """Metres per pixel; assumed, and remarked on, where the scene does not say."""
        if self.state.gsd_m is not None:
            return self.state.gsd_m
        remark = f"no ground sampling distance: a pixel was taken for {ASSUMED_GSD_M:g} m"
        self.remarks += [] if remark in self.remarks else [remark]
        return ASSUMED_GSD_M

    def objects_can_change(self) -> bool:
        """Whether the classes know a building and ground to put it on."""
        return self.building >= 0 and bool(self.ground.any())

    def object(self, row: int) -> tuple[BoolArray, BoolArray]:
        """The pixels of an object in its box: the whole instance, and those of the building classes."""
        where = crop(self.state.objects.box(row))
        whole = np.asarray(self.state.instances[where] == self.state.objects.numbers[row])
        return whole, whole & self.built[self.state.mask[where]]

    def object_classes(self) -> npt.NDArray[np.int64]:
        """The class of every object of date t, int64 ``[N]``: of several states of damage the worst."""
        ids = self.rules.schema.object_ids
        classes = np.full(self.state.next_number, ids[0], dtype=np.int64)
        for index in ids[1:]:
            classes[self.state.instances[self.state.mask == index]] = index
        return classes[self.state.objects.numbers]

    def clear_object(self, kind: EventKind, row: int, target: int) -> int:
        """Give an object's ground to another class; returns its pixels."""
        objects = self.state.objects
        whole, footprint = self.object(row)
        self.instances[crop(objects.box(row))][whole] = 0
        self.removed.append(row)
        return self.change(kind, objects.ids[row], int(objects.numbers[row]), objects.box(row), footprint, target)

    def alter_object(self, row: int, to_class: int, placement: Placement | None = None) -> int:
        """Give an object another state of damage; it stays where it is. Returns its pixels."""
        objects, box = self.state.objects, self.state.objects.box(row)
        self.altered.append(row)
        footprint, number = self.object(row)[1], int(objects.numbers[row])
        return self.change("damage", objects.ids[row], number, box, footprint, to_class, placement)

    def next_number(self) -> int:
        """The number of the next object created."""
        return self.state.next_number + len(self._added) + len(self._entered) - len(self.state.objects)

    def register(self, number: int, name: str, laid: Laid) -> None:
        """Enter a new object in the instance map and the table."""
        self.instances[crop(laid.box)][laid.footprint] = number
        self.enter(number, name, laid.box, int(laid.footprint.sum()), laid.orientation_rad)

    def enter(self, number: int, name: str, box: Box, area_px: int, orientation_rad: float) -> None:
        """Enter an object in the table."""
        self._entered.append((number, name, box, area_px, orientation_rad))
        if "neighbours" in self.__dict__:  # asked for before: kept up to date
            self.neighbours.add((box[0] + box[2] - 1) / 2, (box[1] + box[3] - 1) / 2, area_px, orientation_rad)

    def claim(self, box: Box, footprint: BoolArray) -> None:
        """Keep pixels for what stands there in a later step."""
        self.closed[crop(box)][footprint] = True

    def change(
        self,
        kind: EventKind,
        object_id: str,
        number: int,
        box: Box,
        footprint: BoolArray,
        to_class: int,
        placement: Placement | None = None,
        stage: str = "",
        split_into: tuple[str, ...] = (),
        merged_from: tuple[str, ...] = (),
    ) -> int:
        """Write one event into the next mask and log it; the only place where a mask changes. Returns its pixels."""
        before = np.bincount(self.state.mask[crop(box)][footprint], minlength=256)
        footprint, box = tighten(footprint, box)
        self.mask[crop(box)][footprint] = to_class
        self.closed[crop(box)][footprint] = True
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
                stage=stage,
                split_into=split_into,
                merged_from=merged_from,
            )
        )
        return area

    def finish(self) -> SeriesState:
        """The state at the next date."""
        return replace(
            self.state,
            mask=self.mask,
            instances=self.instances,
            objects=self.added.without([*self.removed, *self.replaced]).in_order(),
            settled=self.closed,
            sites=tuple(self.sites),
            reshaped=self.state.reshaped | set(self.state.objects.numbers[self.replaced].tolist()),
            turns=self.turns,
            next_number=self.next_number(),
            time_index=self.state.time_index + 1,
        )
