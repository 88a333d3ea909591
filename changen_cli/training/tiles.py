"""Training images: read once from any folder, kept in memory as far as the budget goes, cropped on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from changen_cli.core.landcover import OPENEARTHMAP, class_number
from changen_cli.core.recipe_sections import Layout
from changen_cli.core.seeding import derive_seed
from changen_cli.core.types import IGNORE, ClassSchema, Int32Array, Scene, Skip, UInt8Array

if TYPE_CHECKING:
    from changen_cli.sources.pseudo_masks import Proposer

FloatArray = npt.NDArray[np.float32]
Layer = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TrainingTile:
    """One training image.

    Attributes:
        image: uint8 ``[H, W, 3]``.
        classes: uint8 ``[H, W]``: 1..8 OpenEarthMap's classes, 0 none of those the set tells apart, 255 no label.
        group: The place; validation splits go by place.
        max_reduction: Largest factor by which crops may be reduced; above 1 for imagery finer than usual.
        objects: int32 ``[H, W]``, object numbers, for models of contours; None for others.
    """

    image: UInt8Array
    classes: UInt8Array
    group: str = ""
    max_reduction: float = 1.5
    objects: Int32Array | None = None


class Crop(NamedTuple):
    """A piece of a tile: image float32 ``[3, size, size]`` in [-1, 1], classes and objects ``[size, size]``."""

    image: FloatArray
    classes: UInt8Array
    objects: Int32Array | None


def to_openearthmap(mask: UInt8Array | None, shape: tuple[int, int], schema: ClassSchema) -> UInt8Array:
    """Translate class ids to OpenEarthMap's by the names of the classes.

    Args:
        mask: uint8 ``[H, W]``, or None for an unlabelled image.
        shape: ``(H, W)``.
        schema: Names of the ids.

    Returns:
        uint8 ``[H, W]`` as :class:`TrainingTile` holds them.
    """
    if mask is None:
        return np.full(shape, IGNORE, dtype=np.uint8)
    table = np.zeros(256, dtype=np.uint8)
    table[schema.ignore_index] = IGNORE
    for index, name in enumerate(schema.names):
        known = class_number(name, OPENEARTHMAP)
        table[index] = 0 if known is None else known + 1
    table[list(schema.building_ids)] = OPENEARTHMAP.index("building") + 1
    table[list(schema.damage_ids[-1:])] = 0  # rubble, or nothing at all
    return table[mask]


class Placed(Protocol):
    """What shows a place.

    Attributes:
        group: The place.
    """

    @property
    def group(self) -> str:
        """The place."""


T = TypeVar("T")
P = TypeVar("P", bound=Placed)


class TilePool(Generic[T]):
    """Holds tiles in memory up to a budget, and beyond it in one file that is mapped instead of read.

    A tile is any dataclass; of its fields those that are arrays go to the file.

    Args:
        spill: File for what exceeds the budget; removed by :meth:`close`.
        budget: Bytes of memory.
    """

    def __init__(self, spill: Path, budget: int = 4 << 30) -> None:
        self.spill, self.budget, self.spilled = spill, budget, 0
        self._tiles: list[T] = []
        self._on_disk: list[tuple[int, T]] = []
        self._used = 0
        self._file: BinaryIO | None = None

    def add(self, tile: T) -> None:
        """Keep a tile."""
        arrays = _arrays(tile)
        size = sum(array.nbytes for array in arrays.values())
        # Once there is a file all go there: tiles keep their order.
        if self._file is None and self._used + size <= self.budget:
            self._used += size
            self._tiles.append(tile)
            return
        if self._file is None:
            self.spill.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.spill.open("wb")
        for array in arrays.values():
            self._file.write(array.tobytes())
        # Only types and shapes are remembered: an array of one element repeated costs nothing.
        empty: dict[str, Any] = {name: np.broadcast_to(a.dtype.type(0), a.shape) for name, a in arrays.items()}
        self._on_disk.append((self.spilled, replace(tile, **empty)))  # type: ignore[type-var]
        self.spilled += size

    def tiles(self) -> list[T]:
        """All tiles, those on disk as views of the mapped file."""
        found = list(self._tiles)
        if self._file is not None:
            self._file.flush()
            mapped = np.memmap(self.spill, dtype=np.uint8, mode="r")
            for start, tile in self._on_disk:
                views: dict[str, Any] = {}
                for name, array in _arrays(tile).items():
                    views[name] = mapped[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
                    start += array.nbytes
                found.append(replace(tile, **views))  # type: ignore[type-var]
        return found

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
            self.spill.unlink(missing_ok=True)


def _arrays(tile: Any) -> dict[str, Layer]:
    """The arrays of a tile by their names."""
    values = {field.name: getattr(tile, field.name) for field in fields(tile)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def load_tiles(
    root: Path,
    classes: tuple[str, ...] | None,
    pool: TilePool[TrainingTile],
    *,
    layout: Layout | None = None,
    max_reduction: float = 1.5,
    propose: Proposer | None = None,
) -> tuple[int, list[Skip]]:
    """Read a folder into training tiles.

    Args:
        root: Any folder ``changen generate`` reads, or one of images without masks.
        classes: Class names of its masks, in id order.
        pool: Where the tiles go.
        layout: Layout of the folder; detected when None.
        max_reduction: See :class:`TrainingTile`.
        propose: Give the tiles objects, for models of contours: those of the masks, and where there are none what this
            finds.

    Returns:
        The number of tiles, and what was skipped.
    """
    from changen_cli.sources.folder import open_source

    source = open_source(root, layout=layout, classes=classes, res=None, upsample=False, bands=None)
    if propose is not None and source.layout == "images":
        source = source.proposing(propose)
    count, skipped = 0, []
    for item in source:
        if isinstance(item, Skip):
            skipped.append(item)
            continue
        # Proposals say where something is, never what.
        mask = None if source.schema.class_agnostic else item.mask
        known = to_openearthmap(mask, item.image.shape[:2], source.schema)
        objects = None if propose is None else _objects(item, source.schema)
        pool.add(TrainingTile(item.image, known, f"{root.name}/{item.group}", max_reduction, objects))
        count += 1
    return count, skipped


def _objects(scene: Scene, schema: ClassSchema) -> Int32Array:
    """Object numbers of a scene, int32 ``[H, W]``; all 0 where nothing is known of objects."""
    from changen_cli.events.footprints import scene_instances

    if scene.mask is None or schema.building_id is None:
        return np.zeros(scene.image.shape[:2], dtype=np.int32)
    return scene_instances(scene, (schema.building_id,))


def split_by_place(tiles: Sequence[P], share: float, seed: int) -> tuple[list[P], list[P]]:
    """Keep whole places out for validation.

    Args:
        tiles: All tiles.
        share: Share of the tiles to keep out, about.
        seed: Decides which places.

    Returns:
        Training tiles and validation tiles; the latter is empty when there is one place only.
    """
    groups = sorted({tile.group for tile in tiles}, key=lambda group: derive_seed(seed, "validation", group))
    counts = {group: sum(tile.group == group for tile in tiles) for group in groups}
    held: set[str] = set()
    for group in groups[:-1]:
        if sum(counts[name] for name in held) >= share * len(tiles):
            break
        held.add(group)
    return [tile for tile in tiles if tile.group not in held], [tile for tile in tiles if tile.group in held]


class Crops:
    """Draws crops from tiles, in proportion to the square root of their area.

    Args:
        tiles: Tiles no smaller than a crop are used.
        size: Side of a crop in px.
        jitter: Whether colours are varied.
    """

    def __init__(self, tiles: Sequence[TrainingTile], size: int, *, jitter: bool = True) -> None:
        self.tiles = [tile for tile in tiles if min(tile.classes.shape) >= size]
        self.size, self.jitter = size, jitter
        # Square root: a large scene offers more places, but neighbouring crops resemble each other.
        weights = np.sqrt([tile.classes.size for tile in self.tiles]) if self.tiles else np.ones(0)
        self._weights = weights / weights.sum() if self.tiles else weights

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw one crop."""
        tile = self.tiles[int(rng.choice(len(self.tiles), p=self._weights))]
        image, *labels = _cut(tile, self.size, rng)
        scaled = image.astype(np.float32) / 127.5 - 1
        if self.jitter:
            scaled = vary_colours(scaled, rng)
        classes, *objects = (np.ascontiguousarray(array) for array in labels)
        return Crop(np.ascontiguousarray(scaled.transpose(2, 0, 1)), classes, objects[0] if objects else None)


def _cut(tile: TrainingTile, size: int, rng: np.random.Generator) -> list[Layer]:
    """Cut, reduce, flip and turn one crop of ``size`` pixels: image, classes, and objects if there are any."""
    labels = [tile.classes] + ([] if tile.objects is None else [tile.objects])
    return cut([tile.image], labels, size, tile.max_reduction, rng)


def cut(
    images: Sequence[UInt8Array],
    labels: Sequence[Layer],
    size: int,
    max_reduction: float,
    rng: np.random.Generator,
    *,
    around: tuple[int, int] | None = None,
) -> list[Layer]:
    """Cut, reduce, flip and turn one crop of layers of one grid.

    Args:
        images: uint8 ``[H, W, 3]``, resampled by cubic interpolation.
        labels: ``[H, W]``, resampled by the nearest neighbour; at least one.
        size: Side of the crop in px; the layers are no smaller.
        max_reduction: Crops may be reduced by up to this factor.
        rng: Source of all randomness.
        around: Row and column of a pixel the crop is to hold, unless resampling loses it.

    Returns:
        The crops, ``[size, size]`` and so on, images first.
    """
    shape = labels[0].shape
    side = int(min(*shape, round(size * np.exp(rng.uniform(0, np.log(max_reduction))))))
    ranges = [(0, extent - side) for extent in shape]
    if around is not None:
        ranges = [(max(0, at - side + 1), min(at, last)) for at, (_, last) in zip(around, ranges, strict=True)]
    row, col = (int(rng.integers(first, last + 1)) for first, last in ranges)
    images = [layer[row : row + side, col : col + side] for layer in images]
    labels = [layer[row : row + side, col : col + side] for layer in labels]
    if side != size:
        cubic, nearest = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
        images = [np.asarray(Image.fromarray(a).resize((size, size), cubic, reducing_gap=2.0)) for a in images]
        labels = [np.asarray(Image.fromarray(a).resize((size, size), nearest)) for a in labels]
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    turned = [np.rot90(layer, turns) for layer in (*images, *labels)]
    return [layer[:, ::-1] for layer in turned] if flip else turned


def vary_colours(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Vary gain, offset and gamma, so that one sensor's colours are not taken for the world's.

    Args:
        image: float32 ``[H, W, 3]`` in [-1, 1].
        rng: Source of all randomness.
    """
    unit = (image + 1) / 2
    unit = np.clip(unit, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.15)))
    gain, offset = np.exp(rng.normal(0, 0.12, size=3)), rng.normal(0, 0.03, size=3)
    return np.clip(unit * gain + offset, 0, 1).astype(np.float32) * 2 - 1


def reduced(tile: TrainingTile, factor: float) -> TrainingTile:
    """The tile at ``1/factor`` of its resolution."""
    height, width = tile.classes.shape
    size = round(width / factor), round(height / factor)
    image = Image.fromarray(tile.image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    classes = Image.fromarray(tile.classes).resize(size, Image.Resampling.NEAREST)
    return replace(tile, image=np.asarray(image), classes=np.asarray(classes))
