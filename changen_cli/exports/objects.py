"""The objects of a series: one by one, at every date, with their outlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import UsageError
from changen_cli.core.types import BoolArray, Box, ClassSchema, Int32Array, UInt8Array
from changen_cli.exports.master import Master, Sample

Ring = list[tuple[float, float]]
"""A closed ring of ``(col, row)`` in pixels, or of ``(longitude, latitude)`` in degrees."""
Polygon = list[Ring]
"""An outer ring and its holes."""

OLD_DATASET = (
    "the dataset is older than instance masks: an object is a connected region of a building class, and buildings "
    "that touch are one"
)


def need_objects(master: Master, layout: str) -> None:
    """Refuse a dataset whose masks have no class whose objects are told apart.

    Raises:
        UsageError: There is none.
    """
    if not master.schema.building_ids:
        classes = ", ".join(master.schema.names)
        raise UsageError(
            f"{master.root} has no class that is a building ({classes}), and {layout} is about buildings",
            "Choose another layout, such as levir-cd, second or webdataset",
        )


def need_buildings(master: Master, layout: str) -> None:
    """Refuse a dataset whose masks have no class that is a building, which all of a layout is about.

    Raises:
        UsageError: There is none, or the objects are proposals.
    """
    need_objects(master, layout)
    if master.schema.class_agnostic:
        raise UsageError(
            f"{master.root} shows proposed objects, and {layout} is about buildings", "Choose coco or webdataset"
        )


def object_numbers(sample: Sample, schema: ClassSchema) -> tuple[Int32Array, dict[int, str]]:
    """Number every building of a series, persistently.

    The numbers are those of the instance masks. Buildings without one get further numbers: those of datasets that are
    older than these masks, and those of a second class of buildings. They are connected regions; what stays a building
    keeps its number, what becomes one gets a new one.

    Args:
        sample: The series.
        schema: The classes of its masks.

    Returns:
        Int32 ``[T, H, W]``, 0 where no building is; and number → object id, no two alike.
    """
    from scipy import ndimage

    built = np.zeros(256, dtype=bool)
    built[list(schema.building_ids)] = True
    standing = built[sample.mask_arrays]
    numbers = np.where(standing, sample.instance_arrays, 0) if sample.instances else np.zeros(standing.shape, np.int32)
    names, taken = dict(sample.objects), max([*sample.objects, int(numbers.max(initial=0))], default=0)
    for date, left in enumerate(standing & (numbers == 0)):
        if not left.any():
            continue
        if date:
            stayed = left & standing[date - 1] & (numbers[date - 1] > 0)
            numbers[date][stayed] = numbers[date - 1][stayed]
            left &= ~stayed
        for index in schema.building_ids:
            labels, found = ndimage.label(left & (sample.mask_arrays[date] == index))
            numbers[date][labels > 0] = labels[labels > 0] + taken
            names |= {number: f"obj{number:05d}" for number in range(taken + 1, taken + 1 + found)}
            taken += found
    return numbers.astype(np.int32, copy=False), _unique(names)


def _unique(names: dict[int, str]) -> dict[int, str]:
    """The same names, those of a later number with its number if they are taken: what moved has its old id."""
    known: set[str] = set()
    unique: dict[int, str] = {}
    for number, name in sorted(names.items()):
        unique[number] = name if name not in known else f"{name}#{number}"
        known.add(unique[number])
    return unique


@dataclass(frozen=True)
class Outline:
    """One object at one date.

    Attributes:
        number: Its number in the series.
        class_id: Its class; the most frequent one where it has several.
        area_px: Its pixels.
        polygons: Its pieces, in pixels along pixel edges: filling them by pixel centres gives exactly its pixels.
    """

    number: int
    class_id: int
    area_px: int
    polygons: list[Polygon]

    @property
    def box(self) -> Box:
        """Half-open ``(row0, col0, row1, col1)`` in pixels."""
        corners = np.array([point for polygon in self.polygons for point in polygon[0]])
        (col0, row0), (col1, row1) = corners.min(axis=0), corners.max(axis=0)
        return int(row0), int(col0), int(row1), int(col1)


def outlines(numbers: Int32Array, mask: UInt8Array) -> list[Outline]:
    """The objects of one date, by number.

    Args:
        numbers: Object numbers ``[H, W]``, 0 where none.
        mask: The semantic mask ``[H, W]``.
    """
    inside = numbers > 0
    pairs, counts = np.unique(numbers[inside].astype(np.int64) * 256 + mask[inside], return_counts=True)
    pieces = trace(numbers)
    found: list[Outline] = []
    for number in np.unique(pairs // 256).tolist():
        own = pairs // 256 == number
        classes, areas = pairs[own] % 256, counts[own]
        found.append(Outline(number, int(classes[areas.argmax()]), int(areas.sum()), pieces[number]))
    return found


def trace(numbers: Int32Array) -> dict[int, list[Polygon]]:
    """Number → the polygons of its 4-connected pieces, ``(col, row)`` along pixel edges."""
    from rasterio.features import shapes

    pieces: dict[int, list[Polygon]] = {}
    for geometry, number in shapes(numbers, mask=numbers > 0, connectivity=4):
        rings = [[(int(col), int(row)) for col, row in ring] for ring in geometry["coordinates"]]
        pieces.setdefault(int(number), []).append(rings)  # type: ignore[arg-type]
    return pieces


def fill(polygons: list[Polygon], shape: tuple[int, int]) -> BoolArray:
    """The pixels whose centre lies in one of the polygons: bool ``[H, W]``."""
    return burn([(polygons, 1)], shape) > 0


def burn(objects: list[tuple[list[Polygon], int]], shape: tuple[int, int]) -> Int32Array:
    """Fill polygons with values, later ones over earlier ones: int32 ``[H, W]``, 0 elsewhere."""
    from rasterio.features import rasterize

    filled = [({"type": "MultiPolygon", "coordinates": polygons}, value) for polygons, value in objects if polygons]
    if not filled:
        return np.zeros(shape, dtype=np.int32)
    burnt: Int32Array = rasterize(filled, out_shape=shape, fill=0, dtype="int32")
    return burnt


def geometry(polygons: list[Polygon]) -> dict[str, Any]:
    """A GeoJSON geometry."""
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


class Ground:
    """Where the pixels of a tile lie: on the globe, if its georeference says so.

    Args:
        row: The metadata of a sample, with ``crs`` and ``transform``.
    """

    def __init__(self, row: dict[str, Any]) -> None:
        self.crs, self.transform = row.get("crs"), row.get("transform")

    def __bool__(self) -> bool:
        return bool(self.crs and self.transform)

    def lon_lat(self, polygons: list[Polygon]) -> list[Polygon]:
        """Polygons in pixels to (longitude, latitude) in degrees, WGS 84, to a tenth of a millimetre."""
        from rasterio.warp import transform

        points = np.array([point for polygon in polygons for ring in polygon for point in ring], dtype=np.float64)
        a, b, c, d, e, f = (float(value) for value in self.transform or ())
        x, y = a * points[:, 0] + b * points[:, 1] + c, d * points[:, 0] + e * points[:, 1] + f
        longitudes, latitudes = transform(self.crs, "EPSG:4326", x.tolist(), y.tolist())
        degrees: Iterator[tuple[float, float]] = zip(
            np.round(longitudes, 9).tolist(), np.round(latitudes, 9).tolist(), strict=True
        )
        return [[[next(degrees) for _ in ring] for ring in polygon] for polygon in polygons]

    def footprint(self, shape: tuple[int, int]) -> Polygon:
        """The outline of a tile of ``(height, width)`` pixels in degrees, counter-clockwise as GeoJSON wants it."""
        height, width = shape
        corners: Ring = [(0, height), (width, height), (width, 0), (0, 0), (0, height)]
        ring = self.lon_lat([[corners]])[0][0]
        turn = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
        return [ring if turn > 0 else ring[::-1]]


def ring_area(ring: npt.ArrayLike) -> float:
    """The area of a ring by the shoelace formula, in square units of its coordinates."""
    x, y = (np.asarray(ring, dtype=np.float64) - np.asarray(ring, dtype=np.float64)[0]).T
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
