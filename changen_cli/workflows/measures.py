"""What is measured of drawn changes: do they show what the mask says, do they look real, is there a seam?

Everything here takes images, masks and events and returns numbers; the numerical parts are in
:mod:`changen_cli.synthesis.measures`. Scenes are those of one folder, dates those of one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.types import BoolArray, ChangeEvent, ClassSchema, Int32Array, Scene, UInt8Array

if TYPE_CHECKING:
    from changen_cli.synthesis.segmenter import LandCoverSegmenter

Array = npt.NDArray[np.float64]
Kind = Literal["create", "remove"]

NEAR_PX = 8
"""Pixels around a changed area that count for label agreement."""
RING_PX = 16
"""Pixels around a removed area that count: buildings nearby must stay recognisable."""
WINDOW_PX = 64
"""Side of the windows whose features are compared."""
# How far from its event a rim, with the ground its figures are relative to, may reach.
_REACH_PX = 40
_NO_OTHERS_PX = 2
_ROOM_PX = 8
_BESIDE_PX = 24
_NEAREST = 0.1


def building_map(segmenter: LandCoverSegmenter, image: UInt8Array) -> BoolArray:
    """Where building is the likeliest class, bool ``[H, W]``."""
    return np.asarray(segmenter.predict(image).argmax(axis=0) == OPENEARTHMAP.index("building"))


@dataclass
class _Overlap:
    """Pixels two maps share, and pixels at least one of them has."""

    both: int = 0
    either: int = 0

    def add(self, said: BoolArray, wanted: BoolArray, where: BoolArray) -> None:
        self.both += int((said & wanted & where).sum())
        self.either += int(((said | wanted) & where).sum())

    @property
    def iou(self) -> float:
        return self.both / self.either if self.either else float("nan")


class LabelAgreement:
    """Does a segmenter find in the drawn image what its mask says? Pooled over dates.

    The conditioning mask of a generator is its promise; the overlap with what a segmenter sees is the usual check
    (semantic image synthesis: Park et al., CVPR 2019). Feed it one date after the other with :meth:`add`.
    """

    def __init__(self) -> None:
        self._parts = {name: _Overlap() for name in ("all", "create", "remove", "remove_ring")}
        self._left = _Overlap()

    def add(self, said: BoolArray, wanted: BoolArray, created: BoolArray, removed: BoolArray) -> None:
        """Count one date.

        Args:
            said: bool ``[H, W]``, where the segmenter sees buildings.
            wanted: bool ``[H, W]``, where the mask has them.
            created: bool ``[H, W]``, pixels that became building.
            removed: bool ``[H, W]``, pixels that ceased to be one.
        """
        near = {"create": within(created, NEAR_PX), "remove": within(removed, NEAR_PX)}
        near |= {"all": near["create"] | near["remove"], "remove_ring": within(removed, RING_PX)}
        for name, where in near.items():
            self._parts[name].add(said, wanted, where)
        self._left.both += int((said & removed).sum())
        self._left.either += int(removed.sum())

    def figures(self) -> dict[str, float]:
        """Building IoU by area, and ``still_building``: the share of removed pixels still called building.

        ``iou_remove`` is low even for flawless removals, for what is left near them is little building;
        ``iou_remove_ring`` includes the neighbours. NaN where there was nothing to count.
        """
        return {f"iou_{name}": part.iou for name, part in self._parts.items()} | {"still_building": self._left.iou}


def within(area: BoolArray, distance_px: float) -> BoolArray:
    """Pixels within a distance of an area, bool ``[H, W]``, the area included."""
    from scipy import ndimage

    if not area.any():
        return area
    return np.asarray(ndimage.distance_transform_edt(~area) <= distance_px)


def centred_window(image: UInt8Array, row: float, col: float, size: int = WINDOW_PX) -> UInt8Array:
    """A square window about a point, shifted into the image at its edges; uint8 ``[size, size, 3]``.

    Raises:
        ValueError: When the image is smaller than the window.
    """
    height, width = image.shape[:2]
    if min(height, width) < size:
        raise ValueError(f"no window of {size} px fits an image of {height} x {width}")
    top = int(np.clip(round(row - size / 2), 0, height - size))
    left = int(np.clip(round(col - size / 2), 0, width - size))
    return image[top : top + size, left : left + size]


def event_window(image: UInt8Array, event: ChangeEvent, size: int = WINDOW_PX) -> UInt8Array:
    """The window about the middle of an event's box."""
    row0, col0, row1, col1 = event.bbox
    return centred_window(image, (row0 + row1) / 2, (col0 + col1) / 2, size)


def real_windows(
    scenes: Sequence[Scene], schema: ClassSchema, kind: Kind, count: int, rng: np.random.Generator
) -> list[UInt8Array]:
    """Windows of real scenes that a created or removed object's window should look like.

    Args:
        scenes: Labelled scenes.
        schema: Their classes.
        kind: ``"create"``: windows about whole buildings; ``"remove"``: about free ground near buildings, for that is
            where buildings are removed.
        count: Windows wanted at most, of every scene in turn.
        rng: Source of all randomness.

    Returns:
        uint8 ``[64, 64, 3]`` each.
    """
    queues: list[list[UInt8Array]] = []
    for index in rng.permutation(len(scenes)):
        scene = scenes[index]
        places = _places(scene, schema, kind)
        chosen = rng.permutation(len(places))[:count]
        queues.append([centred_window(scene.image, *places[i]) for i in chosen])
    # One of every scene in turn: a scene with many objects must not stand for all.
    dealt = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
    return dealt[:count]


def _places(scene: Scene, schema: ClassSchema, kind: Kind) -> list[tuple[float, float]]:
    """Middles of whole buildings; or, every few pixels, ground near buildings with room for a small house."""
    from scipy import ndimage

    if scene.mask is None or min(scene.mask.shape) < WINDOW_PX:
        return []
    buildings = np.isin(scene.mask, schema.building_ids)
    if kind == "create":
        objects = ndimage.label(buildings)[0].astype(np.int32) if scene.instances is None else scene.instances
        return [((r.start + r.stop) / 2, (c.start + c.stop) / 2) for r, c in _whole_boxes(objects)]
    ground = ndimage.binary_erosion(np.isin(scene.mask, schema.ground_ids), iterations=_ROOM_PX)
    spots = np.argwhere(ground & within(buildings, _BESIDE_PX))
    return [(float(row), float(col)) for row, col in spots[:: max(1, len(spots) // 500)]] if buildings.any() else []


def _whole_boxes(objects: Int32Array, min_area_px: int = 64) -> list[tuple[slice, slice]]:
    """Boxes of the objects that do not touch the edge of the scene."""
    from scipy import ndimage

    height, width = objects.shape
    return [
        box
        for number, box in enumerate(ndimage.find_objects(objects), start=1)
        if box is not None
        and min(box[0].start, box[1].start) > 0
        and box[0].stop < height
        and box[1].stop < width
        and (objects[box] == number).sum() >= min_area_px
    ]


@dataclass(frozen=True, eq=False)
class RimSet:
    """The rim of one drawn event and others of the same shape, each as ``rim_statistics`` describes it.

    Attributes:
        kind: What the event was.
        drawn: Of the drawn image.
        real: Of the counterpart in real pixels.
        ground: Laid on free ground of the scene; for a removal that is the counterpart. None where there is no room.
        site: Of the same pixels as ``drawn`` before the change: tells what the site alone gives away.
    """

    kind: Kind
    drawn: Array
    real: Array
    ground: Array | None
    site: Array


def rim_sets(
    scene: Scene,
    after: UInt8Array,
    masks: UInt8Array,
    instances: Int32Array,
    events: Sequence[ChangeEvent],
    schema: ClassSchema,
    scenes: Mapping[str, Scene],
    rng: np.random.Generator,
) -> list[RimSet]:
    """Describe the rim of every event, and real ones of the same shape.

    A created object's counterpart is the real object it was made from: the redrawn area is laid around that one in
    its own scene. A removed one's is laid on free ground nearby. Only ground and the object itself are
    looked at, on both sides; events of whose rim too little is left are passed over.

    Args:
        scene: The scene before the change.
        after: uint8 ``[H, W, 3]``, the drawn date; unchanged pixels kept exactly.
        masks: uint8 ``[2, H, W]``, before and after.
        instances: int32 ``[2, H, W]``, before and after.
        events: The step's events.
        schema: Classes of the masks.
        scenes: Scenes by id, for the objects creations were made from.
        rng: Source of all randomness.

    Returns:
        One per event that has a counterpart.
    """
    from scipy import ndimage

    from changen_cli.synthesis.measures import redrawn_area, rim_statistics

    area = redrawn_area(scene.image, after)
    owners = np.zeros(area.shape, dtype=np.int32)
    for number, event in enumerate(events, start=1):
        objects = instances[1] if event.kind == "create" else instances[0]
        owners[(objects == event.instance) & (masks[0] != masks[1])] = number
    if not owners.any() or not area.any():
        return []
    nearest = ndimage.distance_transform_edt(owners == 0, return_distances=False, return_indices=True)
    owners = owners[tuple(nearest)]
    free = np.isin(masks, schema.ground_ids)
    ground = ~within(~free[0], _NO_OTHERS_PX)
    found = []
    for number, event in enumerate(events, start=1):
        if event.kind not in ("create", "remove"):
            continue
        kind: Kind = "create" if event.kind == "create" else "remove"
        where = tuple(
            slice(max(0, low - _REACH_PX), min(extent, high + _REACH_PX))
            for low, high, extent in zip(event.bbox[:2], event.bbox[2:], area.shape, strict=True)
        )
        shape, mine = area[where], owners[where] == number
        own = kind == "create"
        # Ground only: a road or a neighbour's roof beside one rim and not beside the other would be told apart.
        others = ~free[1][where] & ~(own & (instances[1][where] == event.instance))
        if not own:  # before the change its own pixels were building too; those may be looked at
            others |= ~free[0][where] & (instances[0][where] != event.instance)
        usable = mine & ~within(others, _NO_OTHERS_PX)
        drawn = rim_statistics(after[where], shape, usable)
        site = rim_statistics(scene.image[where], shape, usable)
        middle = tuple((low + high) / 2 for low, high in zip(event.bbox[:2], event.bbox[2:], strict=True))
        on_ground = _on_ground(scene.image, ground, shape, mine, middle, rng)
        corner = (where[0].start, where[1].start)
        real = _around_exemplar(event, corner, shape, mine, schema, scenes) if own else on_ground
        if drawn is not None and site is not None and real is not None:
            found.append(RimSet(kind, drawn, real, on_ground, site))
    return found


def _around_exemplar(
    event: ChangeEvent,
    corner: tuple[int, int],
    shape: BoolArray,
    mine: BoolArray,
    schema: ClassSchema,
    scenes: Mapping[str, Scene],
) -> Array | None:
    """Statistics of the redrawn area laid around the real object a creation was made from."""
    from changen_cli.synthesis.measures import rim_statistics

    placement = event.placement
    scene = scenes.get(placement.exemplar.scene_id) if placement else None
    if placement is None or scene is None or scene.mask is None:
        return None
    exemplar = placement.exemplar
    linear, offset = placement.matrix[:, :2], placement.matrix[:, 2]
    inverse = np.linalg.inv(linear)
    row0, col0, row1, col1 = exemplar.box
    where = tuple(
        slice(max(0, low - _REACH_PX), min(extent, high + _REACH_PX))
        for low, high, extent in zip((row0, col0), (row1, col1), scene.mask.shape, strict=True)
    )
    rows, cols = np.mgrid[where]
    local = np.stack([rows - row0, cols - col0]).reshape(2, -1) - offset[:, None]
    points = np.rint(inverse @ local).astype(int) - np.array(corner)[:, None]
    inside = ((points >= 0) & (points < np.array(shape.shape)[:, None])).all(axis=0)
    points = np.where(inside, points, 0)
    laid = (shape[points[0], points[1]] & inside).reshape(rows.shape)
    looked = (mine[points[0], points[1]] & inside).reshape(rows.shape)
    others = ~np.isin(scene.mask[where], schema.ground_ids)
    crop = (slice(row0 - where[0].start, row1 - where[0].start), slice(col0 - where[1].start, col1 - where[1].start))
    others[crop] &= ~exemplar.footprint
    return rim_statistics(scene.image[where], laid, looked & ~within(others, _NO_OTHERS_PX))


def _on_ground(
    image: UInt8Array,
    ground: BoolArray,
    shape: BoolArray,
    mine: BoolArray,
    middle: tuple[float, ...],
    rng: np.random.Generator,
) -> Array | None:
    """Statistics of the redrawn area laid on ground: one of the nearest places where most of its rim is on ground."""
    from scipy import ndimage, signal

    from changen_cli.synthesis.measures import FAR_PX, RIM_PX, rim_statistics

    own = shape & mine
    if not own.any():
        return None
    tight = ndimage.find_objects(within(own, FAR_PX).astype(np.int32))[0]
    shape, mine = shape[tight], mine[tight]
    band = mine & within(own[tight], FAR_PX) & ~ndimage.binary_erosion(shape, iterations=int(RIM_PX), border_value=1)
    if any(extent > whole for extent, whole in zip(band.shape, ground.shape, strict=True)):
        return None
    weight = signal.fftconvolve(ground.astype(np.float32), band[::-1, ::-1].astype(np.float32), mode="valid")
    share = weight / max(1, band.sum())
    if share.max() < 0.5:
        return None
    rows, cols = np.nonzero(share >= min(0.97, share.max() - 0.02))
    # Nearby ground resembles what lies around the site; the far end of a scene may be a beach.
    distance = np.hypot(rows + band.shape[0] / 2 - middle[0], cols + band.shape[1] / 2 - middle[1])
    near = np.flatnonzero(distance <= np.quantile(distance, _NEAREST))
    choice = int(rng.choice(near))
    place = tuple(slice(s[choice], s[choice] + e) for s, e in zip((rows, cols), band.shape, strict=True))
    return rim_statistics(image[place], shape, band & ground[place])


def seam_probe(rims: Sequence[tuple[str, RimSet]], kind: Kind, one: str = "drawn", other: str = "real") -> float:
    """How well a linear probe tells one sort of rim from another; 0.5: not at all, 1: always.

    Args:
        rims: Places, which the probe is cross-validated by, and what was found there.
        kind: Which events.
        one: Attribute of :class:`RimSet`; ``"site"`` instead of ``"drawn"`` tells what drawing cannot help.
        other: What it is told from: ``"real"`` or ``"ground"``.

    Returns:
        Area under the ROC curve; NaN with fewer than ten events or two places.
    """
    from changen_cli.synthesis.measures import probe_auc

    chosen = [(place, rim) for place, rim in rims if rim.kind == kind and getattr(rim, other) is not None]
    if len(chosen) < 10:
        return float("nan")
    first, second = (np.stack([getattr(rim, side) for _, rim in chosen]) for side in (one, other))
    return probe_auc(first, second, [place for place, _ in chosen])
