"""Change areas for training, drawn like those met in generation, and the errors a start has inside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.types import IGNORE, BoolArray, Int32Array, UInt8Array
from changen_cli.training.tiles import TrainingTile

FloatArray = npt.NDArray[np.float32]

BUILDING = OPENEARTHMAP.index("building") + 1
_KINDS = ("objects", "regions", "footprints", "box", "strip", "all")
_SHARES = (0.30, 0.08, 0.27, 0.14, 0.07, 0.14)


def footprints(tiles: Sequence[TrainingTile], limit: int = 400) -> list[BoolArray]:
    """Collect object shapes to draw change areas from; simple polygons when no tile has buildings."""
    shapes: list[BoolArray] = []
    for tile in tiles:
        objects = ndimage.label(tile.classes == BUILDING)[0] if tile.objects is None else tile.objects
        boxes = [(number, box) for number, box in enumerate(ndimage.find_objects(objects), start=1) if box is not None]
        for number, box in boxes[:20]:
            crop = objects[box] == number
            if crop.sum() >= 64 and max(crop.shape) <= 160:
                shapes.append(crop)
        if len(shapes) >= limit:
            break
    return shapes or [np.ones((24, 36), dtype=bool), np.ones((48, 20), dtype=bool)]


def draw_change_area(
    classes: UInt8Array, shapes: Sequence[BoolArray], rng: np.random.Generator, objects: Int32Array | None = None
) -> BoolArray:
    """Draw a change area: objects with a margin, a region of a class, footprints, boxes, strips, or the whole crop.

    Args:
        classes: uint8 ``[H, W]`` of the crop, see :class:`~changen_cli.training.tiles.TrainingTile`.
        shapes: Footprints from :func:`footprints`.
        rng: Source of all randomness.
        objects: int32 ``[H, W]``, object numbers of the crop; where there are any they stand in for the classes.

    Returns:
        bool ``[H, W]``, never empty.
    """
    height, width = classes.shape
    area = np.zeros((height, width), dtype=bool)
    kind = _KINDS[int(rng.choice(len(_KINDS), p=_SHARES))]
    if kind in ("objects", "regions"):
        area = _pick(classes, kind, rng) if objects is None else _pick_numbered(objects, kind, rng)
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


def _pick(classes: UInt8Array, kind: str, rng: np.random.Generator) -> BoolArray:
    """One to four buildings, or one region of any class, with a margin; empty when there is none."""
    if kind == "objects":
        wanted, most = BUILDING, 4
    else:
        present = np.setdiff1d(np.unique(classes), (0, IGNORE))
        if not present.size:
            return np.zeros(classes.shape, dtype=bool)
        wanted, most = int(rng.choice(present)), 1
    objects, count = ndimage.label(classes == wanted)
    if not count:
        return np.zeros(classes.shape, dtype=bool)
    chosen = rng.choice(np.arange(1, count + 1), size=min(count, int(rng.integers(1, most + 1))), replace=False)
    return np.asarray(ndimage.binary_dilation(np.isin(objects, chosen), iterations=int(rng.integers(2, 9))))


def _pick_numbered(objects: Int32Array, kind: str, rng: np.random.Generator) -> BoolArray:
    """One to four objects, or one, with a margin; empty when there is none."""
    present = np.setdiff1d(np.unique(objects), 0)
    if not present.size:
        return np.zeros(objects.shape, dtype=bool)
    most = 4 if kind == "objects" else 1
    chosen = rng.choice(present, size=min(present.size, int(rng.integers(1, most + 1))), replace=False)
    return np.asarray(ndimage.binary_dilation(np.isin(objects, chosen), iterations=int(rng.integers(2, 9))))


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
