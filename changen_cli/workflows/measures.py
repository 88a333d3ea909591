"""What is measured of drawn changes: do they show what the mask says, and which windows to compare with which.

The numerical parts are in :mod:`changen_cli.synthesis.measures`, seams in :mod:`changen_cli.workflows.seams`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
_ROOM_PX = 8
_BESIDE_PX = 24


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
