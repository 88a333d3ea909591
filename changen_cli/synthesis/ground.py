"""Real pixels for where something changed: translated patches whose border ring fits best, blended without a seam.

Where an object was, free ground; where a region changed class, pixels of the class it became.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, UInt8Array

FloatArray = npt.NDArray[np.float32]

_CANDIDATES = 600
_RING_PX = 6
_SMALLEST_PX = 20
_MAX_CORRECTION = 45.0
_CLUTTER_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class Material:
    """What holes are filled with.

    Attributes:
        image: float32 ``[h, w, 3]``, 0..255: the canvas itself, or a piece of another scene.
        usable: bool ``[h, w]``, pixels that may be copied.
        clutter: float32 ``[h, w]``, how much busier than usual its surroundings are, in grey levels.
        anchors: int64 ``[n, 2]``, the usable pixels.
    """

    image: FloatArray
    usable: BoolArray
    clutter: FloatArray
    anchors: npt.NDArray[np.int64]


def make_material(image: FloatArray, usable: BoolArray) -> Material:
    """Measure the clutter of what may be copied."""
    return Material(image, usable, _clutter(image, usable), np.argwhere(usable))


class GroundFiller:
    """Fills holes of one image with pixels of the same image, or of another one.

    A single patch is tried first; where nothing usable is large enough the hole is cut in two along its longer side and
    each half is filled by itself, the second one fitting to the first.

    Args:
        canvas: float32 ``[H, W, 3]``, 0..255; filled in place.
        mask: uint8 ``[H, W]``, semantic mask of the later date.
        buildings: bool ``[H, W]``, buildings of the later date.
        pending: bool ``[H, W]``, everything that still shows what was there before. Never copied from.
        ground_ids: Classes that are ground; nothing else is ever copied to where an object was.
    """

    def __init__(
        self,
        canvas: FloatArray,
        mask: UInt8Array,
        buildings: BoolArray,
        pending: BoolArray,
        ground_ids: Sequence[int],
    ) -> None:
        self.canvas, self.mask = canvas, mask
        self.unknown = pending.copy()
        ground = np.isin(mask, ground_ids)
        self.free = ground & ~(ndimage.binary_dilation(buildings, iterations=2) | pending)
        self.clutter = _clutter(canvas, self.free)
        self._pending, self._ground_ids = pending, ground_ids
        self._ground: dict[int, Material] = {}
        self._classes: dict[int, Material] = {}

    def ground(self, ground_class: int, needed: int) -> Material:
        """Free ground of one class; all free ground where there is little of that class."""
        of_class = self.free & (self.mask == ground_class)
        if of_class.sum() < 2 * needed:
            of_class, ground_class = self.free, -1
        if ground_class not in self._ground:
            self._ground[ground_class] = Material(self.canvas, of_class, self.clutter, np.argwhere(of_class))
        return self._ground[ground_class]

    def prevailing(self, where: tuple[slice, slice]) -> int:
        """The ground class there is most of in a crop; -1 where there is none."""
        found = self.mask[where][np.isin(self.mask[where], self._ground_ids)]
        return int(np.bincount(found).argmax()) if found.size else -1

    def of_class(self, class_id: int) -> Material:
        """Everything of one class that shows it already, but for its rim, where labels are least exact."""
        if class_id not in self._classes:
            shown = (self.mask == class_id) & ~self._pending
            inner = ndimage.binary_erosion(shown, iterations=2, border_value=1)
            self._classes[class_id] = make_material(self.canvas, inner if inner.any() else shown)
        return self._classes[class_id]

    def fill(
        self,
        where: tuple[slice, slice],
        hole: BoolArray,
        material: Material,
        rng: np.random.Generator,
        meets: int | None = None,
    ) -> None:
        """Fill one hole.

        Args:
            where: The crop ``hole`` describes.
            hole: bool ``[h, w]``.
            material: What it is filled with.
            rng: Source of all randomness.
            meets: The only class the filling is fitted and blended to: at the border of any other one an edge is right.
                Everything around the hole when None.
        """
        hole = hole & self.unknown[where]  # where two holes overlap, the first one has filled it
        todo = [(where[0].start, where[1].start, hole)]
        while todo:
            row, col, part = todo.pop()
            if not part.any():
                continue
            tight = _tight(part)
            row, col, part = row + tight[0].start, col + tight[1].start, part[tight]
            height, width = part.shape
            # Pixels of another class would contradict the mask: rather smaller pieces than impure ones.
            smallest = max(height, width) <= (_SMALLEST_PX if meets is None else _SMALLEST_PX // 3)
            window = _Hole(self.canvas, self.unknown, part, row, col)
            if meets is not None:
                window.ring &= self.mask[window.where] == meets
            offset = _best_offset(self.canvas, window, material, rng, strict=not smallest)
            if offset is None and not smallest:
                if height >= width:
                    half = height // 2
                    todo += [(row + half, col, part[half:]), (row, col, part[:half])]
                else:
                    half = width // 2
                    todo += [(row, col + half, part[:, half:]), (row, col, part[:, :half])]
                continue
            if offset is not None:
                _paste_patch(self.canvas, window, material.image, offset, feather=meets is None)
            else:
                _smooth_fill(self.canvas, window)
            self.unknown[row : row + height, col : col + width] &= ~part


class _Hole:
    """One part of a hole with its surroundings: all arrays are crops at ``where``."""

    def __init__(self, canvas: FloatArray, unknown: BoolArray, part: BoolArray, row: int, col: int) -> None:
        margin = _RING_PX + 18
        top, left = max(row - margin, 0), max(col - margin, 0)
        self.where = (
            slice(top, min(row + part.shape[0] + margin, canvas.shape[0])),
            slice(left, min(col + part.shape[1] + margin, canvas.shape[1])),
        )
        self.origin = np.array([top, left])
        self.known = ~unknown[self.where]
        self.inside = np.zeros(self.known.shape, dtype=bool)
        self.inside[row - top : row - top + part.shape[0], col - left : col - left + part.shape[1]] = part
        self.ring = ndimage.binary_dilation(self.inside, iterations=_RING_PX) & self.known


def _tight(part: BoolArray) -> tuple[slice, slice]:
    """The smallest crop that holds all of ``part``, which must not be empty."""
    rows, cols = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _clutter(image: FloatArray, usable: BoolArray) -> FloatArray:
    """How much busier than usual the surroundings of every pixel are, in grey levels; float32 ``[H, W]``.

    Cleared ground is plain: a patch of rubble or parked cars may fit the border, yet it looks like something built.
    """
    thinned = image[::2, ::2].mean(axis=-1)
    energy = np.abs(thinned - ndimage.uniform_filter(thinned, 5))
    energy = ndimage.uniform_filter(energy, 9)
    ground = energy[usable[::2, ::2]]
    usual = float(np.median(ground)) if ground.size else 0.0
    return np.maximum(energy - usual, 0).repeat(2, axis=0).repeat(2, axis=1)[: image.shape[0], : image.shape[1]]


def _best_offset(
    canvas: FloatArray, hole: _Hole, material: Material, rng: np.random.Generator, *, strict: bool
) -> tuple[int, int] | None:
    """Find the translation that brings material over the hole with the best-fitting ring.

    With ``strict`` every pixel must be usable; otherwise the purest candidates compete.
    """
    usable = material.usable
    inner = np.argwhere(hole.inside) + hole.origin
    ring = np.argwhere(hole.ring) + hole.origin
    if len(material.anchors) == 0:
        return None
    centre = inner.mean(axis=0).round().astype(int)
    anchors = material.anchors[rng.integers(len(material.anchors), size=_CANDIDATES)]
    offsets = anchors - centre
    low, high = inner.min(axis=0), inner.max(axis=0)
    fits = ((low + offsets >= 0) & (high + offsets < usable.shape)).all(axis=1)
    offsets = offsets[fits]
    if len(offsets) == 0:
        return None
    # A thinned set of pixels rules most candidates out; the few left are checked in full.
    thin = inner[:: max(1, len(inner) // 256)]
    purity = _gather(usable, thin, offsets).mean(axis=1)
    if strict:
        offsets = offsets[purity == 1]
        exact = [bool(usable[tuple((inner + offset).T)].all()) for offset in offsets[:60]]
        offsets = offsets[:60][np.asarray(exact, dtype=bool)]
    else:
        offsets = offsets[np.argsort(-purity, kind="stable")[:40]]
    if len(offsets) == 0:
        return None
    if len(ring) == 0:
        return int(offsets[0][0]), int(offsets[0][1])
    thin = ring[:: max(1, len(ring) // 300)]
    seen = _gather(material.image, thin, offsets)
    # Building walls on the ring are no ground to fit to: the better half of the ring decides.
    difference = np.abs(seen - canvas[tuple(thin.T)][None]).mean(axis=2)
    score = np.sort(difference, axis=1)[:, : max(1, difference.shape[1] * 6 // 10)].mean(axis=1)
    score = score + _CLUTTER_WEIGHT * _gather(material.clutter, inner[:: max(1, len(inner) // 128)], offsets).mean(
        axis=1
    )
    best = offsets[np.argmin(score)]
    return int(best[0]), int(best[1])


def _gather(
    values: npt.NDArray[np.generic], points: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> FloatArray:
    """Values at every point moved by every offset, clipped to the image: ``[offsets, points, ...]``."""
    moved = points[None] + offsets[:, None]
    rows = np.clip(moved[..., 0], 0, values.shape[0] - 1)
    cols = np.clip(moved[..., 1], 0, values.shape[1] - 1)
    return values[rows, cols].astype(np.float32)


def _correction(difference: FloatArray, ring: BoolArray, width: float) -> FloatArray:
    """Interpolate the colour difference on the ring smoothly over the window (normalised convolution)."""
    planes = np.dstack([difference * ring[..., None], ring]).astype(np.float32)
    total = np.zeros_like(planes)
    for sigma in (2.0, 5.0, max(6.0, width / 3)):
        # Narrow kernels count more, so that close to the border the border decides. Two passes of a box filter stand
        # in for a Gaussian: their cost does not grow with sigma.
        side = max(3, round(sigma * 2.45))
        smooth = ndimage.uniform_filter(planes, size=(side, side, 0), mode="constant")
        total += ndimage.uniform_filter(smooth, size=(side, side, 0), mode="constant") * np.float32(10.0 / sigma)
    return np.clip(total[..., :3] / (total[..., 3:] + 1e-4), -_MAX_CORRECTION, _MAX_CORRECTION)


def _paste_patch(
    canvas: FloatArray, hole: _Hole, source: FloatArray, offset: tuple[int, int], *, feather: bool
) -> None:
    """Copy the translated patch, shift its colours to meet the ring, and feather its border where asked to."""
    where, inside, ring = hole.where, hole.inside, hole.ring
    rows, cols = np.mgrid[where]
    source_rows = np.clip(rows + offset[0], 0, source.shape[0] - 1)
    source_cols = np.clip(cols + offset[1], 0, source.shape[1] - 1)
    patch = source[source_rows, source_cols]
    target = canvas[where]
    difference = target - patch
    # Only ring pixels that look like the same ground may pull its colour; walls and cars may not.
    alike = ring & (np.abs(difference).mean(axis=-1) < 36)
    if alike.any():
        patch = patch + _correction(difference, alike, float(max(inside.shape)))
    if not feather:
        canvas[where][inside] = patch[inside]
        return
    depth = ndimage.distance_transform_edt(inside)
    known_near = ndimage.binary_dilation(ring, iterations=3)
    alpha = np.where(known_near, np.clip(depth / 3.0, 0, 1), 1.0) * inside
    canvas[where] = target * (1 - alpha[..., None]) + patch * alpha[..., None]


def _smooth_fill(canvas: FloatArray, hole: _Hole) -> None:
    """Last resort where an image has no free ground at all: the surroundings' colours, diffused inwards."""
    where, known, inside = hole.where, hole.known, hole.inside
    weight = ndimage.gaussian_filter(known.astype(np.float32), 8.0) + 1e-6
    for band in range(3):
        values = ndimage.gaussian_filter(canvas[where][..., band] * known, 8.0) / weight
        canvas[where][..., band][inside] = values[inside]
