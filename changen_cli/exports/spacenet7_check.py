"""Checks of folders in SpaceNet 7's layout, also of those that do not come from changen.

torchgeo finds images and labels of a place by the month and place in their names; trackers expect one grid a place, and
one ``Id`` a building through all months. [torchgeo, arXiv:2102.04420]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.untrusted import read_json
from changen_cli.exports.findings import Finding, Problem, one_line
from changen_cli.exports.layers import relative
from changen_cli.exports.reading import open_geotiff

_NAME = re.compile(r"global_monthly_\d{4}_(?:0[1-9]|1[0-2])_mosaic_(.+)\.tif")
_SPLITS = ("train", "val", "test", "test_public")
_IMAGES = ("images", "images_masked")
_LABELS = ("labels_match_pix", "labels_match", "labels")
_ENDING = "_Buildings.geojson"

Boxes = dict[int, tuple[float, float, float, float]]
"""Id → (smallest x, smallest y, largest x, largest y)."""


@dataclass(frozen=True)
class _Grid:
    """The pixels of an image, and where they lie."""

    width: int
    height: int
    crs: Any
    transform: Any


def check_spacenet7(root: Path) -> Iterator[Finding]:
    """Check every place of every split, or of the folder itself."""
    bases = [root / name for name in _SPLITS if (root / name).is_dir()] or [root]
    places = [path for base in bases for path in sorted(base.iterdir()) if path.is_dir() and _has_images(path)]
    if not places:
        yield Finding(
            ".", "holds no place: no folder with images or images_masked in it", "Name the folder of the places"
        )
    for place in places:
        yield from _check_place(root, place)


def _has_images(place: Path) -> bool:
    return any((place / name).is_dir() for name in _IMAGES)


def _check_place(root: Path, place: Path) -> Iterator[Finding]:
    grids: dict[str, _Grid] = {}
    for folder in (place / name for name in _IMAGES if (place / name).is_dir()):
        for path in sorted(folder.iterdir()):
            found = _NAME.fullmatch(path.name)
            if not found or found[1] != place.name:
                fix = f"Readers look for global_monthly_YYYY_MM_mosaic_{place.name}.tif"
                yield Finding(relative(root, path), "has a name that tells no month and place", fix)
                continue
            grid, problem = _open(path)
            if problem:
                yield Finding(relative(root, path), problem, "Save it as 8-bit GeoTIFF of three or four bands")
            if grid and grids and grid != next(iter(grids.values())):
                fix = "All images of a place share size, CRS and transform: objects are tracked on one grid"
                yield Finding(relative(root, path), f"lies on another grid than {next(iter(grids))}.tif", fix)
            if grid:
                grids.setdefault(path.stem, grid)
    kinds = [name for name in _LABELS if (place / name).is_dir()]
    if not kinds:
        fix = "Without labels it can be looked at, and not learned from"
        yield Finding(relative(root, place), f"has none of {', '.join(_LABELS)}", fix, "warning")
    ids: dict[str, dict[str, Boxes]] = {}
    for kind in kinds:
        ids[kind] = {}
        yield from _check_labels(root, place / kind, grids, ids[kind])
    for stem in sorted(grids) if {"labels_match", "labels_match_pix"} <= set(ids) else ():
        pix, degrees = ids["labels_match_pix"].get(stem), ids["labels_match"].get(stem)
        if pix is not None and degrees is not None and set(pix) != set(degrees):
            fix = "Both show the same buildings"
            path = place / "labels_match" / f"{stem}{_ENDING}"
            yield Finding(relative(root, path), "shows other Ids than the one in labels_match_pix", fix)


def _open(path: Path) -> tuple[_Grid | None, str]:
    """The grid of an image; and what is wrong with it, or nothing."""
    from rasterio.errors import RasterioError

    try:
        with open_geotiff(path) as source:
            source.read()
            grid = _Grid(source.width, source.height, source.crs, source.transform)
            fits = source.count in (3, 4) and set(source.dtypes) == {"uint8"}
            return grid, "" if fits else f"has {source.count} band(s) of {source.dtypes[0]}"
    except RasterioError as error:
        return None, f"cannot be read: {one_line(error)}"


def _check_labels(root: Path, folder: Path, grids: dict[str, _Grid], seen: dict[str, Boxes]) -> Iterator[Finding]:
    """Check the labels of one kind; notes in ``seen`` what they show."""
    for path in sorted(folder.glob(f"*{_ENDING}")):
        if path.name.removesuffix(_ENDING) not in grids:
            yield Finding(relative(root, path), "has no image of its name", "Add the image, or remove it")
    before: Boxes = {}
    for stem, grid in sorted(grids.items()):
        path = folder / f"{stem}{_ENDING}"
        if not path.is_file():
            fix = "Every image has its labels; where no building is, an empty FeatureCollection"
            yield Finding(relative(root, path), "is missing", fix)
            continue
        boxes, problems = _read(path, grid, pixels=folder.name == "labels_match_pix", tracked=folder.name != "labels")
        yield from (Finding(relative(root, path), *problem) for problem in problems)
        if boxes is None:
            continue
        seen[stem] = boxes
        moved = [number for number in boxes.keys() & before.keys() if _apart(boxes[number], before[number])]
        if moved:
            fix = "An Id is one building, which stays where it is"
            message = f"has {len(moved)} Id(s) elsewhere than the date before, e.g. {min(moved)}"
            yield Finding(relative(root, path), message, fix)
        before = boxes


def _read(path: Path, grid: _Grid, *, pixels: bool, tracked: bool) -> tuple[Boxes | None, list[Problem]]:
    """The boxes of the buildings of a file, and (what is wrong, what to do) of each problem."""
    try:
        features = read_json(path)["features"]
        entries = [(feature["properties"], feature["geometry"]) for feature in features]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, [(f"is no FeatureCollection: {error!r}"[:160], "Write GeoJSON; an empty list features is fine")]
    boxes: Boxes = {}
    problems: list[Problem] = []
    for index, (properties, shape) in enumerate(entries):
        points = _points(shape)
        if points is None:
            problems.append((f"features[{index}] is no polygon with closed rings", "Write Polygon or MultiPolygon"))
            continue
        told = properties if isinstance(properties, dict) else {}
        number = told.get("Id", index if not tracked else None)
        if not isinstance(number, int) or isinstance(number, bool):
            problems.append((f"features[{index}] has no whole Id", "Buildings are told apart by properties.Id"))
            continue
        if number in boxes:
            problems.append((f"features[{index}] has the Id {number} again", "One building is one feature"))
        if _outside(points, grid, pixels=pixels):
            fix = "Pixels are (column, row)" if pixels else "Coordinates are (longitude, latitude) in degrees, WGS 84"
            problems.append((f"features[{index}] (Id {number}) leaves the image", fix))
        boxes[number] = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    return boxes, problems


def _points(shape: Any) -> Any:
    """All corners, float64 ``[N, 2]``; None where it is no polygon."""
    try:
        polygons = {"Polygon": [shape["coordinates"]], "MultiPolygon": shape["coordinates"]}[shape["type"]]
        rings = [np.asarray(ring, dtype=np.float64)[:, :2] for polygon in polygons for ring in polygon]
        if not all(np.isfinite(ring).all() for ring in rings):
            return None
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    closed = rings and all(len(ring) >= 4 and (ring[0] == ring[-1]).all() and ring.shape[1] == 2 for ring in rings)
    return np.concatenate(rings) if closed else None


def _outside(points: Any, grid: _Grid, *, pixels: bool) -> bool:
    if not pixels:
        if grid.crs is None:
            return False
        from rasterio.warp import transform

        if (np.abs(points) > (180, 90)).any():
            return True
        x, y = transform("EPSG:4326", grid.crs, points[:, 0].tolist(), points[:, 1].tolist())
        a, b, c, d, e, f = list(~grid.transform)[:6]
        east, north = np.asarray(x), np.asarray(y)
        points = np.stack([a * east + b * north + c, d * east + e * north + f], axis=1)
    # Buildings of the real set are cut at the image, within its rounding.
    return bool((points < -1).any() or (points > (grid.width + 1, grid.height + 1)).any())


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] > other[2] or other[0] > one[2] or one[1] > other[3] or other[1] > one[3]
