"""Pairs a change detector learns from: labelled ones, and two kinds that need single dates only, to compare with.

*Label exchange* (STAR; Zheng et al., ICCV 2021) takes two unrelated images for two dates; what their masks disagree
on has changed. *Copy-paste* lays objects of one image on another and calls the result the later date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from scipy import ndimage

from changen_cli.core.errors import UsageError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import IGNORE, BoolArray, ClassSchema, UInt8Array
from changen_cli.training.segmenter import LabelSet, disturb
from changen_cli.training.tiles import FloatArray, cut, to_openearthmap

T = TypeVar("T")

MAX_REDUCTION = 1.5
"""Crops may be reduced by up to this factor."""
_MOST_PASTED = 4
_OBJECT_PX = 64
_OBJECTS_PER_SCENE = 40
NOTHING_SAID = np.ones((256, len(OPENEARTHMAP)), dtype=bool)
"""The table of a set without semantic masks."""


@dataclass(frozen=True, eq=False)
class PairTile:
    """Two dates of one place.

    Attributes:
        before: uint8 ``[H, W, 3]``.
        after: uint8 ``[H, W, 3]``.
        change: uint8 ``[H, W]``: 1 where something changed, 0 where nothing did, 255 where that is not known.
        first: uint8 ``[H, W]``, class ids of the earlier date; 255 unknown.
        second: uint8 ``[H, W]``, class ids of the later date.
        allowed: bool ``[256, 8]``, which of OpenEarthMap's classes an id may mean.
        group: The place.
    """

    before: UInt8Array
    after: UInt8Array
    change: UInt8Array
    first: UInt8Array
    second: UInt8Array
    allowed: BoolArray
    group: str = ""


@dataclass(frozen=True, eq=False)
class SceneTile:
    """One image with its semantic mask.

    Attributes:
        image: uint8 ``[H, W, 3]``.
        mask: uint8 ``[H, W]``, class ids; 255 unknown.
        allowed: bool ``[256, 8]``, see :class:`PairTile`.
        group: The place.
    """

    image: UInt8Array
    mask: UInt8Array
    allowed: BoolArray
    group: str = ""


class PairCrop(NamedTuple):
    """A piece of a pair: the fields of :class:`PairTile`, of one size."""

    before: UInt8Array
    after: UInt8Array
    change: UInt8Array
    first: UInt8Array
    second: UInt8Array
    allowed: BoolArray


class PairSource(Protocol):
    """Where training crops come from.

    Attributes:
        told: What it is, as JSON values; a resumed run must have the same.
    """

    told: dict[str, object]

    def draw(self, rng: np.random.Generator) -> PairCrop:
        """One crop."""


class Batch(NamedTuple):
    """What one step learns from.

    Attributes:
        before: float32 ``[B, 3, S, S]`` in [-1, 1].
        after: The same.
        change: uint8 ``[B, S, S]``, as in :class:`PairTile`.
        allowed: bool ``[2B, 8, S, S]``: classes the masks allow, of the first dates, then of the second dates.
    """

    before: FloatArray
    after: FloatArray
    change: UInt8Array
    allowed: BoolArray


def meanings(schema: ClassSchema) -> BoolArray:
    """Which of OpenEarthMap's classes every id of a mask may mean, bool ``[256, 8]``; only True says nothing."""
    if schema.class_agnostic:
        return NOTHING_SAID
    ids = np.arange(256, dtype=np.uint8)[None]
    known = to_openearthmap(ids, ids.shape, ClassSchema((*schema.names, *["other"] * (255 - len(schema.names)))))[0]
    named = frozenset(int(number) for number in known[: len(schema.names)] if 0 < number < IGNORE)
    if not named:
        return NOTHING_SAID
    table = LabelSet("", [], named).allowed()[known]
    table[list(schema.unknown_ids)] = True
    return table


def _roots(shapes: Sequence[tuple[int, ...]]) -> FloatArray:
    weights = np.sqrt([height * width for height, width in shapes])
    return np.asarray(weights / weights.sum())


class LabelledPairs:
    """Crops of pairs whose change is known: half of them hold a changed pixel, half lie anywhere.

    Args:
        tiles: The pairs; those smaller than a crop are not used.
        size: Side of a crop in px.

    Raises:
        UsageError: All of them are smaller.
    """

    def __init__(self, tiles: Sequence[PairTile], size: int) -> None:
        self._tiles = _large(tiles, [tile.change for tile in tiles], size)
        self._size = size
        self._weights = _roots([tile.change.shape for tile in self._tiles])
        self._changed = [number for number, tile in enumerate(self._tiles) if (tile.change == 1).any()]
        self.told: dict[str, object] = {"pairs": "labelled", "count": len(self._tiles)}

    def draw(self, rng: np.random.Generator) -> PairCrop:
        """One crop."""
        around = None
        if self._changed and rng.random() < 0.5:
            weights = self._weights[self._changed]
            tile = self._tiles[int(rng.choice(self._changed, p=weights / weights.sum()))]
            found = np.flatnonzero(tile.change == 1)
            row, col = divmod(int(found[rng.integers(found.size)]), tile.change.shape[1])
            around = row, col
        else:
            tile = self._tiles[int(rng.choice(len(self._tiles), p=self._weights))]
        before, after, change, first, second = cut(
            [tile.before, tile.after], [tile.change, tile.first, tile.second], self._size, MAX_REDUCTION, rng,
            around=around,
        )  # fmt: skip
        return PairCrop(before, after, change, first, second, tile.allowed)


class ExchangedPairs:
    """Crops of two unrelated scenes as two dates of one place (STAR): changed is where their classes differ.

    Args:
        scenes: The images; those smaller than a crop are not used.
        size: Side of a crop in px.

    Raises:
        UsageError: All of them are smaller.
    """

    def __init__(self, scenes: Sequence[SceneTile], size: int) -> None:
        self._scenes = _large(scenes, [scene.mask for scene in scenes], size)
        self._size = size
        self.told: dict[str, object] = {"pairs": "label exchange", "count": len(self._scenes)}

    def draw(self, rng: np.random.Generator) -> PairCrop:
        """One crop."""
        one = self._scenes[int(rng.integers(len(self._scenes)))]
        others = [scene for scene in self._scenes if scene.group != one.group] or self._scenes
        two = others[int(rng.integers(len(others)))]
        (before, first), (after, second) = (
            cut([scene.image], [scene.mask], self._size, MAX_REDUCTION, rng) for scene in (one, two)
        )
        return PairCrop(before, after, _difference(first, second), first, second, one.allowed)


class PastedPairs:
    """A crop of a scene, and the same crop with objects of any scene laid on it, at random places, without blending.

    An object covers only pixels of other classes, so that what was pasted is what the masks differ in.

    Args:
        scenes: The images; those smaller than a crop are not used.
        size: Side of a crop in px.
        movable: Class ids whose connected regions are objects.

    Raises:
        UsageError: All scenes are smaller, or none holds a whole object that fits into a crop.
    """

    def __init__(self, scenes: Sequence[SceneTile], size: int, movable: Sequence[int]) -> None:
        self._scenes = _large(scenes, [scene.mask for scene in scenes], size)
        self._size = size
        self._objects = [item for n, scene in enumerate(self._scenes) for item in _objects(n, scene, size, movable)]
        if not self._objects:
            raise UsageError("no object fits into a crop, so that none can be pasted", "Take larger crops")
        self.told: dict[str, object] = {
            "pairs": "copy-paste", "count": len(self._scenes), "objects": len(self._objects), "classes": [*movable],
        }  # fmt: skip

    def draw(self, rng: np.random.Generator) -> PairCrop:
        """One crop; a fifth of them without any object."""
        scene = self._scenes[int(rng.integers(len(self._scenes)))]
        before, first = cut([scene.image], [scene.mask], self._size, MAX_REDUCTION, rng)
        after, second = before.copy(), first.copy()
        for _ in range(int(rng.integers(_MOST_PASTED + 1))):
            pixels, inside, class_id = self._objects[int(rng.integers(len(self._objects)))]
            turns = int(rng.integers(4))
            pixels, inside = np.rot90(pixels, turns), np.rot90(inside, turns)
            row, col = (int(rng.integers(self._size - extent + 1)) for extent in inside.shape)
            place = slice(row, row + inside.shape[0]), slice(col, col + inside.shape[1])
            free = inside & (second[place] != class_id) & (second[place] != IGNORE) & (first[place] == second[place])
            after[place][free], second[place][free] = pixels[free], class_id
        return PairCrop(before, after, _difference(first, second), first, second, scene.allowed)


def _objects(
    number: int, scene: SceneTile, size: int, movable: Sequence[int]
) -> list[tuple[UInt8Array, BoolArray, int]]:
    """Pixels, shapes and classes of some of a scene's objects that fit into a crop."""
    found = []
    for class_id in movable:
        labels, _ = ndimage.label(scene.mask == class_id)
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[box] == index
            if max(inside.shape) <= size and np.count_nonzero(inside) >= _OBJECT_PX:
                found.append((scene.image[box], inside, class_id))
    chosen = derive_rng(0, "pasted-objects", number).permutation(len(found))[:_OBJECTS_PER_SCENE]
    return [found[index] for index in sorted(chosen)]


def _difference(first: UInt8Array, second: UInt8Array) -> UInt8Array:
    changed = (first != second).astype(np.uint8)
    changed[(first == IGNORE) | (second == IGNORE)] = IGNORE
    return changed


def _large(tiles: Sequence[T], grids: Sequence[UInt8Array], size: int) -> list[T]:
    large = [tile for tile, grid in zip(tiles, grids, strict=True) if min(grid.shape) >= size]
    if not large:
        raise UsageError(f"no image is as large as a crop of {size} px", "Take smaller crops")
    return large


def make_batch(source: PairSource, size: int, rng: np.random.Generator) -> Batch:
    """Draw crops; each date is disturbed on its own, and either may come first.

    Args:
        source: Where they come from.
        size: How many.
        rng: Source of all randomness.
    """
    crops = []
    for _ in range(size):
        crop = source.draw(rng)
        if rng.random() < 0.5:
            crop = PairCrop(crop.after, crop.before, crop.change, crop.second, crop.first, crop.allowed)
        crops.append(crop)
    before, after = (
        np.stack([disturb(_scaled(image), rng) for image in images])
        for images in ([crop.before for crop in crops], [crop.after for crop in crops])
    )
    masks = [(crop.allowed, crop.first) for crop in crops] + [(crop.allowed, crop.second) for crop in crops]
    allowed = np.stack([table[mask].transpose(2, 0, 1) for table, mask in masks])
    return Batch(before, after, np.stack([crop.change for crop in crops]), allowed)


def _scaled(image: UInt8Array) -> FloatArray:
    return np.ascontiguousarray((image.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1))
