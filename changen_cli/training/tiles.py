"""Training images: read once from any folder, kept in memory as far as the budget goes, cropped on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from changen_cli.core.landcover import OPENEARTHMAP, class_number
from changen_cli.core.recipe import Layout
from changen_cli.core.seeding import derive_seed
from changen_cli.core.types import IGNORE, ClassSchema, Skip, UInt8Array

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingTile:
    """One training image.

    Attributes:
        image: uint8 ``[H, W, 3]``.
        classes: uint8 ``[H, W]``: 1..8 OpenEarthMap's classes, 0 none of those the set tells apart, 255 no label.
        group: The place; validation splits go by place.
        max_reduction: Largest factor by which crops may be reduced; above 1 for imagery finer than usual.
    """

    image: UInt8Array
    classes: UInt8Array
    group: str = ""
    max_reduction: float = 1.5


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


class TilePool:
    """Holds tiles in memory up to a budget, and beyond it in one file that is mapped instead of read.

    Args:
        spill: File for what exceeds the budget; removed by :meth:`close`.
        budget: Bytes of memory.
    """

    def __init__(self, spill: Path, budget: int = 4 << 30) -> None:
        self.spill, self.budget, self.spilled = spill, budget, 0
        self._tiles: list[TrainingTile] = []
        self._on_disk: list[tuple[int, TrainingTile]] = []
        self._used = 0
        self._file: BinaryIO | None = None

    def add(self, tile: TrainingTile) -> None:
        """Keep a tile."""
        size = tile.image.nbytes + tile.classes.nbytes
        if self._used + size <= self.budget:
            self._used += size
            self._tiles.append(tile)
            return
        if self._file is None:
            self.spill.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.spill.open("wb")
        self._file.write(tile.image.tobytes())
        self._file.write(tile.classes.tobytes())
        # Only the shapes are remembered: an array of one element repeated costs nothing.
        shape = np.broadcast_to(np.uint8(0), tile.image.shape), np.broadcast_to(np.uint8(0), tile.classes.shape)
        self._on_disk.append((self.spilled, replace(tile, image=shape[0], classes=shape[1])))
        self.spilled += size

    def tiles(self) -> list[TrainingTile]:
        """All tiles, those on disk as views of the mapped file."""
        found = list(self._tiles)
        if self._file is not None:
            self._file.flush()
            mapped = np.memmap(self.spill, dtype=np.uint8, mode="r")
            for start, tile in self._on_disk:
                middle = start + tile.image.size
                image = mapped[start:middle].reshape(tile.image.shape)
                classes = mapped[middle : middle + tile.classes.size].reshape(tile.classes.shape)
                found.append(replace(tile, image=image, classes=classes))
        return found

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
            self.spill.unlink(missing_ok=True)


def load_tiles(
    root: Path,
    classes: tuple[str, ...] | None,
    pool: TilePool,
    *,
    layout: Layout | None = None,
    max_reduction: float = 1.5,
) -> tuple[int, list[Skip]]:
    """Read a folder into training tiles.

    Args:
        root: Any folder ``changen generate`` reads, or one of images without masks.
        classes: Class names of its masks, in id order.
        pool: Where the tiles go.
        layout: Layout of the folder; detected when None.
        max_reduction: See :class:`TrainingTile`.

    Returns:
        The number of tiles, and what was skipped.
    """
    from changen_cli.sources.folder import open_source

    source = open_source(root, layout=layout, classes=classes, res=None, upsample=False, bands=None)
    count, skipped = 0, []
    for item in source:
        if isinstance(item, Skip):
            skipped.append(item)
            continue
        known = to_openearthmap(item.mask, item.image.shape[:2], source.schema)
        pool.add(TrainingTile(item.image, known, f"{root.name}/{item.group}", max_reduction))
        count += 1
    return count, skipped


def split_by_place(
    tiles: Sequence[TrainingTile], share: float, seed: int
) -> tuple[list[TrainingTile], list[TrainingTile]]:
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

    def draw(self, rng: np.random.Generator) -> tuple[FloatArray, UInt8Array]:
        """One crop: float32 ``[3, size, size]`` in [-1, 1], and its classes ``[size, size]``."""
        tile = self.tiles[int(rng.choice(len(self.tiles), p=self._weights))]
        image, classes = _cut(tile, self.size, rng)
        scaled = image.astype(np.float32) / 127.5 - 1
        if self.jitter:
            scaled = vary_colours(scaled, rng)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)), np.ascontiguousarray(classes)


def _cut(tile: TrainingTile, size: int, rng: np.random.Generator) -> tuple[UInt8Array, UInt8Array]:
    """Cut, reduce, flip and turn one crop of ``size`` pixels."""
    side = int(min(*tile.classes.shape, round(size * np.exp(rng.uniform(0, np.log(tile.max_reduction))))))
    row, col = (int(rng.integers(0, extent - side + 1)) for extent in tile.classes.shape)
    image, classes = (a[row : row + side, col : col + side] for a in (tile.image, tile.classes))
    if side != size:
        image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0))
        classes = np.asarray(Image.fromarray(classes).resize((size, size), Image.Resampling.NEAREST))
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, classes = np.rot90(image, turns), np.rot90(classes, turns)
    return (image[:, ::-1], classes[:, ::-1]) if flip else (image, classes)


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
