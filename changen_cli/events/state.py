"""What a step starts from: the rules, and the state of a series at one date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, get_args

import numpy as np

from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.types import BoolArray, ClassSchema, EventKind, Int32Array, Scene, UInt8Array
from changen_cli.events.footprints import scene_instances
from changen_cli.events.habits import Habits, measure_habits
from changen_cli.events.hazards import Damage
from changen_cli.events.regions import FloatArray, ObjectTable, measure_objects, road_pixels
from changen_cli.events.transitions import Transitions

if TYPE_CHECKING:
    from changen_cli.events.demography import Demography
    from changen_cli.events.growth import Site


@dataclass(frozen=True)
class EventRules:
    """What may happen in a step.

    Attributes:
        schema: The classes.
        kinds: The event kinds that may happen.
        change_area: Smallest and largest changed share of the tile's pixels per step, 0 < lo <= hi <= 1.
        min_area_px: No event is smaller.
        min_gap_px: Free pixels between a created object and any other.
        transitions: The matrix transitions follow; needed when they may happen.
        damage: The disaster; needed when buildings may be damaged.
        drawable: Classes whose pixels can be drawn even where the tile shows none.
        demography: Yearly rates of the kinds that follow them instead of ``change_area``.
        surfaces: Classes new buildings may stand on; every ground class when empty.
    """

    schema: ClassSchema
    kinds: tuple[EventKind, ...] = ("create", "remove")
    change_area: tuple[float, float] = (0.02, 0.10)
    min_area_px: int = 64
    min_gap_px: int = 4
    transitions: Transitions | None = None
    damage: Damage | None = None
    drawable: frozenset[int] = field(default_factory=frozenset)
    demography: Demography | None = None
    surfaces: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        low, high = self.change_area
        if not 0.0 < low <= high <= 1.0:
            raise UsageError(f"change_area ({low}, {high}) is not a range within (0, 1]")
        if not self.kinds or set(self.kinds) - set(get_args(EventKind)):
            raise UsageError(f"event kinds {self.kinds} are not known", f"Use some of {', '.join(get_args(EventKind))}")
        if "transition" in self.kinds and self.transitions is None:
            raise UsageError("transitions have no matrix", "Pass transitions")
        if "damage" in self.kinds and (self.damage is None or not self.schema.damage_ids):
            raise UsageError("damage has no disaster, or no classes to say it in", "Pass damage; use with_damage()")
        if self.min_area_px < 1 or self.min_gap_px < 0:
            raise UsageError("min_area_px must be at least 1 and min_gap_px at least 0")


@dataclass(frozen=True, eq=False)
class SeriesState:
    """Everything a step starts from; no step changes it in place.

    Attributes:
        scene: Date 0, with object numbers.
        mask: Semantic mask S_t, uint8 ``[H, W]``.
        instances: Object numbers, int32 ``[H, W]``.
        objects: The objects present, measured once and kept up to date.
        settled: bool ``[H, W]``, pixels nothing may happen to any more: changed earlier, avoided, or a building site.
        first_created: Object numbers from here on were created in this series; they are never removed.
        next_number: The next free object number.
        habits: How the buildings of date 0 stand; measured when first asked for, and kept.
        time_index: The step t that comes next.
        sites: Buildings under construction.
        reshaped: Numbers of objects with another outline than at date 0; they are left alone from then on.
        turns: When the disaster hits which object, by object number, float64 ``[first_created]`` in (0, 1); inf for
            those it will not. None until it is drawn, by the first step that needs it.
        gsd_m: Metres per pixel; None when the scene does not say.
        edges: uint8 ``[H, W]``, edges of the image that cuts through regions follow; None when they need not.
    """

    scene: Scene
    mask: UInt8Array
    instances: Int32Array
    objects: ObjectTable
    settled: BoolArray
    first_created: int
    next_number: int
    habits: Callable[[], Habits]
    time_index: int = 0
    sites: tuple[Site, ...] = ()
    reshaped: frozenset[int] = frozenset()
    turns: FloatArray | None = None
    gsd_m: float | None = None
    edges: UInt8Array | None = None


def start_series(scene: Scene, schema: ClassSchema, avoid: BoolArray | None = None) -> SeriesState:
    """The state at date 0. Connected regions stand in for objects when the scene has no instance map.

    Raises:
        SceneError: The scene has no mask.
    """
    if scene.mask is None:
        raise SceneError(f"scene {scene.id} has no semantic mask", "Give it one, or leave events to a labelled folder")
    instances = scene_instances(scene, schema.object_ids)
    objects = measure_objects(scene.mask, instances, schema.object_ids, scene.uids)
    settled = np.zeros(scene.mask.shape, dtype=bool) if avoid is None else avoid.astype(bool)
    first = 1 + max(int(instances.max(initial=0)), len(scene.uids))
    mask, scene = scene.mask, replace(scene, instances=instances)
    habits = cache(lambda: measure_habits(instances, objects, road_pixels(mask, schema), scene.image))
    return SeriesState(scene, mask, instances, objects, settled, first, first, habits, gsd_m=scene.gsd_m)
