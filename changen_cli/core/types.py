"""The data types that flow through read → simulate → synthesise → write.

Words: a *scene* is one single-date input; a *sample* is one generated time series; a *step* leads from date
t to date t+1; an *event* is one change of one object. Arrays are ``[H, W]`` in pixels, row first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from changen_cli.core.damage import DAMAGE_STATES

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Half-open pixel box ``(row0, col0, row1, col1)``."""
GeoTransform = tuple[float, float, float, float, float, float]
"""Affine coefficients ``(a, b, c, d, e, f)``: x = a*col + b*row + c, y = d*col + e*row + f (rasterio order)."""

EventKind = Literal["create", "remove", "swap", "transition", "grow", "alter", "damage"]

IGNORE = 255
"""Semantic mask value of pixels whose class is unknown. It never changes and is never a target."""

# Words in a class name that carry a meaning for event simulation, lower case.
_BUILDING_WORDS = frozenset({"building", "buildings", "house", "houses", "roof", "roofs"})
_FORBIDDEN_WORDS = frozenset(
    {"road", "roads", "street", "asphalt", "highway", "railway", "water", "river", "sea", "lake", "pool"}
)
_NEGATIONS = frozenset({"no", "non", "not", "background"})
_UNKNOWN_NAMES = frozenset({"unknown", "unlabelled", "unlabeled", "ignore", "nodata", "no-data", "no data"})

_PALETTE = (
    (0, 0, 0), (222, 31, 7), (214, 178, 120), (160, 160, 160), (60, 150, 60), (0, 69, 255),
    (75, 181, 73), (148, 0, 148), (255, 196, 0), (0, 170, 170), (128, 0, 0), (90, 90, 160),
)  # fmt: skip
_DAMAGE_PALETTE = ((124, 222, 92), (255, 224, 64), (255, 128, 0), (205, 0, 30))  # green to red, as in xView2's figures


@dataclass(frozen=True)
class ClassSchema:
    """The classes of a semantic mask, in id order.

    Attributes:
        names: One name per class id, starting at 0.
        ignore_index: Mask value of unknown pixels.
        class_agnostic: The masks are proposals, not labels: class 0 is where no object was found, class 1 some object.
            It plays the part of the building class in events, and tells a model nothing.
    """

    names: tuple[str, ...] = ("background", "building")
    ignore_index: int = IGNORE
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= 255:
            raise ValueError("a class schema holds 1 to 255 classes")
        if self.class_agnostic and len(self.names) != 2:
            raise ValueError("a class-agnostic schema holds two classes: no object, and object")

    @property
    def colors(self) -> UInt8Array:
        """Display colours, uint8 ``[K, 3]``; buildings are red, or green to red by their damage, background black."""
        table = [_PALETTE[i % len(_PALETTE)] for i in range(len(self.names))]
        if self.building_id is not None:
            table[self.building_id] = _PALETTE[1]
            if self.building_id != 1 and len(table) > 1:
                table[1] = _PALETTE[self.building_id % len(_PALETTE)]
        for index, color in zip(self.damage_ids, _DAMAGE_PALETTE, strict=False):
            table[index] = color
        return np.asarray(table, dtype=np.uint8)

    def _named(self, words: frozenset[str]) -> tuple[int, ...]:
        """Ids of the classes with one of ``words`` in their name, unless it is negated."""
        found = []
        for index, name in enumerate(self.names):
            parts = set(re.split(r"[^a-z]+", name.lower()))
            if parts & words and not parts & _NEGATIONS:
                found.append(index)
        return tuple(found)

    @property
    def building_ids(self) -> tuple[int, ...]:
        """Ids of the classes that are buildings, damaged ones too; or of the object of proposals."""
        if self.class_agnostic:
            return (1,)
        return tuple(dict.fromkeys((*self.damage_ids, *self._named(_BUILDING_WORDS))))

    @property
    def standing_ids(self) -> tuple[int, ...]:
        """Those of :attr:`building_ids` that are buildings still: all but the destroyed."""
        return tuple(index for index in self.building_ids if index not in self.damage_ids[-1:])

    @property
    def building_id(self) -> int | None:
        """Id of the class whose objects are created: the first of :attr:`building_ids`, or None."""
        return next(iter(self.building_ids), None)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids an object's pixels may have: the states of damage where the classes know them, else the building's."""
        return self.damage_ids or self.building_ids[:1]

    @property
    def damage_ids(self) -> tuple[int, ...]:
        """Ids of the four states of damage, from none to destroyed, by their names in xBD; empty without all of them.

        Where no class is called ``no-damage``, the first one named like a building is that.
        """
        lower = [name.lower() for name in self.names]
        whole = self._named(_BUILDING_WORDS)[:1] if DAMAGE_STATES[0] not in lower else ()
        ids = (*whole, *(lower.index(state) for state in DAMAGE_STATES if state in lower))
        return ids if len(ids) == len(DAMAGE_STATES) else ()

    def with_damage(self) -> ClassSchema:
        """These classes and the states of damage.

        Masks of background and building get xBD's coding, 0 to 4. In others the building class keeps its id and means
        no damage; the three worse states follow after the last class.
        """
        if self.damage_ids:
            return self
        if len(self.names) == 2 and self.building_id == 1:
            return replace(self, names=(self.names[0], *DAMAGE_STATES))
        known = [name.lower() for name in self.names]
        return replace(self, names=(*self.names, *(state for state in DAMAGE_STATES[1:] if state not in known)))

    @property
    def building_name(self) -> str:
        """What one of the objects that change is called in messages."""
        return "object" if self.class_agnostic else "building"

    @property
    def forbidden_ids(self) -> tuple[int, ...]:
        """Ids of the classes nothing is ever built on (roads, water)."""
        return self._named(_FORBIDDEN_WORDS)

    @property
    def ground_ids(self) -> tuple[int, ...]:
        """Ids of free ground: neither building, road, water nor unknown."""
        taken = {*self.building_ids, *self.forbidden_ids, *self.unknown_ids, self.ignore_index}
        return tuple(index for index in range(len(self.names)) if index not in taken)

    @property
    def unknown_ids(self) -> tuple[int, ...]:
        """Ids that mean "not labelled"; sources rewrite them to :attr:`ignore_index`."""
        return tuple(i for i, name in enumerate(self.names) if name.lower() in _UNKNOWN_NAMES)


@dataclass(frozen=True, eq=False)
class Scene:
    """One single-date input, already cut to the tile that will be generated.

    Attributes:
        id: Unique within a run and safe as a file name.
        group: The place or source image; splits are drawn by group, never by sample.
        image: uint8 ``[H, W, 3]``, RGB.
        mask: uint8 ``[H, W]`` semantic mask (class ids, 255 = unknown), or None when unlabelled.
        instances: int32 ``[H, W]``, 0 where no object, else object number 1..N.
        uids: Object names of the source; ``uids[n - 1]`` belongs to object number ``n``. Empty when it has none.
        gsd_m: Ground sampling distance in metres per pixel, or None.
        crs: Coordinate reference system as WKT, or None.
        transform: Geotransform of this tile, or None.
        source_path: The image file, relative to the input folder, with ``/``.
        notes: What reading did: stretch, bands left out, georeference residual, resampling.
    """

    id: str
    group: str
    image: UInt8Array
    mask: UInt8Array | None = None
    instances: Int32Array | None = None
    uids: tuple[str, ...] = ()
    gsd_m: float | None = None
    crs: str | None = None
    transform: GeoTransform | None = None
    source_path: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skip:
    """A scene that was not used, and why.

    Attributes:
        path: The file, relative to the input folder.
        reason: One line for the user.
        failed: True for a broken file; False for one that is merely out of scope (too small, no labels).
    """

    path: str
    reason: str
    failed: bool = True


@dataclass(frozen=True, eq=False)
class Exemplar:
    """A real object cut out with its margin: the footprint and the pixels a created object is made from.

    Attributes:
        scene_id: The scene it was cut from.
        object_id: Its object id there.
        box: Where it was cut, in scene pixels, margin included.
        image: uint8 ``[h, w, 3]``.
        footprint: bool ``[h, w]``, the object itself.
        others: bool ``[h, w]``, pixels of other objects or unknown class, never to be copied.
        orientation_rad: Direction of the dominant edge, in [0, pi/2), counter-clockwise in (col, -row) axes.
        gsd_m: Ground sampling distance of its scene, or None.
        shadow_rad: Where shadows fall in its scene, counter-clockwise in (col, -row) axes; None when it does not show.
    """

    scene_id: str
    object_id: str
    box: Box
    image: UInt8Array
    footprint: BoolArray
    others: BoolArray
    orientation_rad: float
    gsd_m: float | None = None
    shadow_rad: float | None = None

    @property
    def area_px(self) -> int:
        """Footprint area in its own pixels."""
        return int(self.footprint.sum())


@dataclass(frozen=True, eq=False)
class Texture:
    """A piece of a scene that shows much of one class: what a region may be filled with where its own tile has none.

    Attributes:
        scene_id: The scene it was cut from.
        class_id: The class.
        image: uint8 ``[h, w, 3]``.
        usable: bool ``[h, w]``, the pixels of the class.
    """

    scene_id: str
    class_id: int
    image: UInt8Array
    usable: BoolArray


@dataclass(frozen=True, eq=False)
class Placement:
    """How an exemplar was laid onto a new site.

    Attributes:
        exemplar: The object it is made from.
        matrix: float64 ``[2, 3]``; maps scene ``(row, col, 1)`` to exemplar ``(row, col)``.
        rotation_rad: Turn applied to the exemplar, counter-clockwise.
        scale: Size factor applied.
        mirrored: Whether it was flipped left to right before turning.
    """

    exemplar: Exemplar
    matrix: npt.NDArray[np.float64]
    rotation_rad: float
    scale: float
    mirrored: bool


@dataclass(frozen=True, eq=False)
class ChangeEvent:
    """One logged change of one object.

    Attributes:
        object_id: Persistent through the series: the source's uid where it has one.
        instance: The object's number in the instance maps; 0 for a region, which has none there.
        time_index: The step t, leading from date t to date t+1.
        kind: What happened.
        from_class: Class before; the most frequent one where the footprint lay on several.
        to_class: Class after.
        bbox: Box of the changed pixels.
        area_px: Number of changed pixels.
        polygon: WKT in pixel coordinates ``(col row)`` along pixel edges; filling it gives exactly the changed pixels.
        from_areas_px: Changed pixels by class before.
        placement: For a creation, for ground that became a building, and for the new place of an object that moved: the
            exemplar and its placement.
        stage: Of a building under construction: ``"cleared"``, ``"foundation"`` or ``"roof"``; of an altered one
            ``"extended"`` or ``"torn"``.
        split_into: Ids of further objects it left when a part of it went; the largest keeps its own.
        merged_from: Ids of other objects that became one with it, and are none any more.
        quality: Figures of how it was drawn, by name; empty where nobody measured.
    """

    object_id: str
    instance: int
    time_index: int
    kind: EventKind
    from_class: int
    to_class: int
    bbox: Box
    area_px: int
    polygon: str
    from_areas_px: dict[int, int]
    placement: Placement | None = None
    stage: str = ""
    split_into: tuple[str, ...] = ()
    merged_from: tuple[str, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TransitionReport:
    """Pixels asked and reached of one entry of the transition matrix in one step."""

    from_class: int
    to_class: int
    asked_px: float
    reached_px: int


@dataclass(frozen=True)
class StepReport:
    """What one step was asked to change and what it changed, as shares of the tile in [0, 1]."""

    time_index: int
    asked: float
    reached: float
    met: bool
    note: str = ""
    transitions: tuple[TransitionReport, ...] = ()


@dataclass(frozen=True, eq=False)
class MaskSeries:
    """The simulated masks of one sample: p(S_0..S_T) of Changen2, before any image exists.

    Attributes:
        masks: uint8 ``[T, H, W]`` semantic masks.
        instances: int32 ``[T, H, W]`` object numbers, persistent through the series; 0 where no object.
        events: Every change, ordered by step.
        reports: One per step.
        objects: Number → object id, of every object that stands at some date.
    """

    masks: UInt8Array
    instances: Int32Array
    events: tuple[ChangeEvent, ...]
    reports: tuple[StepReport, ...]
    objects: dict[int, str]


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """One sample: what a writer receives.

    Attributes:
        id: Unique, safe as a file name.
        scene: Where date 0 came from.
        variant: The k-th sample of that scene.
        seed: The recipe's seed.
        images: uint8 ``[T, H, W, 3]``; None where a run makes masks only.
        masks: uint8 ``[T, H, W]``, class ids, 255 = ignore.
        instances: int32 ``[T, H, W]`` object numbers, persistent through the series; 0 where no object.
        objects: Number → object id, of every object that stands at some date.
        events: Every change, ordered by step.
        reports: One per step.
        split: The dataset split it belongs to.
        calendar: T calendar dates as given, e.g. ``2018-01``; empty where the dates have none.
        info: Further figures for its metadata row: JSON scalars, or lists of scalars or of flat records.
    """

    id: str
    scene: Scene
    variant: int
    seed: int
    images: UInt8Array | None
    masks: UInt8Array
    instances: Int32Array
    objects: Mapping[int, str]
    events: Sequence[ChangeEvent]
    reports: Sequence[StepReport] = ()
    split: str = "train"
    calendar: tuple[str, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def change_masks(self) -> BoolArray:
        """Bool ``[T-1, H, W]``: ``S_t != S_{t+1}``, the definition of change."""
        return np.asarray(self.masks[1:] != self.masks[:-1])
