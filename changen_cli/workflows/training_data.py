"""Training crops: real images, their label planes, and change areas drawn like those met in generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from changen_cli.core.types import IGNORE, BoolArray, Skip, UInt8Array

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainingTile:
    """One training image.

    Attributes:
        image: uint8 ``[H, W, 3]``.
        classes: uint8 ``[H, W]``: 0 known but none of the model's classes, 1..K the model's classes, 255 unknown.
        max_reduction: Largest factor by which crops may be reduced; above 1 for imagery finer than usual.
    """

    image: UInt8Array
    classes: UInt8Array
    max_reduction: float = 1.5


@dataclass(frozen=True, eq=False)
class Batch:
    """A training batch: images ``[B, 3, H, W]`` in [-1, 1], label planes ``[B, K, H, W]``, change ``[B, 1, H, W]``."""

    images: FloatArray
    labels: FloatArray
    change: FloatArray


def load_tiles(
    root: Path, classes: tuple[str, ...] | None, *, max_reduction: float = 1.5
) -> tuple[list[TrainingTile], list[Skip]]:
    """Read a folder into training tiles: buildings, everything else, and unknown where there are no labels.

    Args:
        root: Any folder ``changen generate`` reads, or one of images without masks.
        classes: Class names of its masks, in id order.
        max_reduction: See :class:`TrainingTile`.

    Returns:
        The tiles, and what was skipped.
    """
    from changen_cli.sources.folder import open_source

    source = open_source(root, layout=None, classes=classes, res=None, upsample=False, bands=None)
    tiles, skipped = [], []
    for item in source:
        if isinstance(item, Skip):
            skipped.append(item)
            continue
        known = np.full(item.image.shape[:2], IGNORE, dtype=np.uint8)
        if item.mask is not None:
            known = np.where(item.mask == IGNORE, IGNORE, np.isin(item.mask, source.schema.building_ids)).astype(
                np.uint8
            )
        tiles.append(TrainingTile(item.image, known, max_reduction))
    return tiles, skipped


def footprints(tiles: Sequence[TrainingTile], limit: int = 400) -> list[BoolArray]:
    """Collect object shapes to draw change areas from; simple polygons when no tile is labelled."""
    shapes: list[BoolArray] = []
    for tile in tiles:
        objects, _ = ndimage.label((tile.classes > 0) & (tile.classes != IGNORE))
        for box in ndimage.find_objects(objects)[:20]:
            crop = objects[box] > 0
            if crop.sum() >= 64 and max(crop.shape) <= 160:
                shapes.append(crop)
        if len(shapes) >= limit:
            break
    return shapes or [np.ones((24, 36), dtype=bool), np.ones((48, 20), dtype=bool)]


def _paint(area: BoolArray, shape: BoolArray, rng: np.random.Generator) -> None:
    """Draw ``shape``, turned, scaled and dilated by a margin, somewhere on ``area``."""
    angle, zoom = rng.uniform(0, 360), rng.uniform(0.5, 1.2)
    turned = ndimage.zoom(shape.astype(np.uint8), zoom, order=0)
    turned = ndimage.rotate(turned, angle, order=0)
    margin = int(rng.integers(2, 9))
    turned = ndimage.binary_dilation(np.pad(turned > 0, margin), iterations=margin)
    height, width = area.shape
    # A shape far larger than the crop has one place only.
    row, col = (
        int(rng.integers(-side // 3, max(extent - side // 2, 1 - side // 3)))
        for side, extent in zip(turned.shape, (height, width), strict=True)
    )
    inside = area[max(row, 0) : max(row + turned.shape[0], 0), max(col, 0) : max(col + turned.shape[1], 0)]
    inside |= turned[max(-row, 0) :, max(-col, 0) :][: inside.shape[0], : inside.shape[1]]


def draw_change_area(classes: UInt8Array, shapes: Sequence[BoolArray], rng: np.random.Generator) -> BoolArray:
    """Draw a change area as generation makes them: objects with a margin, footprints, boxes, strips, whole tile.

    Args:
        classes: uint8 ``[H, W]`` of the crop, see :class:`TrainingTile`.
        shapes: Footprints from :func:`footprints`.
        rng: Source of all randomness.

    Returns:
        bool ``[H, W]``, never empty.
    """
    height, width = classes.shape
    area = np.zeros((height, width), dtype=bool)
    kind = rng.choice(["objects", "footprints", "box", "strip", "all"], p=[0.35, 0.28, 0.15, 0.07, 0.15])
    if kind == "objects":
        objects, count = ndimage.label((classes > 0) & (classes != IGNORE))
        if count:
            chosen = rng.choice(np.arange(1, count + 1), size=min(count, int(rng.integers(1, 5))), replace=False)
            area = ndimage.binary_dilation(np.isin(objects, chosen), iterations=int(rng.integers(2, 9)))
    elif kind == "box":
        size = rng.integers(16, 97, size=2)
        row, col = (int(rng.integers(0, max(1, side - s))) for side, s in zip((height, width), size, strict=True))
        area[row : row + size[0], col : col + size[1]] = True
    elif kind == "strip":
        rows, cols = np.mgrid[:height, :width]
        angle, half = rng.uniform(0, np.pi), rng.uniform(5, 16)
        distance = (rows - rng.uniform(0, height)) * np.cos(angle) + (cols - rng.uniform(0, width)) * np.sin(angle)
        area = np.abs(distance) < half
    elif kind == "all":
        area[:] = True
    if not area.any():
        for _ in range(int(rng.integers(1, 4))):
            _paint(area, shapes[int(rng.integers(len(shapes)))], rng)
    if not area.any():
        area[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    return area


def _crop(tile: TrainingTile, size: int, rng: np.random.Generator) -> tuple[UInt8Array, UInt8Array]:
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


def _jitter(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Vary gain, offset and gamma, so that one sensor's colours are not taken for the world's."""
    unit = (image + 1) / 2
    unit = np.clip(unit, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.15)))
    gain, offset = np.exp(rng.normal(0, 0.12, size=3)), rng.normal(0, 0.03, size=3)
    return np.clip(unit * gain + offset, 0, 1).astype(np.float32) * 2 - 1


def label_planes(classes: UInt8Array, count: int, *, unknown_plane: bool) -> FloatArray:
    """One plane per class 1..count, and one for unknown: float32 ``[K, H, W]`` in {0, 1}."""
    planes = [classes == index for index in range(1, count + 1)]
    if unknown_plane:
        planes.append(classes == IGNORE)
    return np.stack(planes).astype(np.float32)


def make_batch(
    tiles: Sequence[TrainingTile],
    shapes: Sequence[BoolArray],
    *,
    batch_size: int,
    size: int,
    class_count: int,
    label_dropout: float,
    rng: np.random.Generator,
) -> Batch:
    """Draw a batch; tiles are drawn in proportion to the square root of their area.

    Args:
        tiles: Training tiles, none smaller than ``size``.
        shapes: Footprints for the change areas.
        batch_size: Crops B.
        size: Side of a crop in px.
        class_count: Classes of the model.
        label_dropout: Share of the crops whose label is replaced by "unknown".
        rng: Source of all randomness.
    """
    # Square root: a large scene offers more places, but neighbouring crops resemble each other.
    weights = np.sqrt([tile.classes.size for tile in tiles])
    images, labels, changes = [], [], []
    for index in rng.choice(len(tiles), size=batch_size, p=weights / weights.sum()):
        image, classes = _crop(tiles[int(index)], size, rng)
        scaled = _jitter(image.astype(np.float32) / 127.5 - 1, rng)
        changes.append(draw_change_area(classes, shapes, rng)[None].astype(np.float32))
        if rng.random() < label_dropout:
            classes = np.full_like(classes, IGNORE)
        images.append(scaled.transpose(2, 0, 1))
        labels.append(label_planes(classes, class_count, unknown_plane=True))
    return Batch(np.stack(images), np.stack(labels), np.stack(changes))


def misfit(change: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw the colour error an exemplar start has inside the change area.

    Pasted pixels keep a little of the light they came from. The denoiser learns to remove it when training noise sits
    on such an offset while the target stays the clean image.

    Args:
        change: float32 ``[B, 1, H, W]``.
        rng: Source of all randomness.

    Returns:
        float32 ``[B, 3, H, W]`` of unit scale, zero outside the change area and for half of the batch.
    """
    batch, _, height, width = change.shape
    out = np.zeros((batch, 3, height, width), dtype=np.float32)
    for index in range(batch):
        if rng.random() < 0.5:
            continue
        grey, tint = rng.normal(0, 1), rng.normal(0, 0.4, size=(3, 1, 1))
        field = ndimage.zoom(rng.normal(0, 0.5, size=(4, 4)), (height / 4, width / 4), order=1)[:height, :width]
        where = change[index] > 0
        if rng.random() < 0.5:
            where = ndimage.binary_erosion(where, structure=np.ones((1, 3, 3)), iterations=int(rng.integers(2, 7)))
        out[index] = np.where(where, grey + tint + field, 0)
    return out
