"""A hierarchy of image regions: small homogeneous ones, merged pair by pair until the image is one.

Graph segmentation (Felzenszwalb and Huttenlocher, IJCV 2004) gives the leaves; merging the most alike neighbours first
gives every larger scale at once, as in selective search (Uijlings et al., IJCV 2013). All measures of a region are sums
over its pixels or over its border, so those of a merged region follow from its parts.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import UInt8Array

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Borders = dict[tuple[int, int], tuple[int, float]]
"""For every two neighbours, the lower number first: length in pixel edges, and summed colour difference."""

_SMOOTHING_PX = 1.2
_SCALE = 0.5  # of felzenszwalb, on Lab colours divided by 100
_SMALLEST_LEAF_PX = 30
_STEP_PX = 2  # colours are compared this far apart across a border: a smoothed edge is about as wide


@dataclass(frozen=True, eq=False)
class RegionTree:
    """All regions of one image: L leaves, then L - 1 merged ones, each after its parts; N = 2 L - 1.

    Attributes:
        leaves: int64 ``[H, W]``, the leaf every pixel belongs to, 0 to L - 1.
        parts: int64 ``[N - L, 2]``, the two regions a merged one consists of.
        area_px: float64 ``[N]``.
        fill: float64 ``[N]``, area over that of the rectangle with the same second moments: 1 for a rectangle, 1.05 for
            an ellipse, less for anything ragged, bent or hollow.
        compactness: float64 ``[N]``, perimeter of a square of that area over the region's own, image border included.
        contrast: float64 ``[N]``, mean colour difference across the rim, in units of CIELAB.
    """

    leaves: IntArray
    parts: IntArray
    area_px: FloatArray
    fill: FloatArray
    compactness: FloatArray
    contrast: FloatArray

    def paint(self, regions: list[int]) -> npt.NDArray[np.int32]:
        """Number regions 1..n in the order given; int32 ``[H, W]``, 0 elsewhere. None may contain another."""
        count = len(self.area_px) - len(self.parts)
        table = np.zeros(count, dtype=np.int32)
        for number, region in enumerate(regions, start=1):
            inside = [region]
            while inside:
                node = inside.pop()
                if node < count:
                    table[node] = number
                else:
                    inside += self.parts[node - count].tolist()
        return table[self.leaves]


def build_tree(image: UInt8Array) -> RegionTree:
    """Segment an image and merge its regions.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.

    Returns:
        The regions; the same for the same image, always.
    """
    from skimage.color import rgb2lab
    from skimage.measure import label
    from skimage.segmentation import felzenszwalb

    lab = rgb2lab(image).astype(np.float32)
    lab = ndimage.gaussian_filter(lab, (_SMOOTHING_PX, _SMOOTHING_PX, 0))
    leaves = felzenszwalb(lab / 100, scale=_SCALE, sigma=0, min_size=_SMALLEST_LEAF_PX)
    # Pixels that touch at a corner only are no one piece, here and wherever objects are looked at.
    leaves = label(leaves, background=-1, connectivity=1).astype(np.int64) - 1
    count = int(leaves.max()) + 1
    borders = _borders(leaves, lab)
    pixels = np.bincount(leaves.ravel(), minlength=count)
    colours = np.stack([np.bincount(leaves.ravel(), band.ravel(), count) for band in np.moveaxis(lab, -1, 0)], axis=1)
    parts, shared = _merge(pixels.tolist(), (colours / pixels[:, None]).tolist(), borders)
    sums = np.concatenate([_moments(leaves, count), _rims(leaves, count, borders)], axis=1)
    sums = np.concatenate([sums, np.empty((len(parts), sums.shape[1]))])
    for index, (first, second) in enumerate(parts):
        sums[count + index] = sums[first] + sums[second]
        sums[count + index, -2:] -= shared[index]  # what was rim of both parts now lies inside
    area, row, col, row_row, col_col, row_col, frame, rim, contrast = sums.T
    # A pixel is a square, not a point: 1/12 is its own second moment.
    spread = (row_row / area - (row / area) ** 2 + 1 / 12) * (col_col / area - (col / area) ** 2 + 1 / 12)
    spread -= (row_col / area - row * col / area**2) ** 2
    return RegionTree(
        leaves=leaves,
        parts=np.asarray(parts, dtype=np.int64).reshape(-1, 2),
        area_px=area,
        fill=area / (12 * np.sqrt(np.maximum(spread, 1e-6))),
        compactness=4 * np.sqrt(area) / (rim + frame),
        contrast=contrast / np.maximum(rim, 1),
    )


def _moments(leaves: IntArray, count: int) -> FloatArray:
    """Area and sums of row, col, row², col², row·col; float64 ``[L, 6]``."""
    rows, cols = np.indices(leaves.shape, dtype=np.float64)
    weights = (np.ones_like(rows), rows, cols, rows * rows, cols * cols, rows * cols)
    return np.stack([np.bincount(leaves.ravel(), weight.ravel(), count) for weight in weights], axis=1)


def _borders(leaves: IntArray, lab: npt.NDArray[np.float32]) -> Borders:
    """Measure the border of every two neighbours."""
    count = int(leaves.max()) + 1
    keys, differences = [], []
    for labels, colours in ((leaves, lab), (leaves.T, lab.swapaxes(0, 1))):
        rows, cols = np.nonzero(labels[:-1] != labels[1:])
        above, below = labels[rows, cols], labels[rows + 1, cols]
        keys.append(np.minimum(above, below) * count + np.maximum(above, below))
        before = colours[np.maximum(rows + 1 - _STEP_PX, 0), cols]
        after = colours[np.minimum(rows + _STEP_PX, len(labels) - 1), cols]
        differences.append(np.sqrt(((before - after) ** 2).sum(axis=-1)))
    pairs, which = np.unique(np.concatenate(keys), return_inverse=True)
    lengths = np.bincount(which, minlength=len(pairs)).tolist()
    contrasts = np.bincount(which, np.concatenate(differences), len(pairs)).tolist()
    measured = zip(lengths, contrasts, strict=True)
    return {divmod(pair, count): border for pair, border in zip(pairs.tolist(), measured, strict=True)}


def _rims(leaves: IntArray, count: int, borders: Borders) -> FloatArray:
    """Pixel edges on the image border, rim length and summed colour difference across the rim; float64 ``[L, 3]``."""
    rims = np.zeros((count, 3))
    rims[:, 0] = np.bincount(np.concatenate([leaves[0], leaves[-1], leaves[:, 0], leaves[:, -1]]), minlength=count)
    pairs = np.array(list(borders), dtype=np.int64).reshape(-1, 2)
    for column, measure in enumerate(np.array(list(borders.values())).reshape(-1, 2).T, start=1):
        for side in pairs.T:
            rims[:, column] += np.bincount(side, measure, count)
    return rims


def _merge(
    areas: list[int], colours: list[list[float]], borders: Borders
) -> tuple[list[tuple[int, int]], list[tuple[int, float]]]:
    """Merge the cheapest pair of neighbours until none is left.

    Args:
        areas: Pixels of every leaf.
        colours: Its mean colour.
        borders: Between neighbours.

    Returns:
        For every merged region its two parts; and twice the length and twice the colour difference of the border that
        vanished between them.
    """
    neighbours: list[dict[int, tuple[int, float]]] = [{} for _ in areas]
    for (first, second), border in borders.items():
        neighbours[first][second] = neighbours[second][first] = border
    rims = [sum(length for length, _ in around.values()) for around in neighbours]

    def cost(first: int, second: int) -> float:
        area, other = areas[first], areas[second]
        length, contrast = neighbours[first][second]
        apart = math.dist(colours[first], colours[second])
        # Small ones first, as in Ward's clustering; what shares most of its rim with a neighbour belongs to it.
        embedded = length / min(rims[first], rims[second])
        # What merges into something ragged waits: roofs are compact.
        ragged = (rims[first] + rims[second] - 2 * length) / (4 * math.sqrt(area + other))
        return (apart + contrast / length) * math.sqrt(area * other / (area + other) / embedded * ragged)

    heap = [(cost(*pair), *pair) for pair in borders]
    heapq.heapify(heap)
    alive = [True] * len(areas)
    parts: list[tuple[int, int]] = []
    shared: list[tuple[int, float]] = []
    while heap:
        _, first, second = heapq.heappop(heap)
        if not (alive[first] and alive[second]):
            continue
        merged = len(areas)
        length, contrast = neighbours[first].pop(second)
        del neighbours[second][first]
        parts.append((first, second))
        shared.append((2 * length, 2 * contrast))
        areas.append(areas[first] + areas[second])
        share = areas[first] / areas[merged]
        colours.append([share * a + (1 - share) * b for a, b in zip(colours[first], colours[second], strict=True)])
        rims.append(rims[first] + rims[second] - 2 * length)
        alive[first] = alive[second] = False
        alive.append(True)
        around: dict[int, tuple[int, float]] = {}
        for part in (first, second):
            for other, (length, contrast) in neighbours[part].items():
                known = around.get(other, (0, 0.0))
                around[other] = (known[0] + length, known[1] + contrast)
                del neighbours[other][part]
            neighbours[part] = {}
        neighbours.append(around)
        for other, border in around.items():
            neighbours[other][merged] = border
            heapq.heappush(heap, (cost(merged, other), other, merged))
    return parts, shared
