"""Parts of regions that change class as one: whole regions, parcels of large ones, strips of road."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, UInt8Array
from changen_cli.events.outlines import SMALLEST_PX, follow_edges
from changen_cli.events.regions import FloatArray, crop, pad_box, tighten

Coordinates = npt.NDArray[np.intp] | FloatArray
Shape = Literal["parcel", "patch", "strip"]

_WHOLE = 2.5  # a region up to this factor larger than the part asked for goes as a whole
_REACH = 1.6  # half side of the window a parcel is cut in, in square roots of its area
_SIDES = (4, 8)
_ASPECT = (10.0, 25.0)  # length over width of a strip
_WAVES = ((0.12, 1.3), (0.05, 0.5))  # amplitude and wavelength of a patch's outline, in square roots of its area


class OpenGround:
    """The pixels that may still change in a step; shrinks as parts are taken.

    Attributes:
        values: uint8 ``[H, W]``, the class where a pixel may change, else 255.
    """

    def __init__(self, mask: UInt8Array, closed: BoolArray, edges: UInt8Array | None = None) -> None:
        """Take the open pixels of a mask.

        Args:
            mask: uint8 ``[H, W]``, semantic mask of date t; 255 is unknown and never open.
            closed: bool ``[H, W]``, pixels that may not change.
            edges: uint8 ``[H, W]``, edges of the image that cuts follow; None when it is not known.
        """
        self._mask, self._edges = mask, edges
        self.values = np.where(closed, np.uint8(255), mask)
        self._beside: dict[tuple[int, int], npt.NDArray[np.intp]] = {}
        self._closed: dict[int, BoolArray] = {}

    def areas_px(self) -> FloatArray:
        """Open pixels per class, float64 ``[256]``; 0 for unknown."""
        counts = np.bincount(self.values.ravel(), minlength=256).astype(np.float64)
        counts[255] = 0
        return counts

    def closed_to(self, of: int) -> BoolArray:
        """Where nothing of a class may change any more, bool ``[H, W]``; kept up to date as parts are taken."""
        if of not in self._closed:
            self._closed[of] = self.values != of
        return self._closed[of]

    def seed(self, of: int, beside: int | None, rng: np.random.Generator, room_px: int = 0) -> tuple[int, int] | None:
        """Draw an open pixel of a class, uniformly.

        Args:
            of: The class.
            beside: Only pixels next to this class; anywhere when None.
            rng: The step's generator.
            room_px: Only pixels that have open ones of the class at this distance above, below, left and right.

        Returns:
            ``(row, col)``, or None when there is none.
        """
        flat = self.values.reshape(-1)
        if beside is None:
            for _ in range(4):  # a common class is hit at once; only a rare one is worth listing
                tried = rng.integers(flat.size, size=256)
                hits = self._roomy(tried[flat[tried] == of], room_px)
                if hits.size:
                    return self._place(int(hits[0]))
            found = np.flatnonzero(flat == of)
        else:
            found = self._open_border(of, beside)
        found = self._roomy(found, room_px)
        return self._place(int(found[rng.integers(found.size)])) if found.size else None

    def edge_seed(
        self, of: Collection[int], beside: Collection[int], rng: np.random.Generator
    ) -> tuple[int, int] | None:
        """Draw an open pixel of some classes next to a pixel of some others; None when there is none."""
        found = np.concatenate([self._open_border(a, b) for a in of for b in beside])
        return self._place(int(found[rng.integers(found.size)])) if found.size else None

    def edge_px(self, of: Collection[int], beside: Collection[int]) -> FloatArray:
        """Open pixels per class that lie next to some others, float64 ``[256]``; 0 for classes not in ``of``."""
        counts = np.zeros(256)
        for a in of:
            counts[a] = sum(self._open_border(a, b).size for b in beside)
        return counts

    def _open_border(self, of: int, beside: int) -> npt.NDArray[np.intp]:
        found = self._border(of, beside)
        return np.asarray(found[self.values.reshape(-1)[found] == of])

    def _roomy(self, found: npt.NDArray[np.intp], room_px: int) -> npt.NDArray[np.intp]:
        """Those of some pixels, as flat indices, that have their own class on all four sides."""
        if not room_px:
            return found
        height, width = self.values.shape
        rows, cols = np.divmod(found, width)
        inside = (np.minimum(rows, height - 1 - rows) >= room_px) & (np.minimum(cols, width - 1 - cols) >= room_px)
        found = found[inside]
        flat = self.values.reshape(-1)
        for offset in (room_px, -room_px, room_px * width, -room_px * width):
            found = found[flat[found + offset] == flat[found]]
        return found

    def _place(self, flat: int) -> tuple[int, int]:
        return flat // self.values.shape[1], flat % self.values.shape[1]

    def _border(self, of: int, beside: int) -> npt.NDArray[np.intp]:
        """Flat indices of the pixels of a class that touch another one along an edge."""
        if (of, beside) not in self._beside:
            own, other = self._mask == of, self._mask == beside
            touching = np.zeros(own.shape, dtype=bool)
            touching[1:] |= other[:-1]
            touching[:-1] |= other[1:]
            touching[:, 1:] |= other[:, :-1]
            touching[:, :-1] |= other[:, 1:]
            self._beside[of, beside] = np.flatnonzero(own & touching)
        return self._beside[of, beside]

    def take(self, box: Box, footprint: BoolArray) -> None:
        """Close a part."""
        self.values[crop(box)][footprint] = 255
        for closed in self._closed.values():
            closed[crop(box)][footprint] = True

    def cut(
        self,
        seed: tuple[int, int],
        area_px: float,
        limits_px: tuple[float, float],
        shape: Shape,
        rng: np.random.Generator,
    ) -> tuple[Box, BoolArray] | None:
        """Cut a connected part around a pixel out of its region.

        A region hardly larger than what is asked for goes as a whole, where it is a parcel that is cut. From a larger
        one the pixels nearest to the seed are taken, in a metric whose unit ball is a random convex polygon: the cell
        the seed would have among random neighbours in a Voronoi diagram, but of the area asked for. Where the image is
        known its outline moves to edges near it.

        Args:
            seed: ``(row, col)`` of an open pixel.
            area_px: Area wanted.
            limits_px: Smallest and largest area that will do.
            shape: ``"parcel"`` with straight sides, ``"patch"`` with wavy ones, or ``"strip"`` for roads.
            rng: The step's generator.

        Returns:
            The part's box and its pixels in it; None when there is no such part.
        """
        # A strip's half length, or enough room for a parcel of which half lies beyond its region's border.
        side = math.sqrt(area_px * max(_ASPECT)) / 2 if shape == "strip" else _REACH * math.sqrt(area_px)
        box = pad_box((*seed, seed[0] + 1, seed[1] + 1), math.ceil(side) + 2, self.values.shape)
        window = self.values[crop(box)]
        at = (seed[0] - box[0], seed[1] - box[1])
        labels, _ = ndimage.label(window == window[at])
        region = labels == labels[at]
        size = int(region.sum())
        least_px, most_px = limits_px
        if shape != "strip" and size <= min(_WHOLE * area_px, most_px) and not self.goes_on(region, box):
            part = region
        else:
            rows, cols = np.nonzero(region)
            distance, widest = _polygon_distance(rows - at[0], cols - at[1], shape, area_px, rng)
            wanted = min(round(area_px), size)
            reach = min(np.partition(distance, wanted - 1)[wanted - 1], widest)
            part = _piece(region, rows, cols, distance <= reach, at)
            if self._edges is not None and shape != "strip" and reach > 0 and area_px >= SMALLEST_PX:
                edges = self._edges[crop(box)][rows, cols]
                moved = follow_edges(rows - at[0], cols - at[1], distance / reach, edges)
                followed = _piece(region, rows, cols, moved, at)
                part = followed if least_px <= followed.sum() <= most_px else part
        area = int(part.sum())
        if not least_px <= area <= most_px:
            return None
        footprint, tight = tighten(part, box)
        return tight, footprint

    def goes_on(self, region: BoolArray, box: Box) -> bool:
        """Whether a region reaches a side of its window that is not the tile's own border."""
        height, width = self.values.shape
        return bool(
            (box[0] > 0 and region[0].any())
            or (box[2] < height and region[-1].any())
            or (box[1] > 0 and region[:, 0].any())
            or (box[3] < width and region[:, -1].any())
        )


def _piece(
    region: BoolArray, rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp], chosen: BoolArray, at: tuple[int, int]
) -> BoolArray:
    """The connected piece around the seed of some of a region's pixels; the straight way may lead across others."""
    part = np.zeros_like(region)
    part[rows[chosen], cols[chosen]] = True
    labels, count = ndimage.label(part)
    return np.asarray(labels == labels[at]) if count > 1 else part


def _polygon_distance(
    rows: Coordinates, cols: Coordinates, shape: Shape, area_px: float, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Distance from the origin in the metric of a random convex polygon (its gauge function).

    Returns:
        float64 ``[N]``, and the distance a part may reach: what a strip lacks at the edge of its region must not be
        made up for by its width.
    """
    turn = rng.uniform(0, math.pi)
    if shape == "strip":
        aspect = rng.uniform(*_ASPECT)
        along = np.abs(rows * math.sin(turn) + cols * math.cos(turn))
        across = np.abs(cols * math.sin(turn) - rows * math.cos(turn))
        return np.maximum(along / aspect, across), 1.05 * math.sqrt(area_px / (4 * aspect))
    if shape == "patch":
        rows, cols = _bent(rows, cols, math.sqrt(area_px), rng)
    sides = int(rng.integers(*_SIDES))
    angles = turn + (np.arange(sides) + rng.uniform(-0.3, 0.3, sides)) * (2 * math.pi / sides)
    reach = rng.uniform(0.7, 1.3, sides)
    edges = np.stack([np.sin(angles), np.cos(angles)]) / reach
    distance = rows * edges[0, 0] + cols * edges[1, 0]
    for index in range(1, sides):
        np.maximum(distance, rows * edges[0, index] + cols * edges[1, index], out=distance)
    return distance, math.inf


def _bent(
    rows: Coordinates, cols: Coordinates, side_px: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Shift coordinates by waves across each other: straight lines become shores and edges of woods."""
    for height, length in _WAVES:
        phases = rng.uniform(0, 2 * math.pi, 2)
        turn = 2 * math.pi / (length * side_px)
        bent_rows = rows + height * side_px * np.sin(turn * cols + phases[0])
        rows, cols = bent_rows, cols + height * side_px * np.sin(turn * bent_rows + phases[1])
    return np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
