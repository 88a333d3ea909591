"""Reading one xBD scene: building polygons to masks and objects, and the georeference they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.errors import SceneError
from changen_cli.core.types import IGNORE, GeoTransform, Int32Array, UInt8Array
from changen_cli.core.untrusted import read_json, readable_text
from changen_cli.sources.bounds import check_regular
from changen_cli.sources.georeference import Fit, fit_geotransform, plausible_gsd
from changen_cli.sources.masks import label_objects
from changen_cli.sources.raster import read_mask
from changen_cli.sources.tiling import compact_instances
from changen_cli.sources.wkt import Polygon, parse_polygons

BACKGROUND, BUILDING = 0, 1
_UNCLASSIFIED = "un-classified"
_LABEL_BYTES = 1 << 26
"""The largest labels of xBD have two megabytes."""
_MAX_VERTICES = 1_000_000
"""Of all polygons of a label together."""
_MAX_WORK = 4 * 10**9
"""Pixels the rasteriser may fill, or pass by, for one label; four seconds. A vertex costs as much as 24 pixels in every
row of its polygon. Labels of xBD need a hundredth."""
_VERTEX_PX = 24
_PRE, _POST = "_pre_disaster", "_post_disaster"


@dataclass(frozen=True, eq=False)
class XbdLabel:
    """What a label file says about one image.

    Attributes:
        mask: uint8 ``[H, W]``: 0 background, 1 building, 255 unknown.
        instances: int32 ``[H, W]``, objects 1..N.
        uids: Their names; empty when they come from a raster target.
        transform: Fitted pixel to (longitude, latitude) map, or None.
        gsd_m: Metres per pixel by the metadata, or None.
        notes: ``labels``, ``polygons`` (counts) and ``georeference``.
    """

    mask: UInt8Array
    instances: Int32Array
    uids: tuple[str, ...] = ()
    transform: GeoTransform | None = None
    gsd_m: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Object:
    uid: str
    unclassified: bool
    polygons: list[Polygon]

    @property
    def area(self) -> float:
        """Area in square pixels by the shoelace formula, holes subtracted."""
        total = 0.0
        for polygon in self.polygons:
            for number, ring in enumerate(polygon):
                x, y = (ring - ring[0]).T
                area = abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
                total += -area if number else area
        return total


def read_label(path: Path, shape: tuple[int, int]) -> XbdLabel:
    """Rasterise a label file (``labels/*.json``).

    A pixel belongs to the polygon its centre lies in. Polygons may overlap: the smaller one lies on top, so that a
    shed drawn inside a yard survives. Polygons with subtype ``un-classified`` make unknown pixels and no object. Real
    labels give subtypes for the second date only: a polygon without one has that of its uid in ``*_post_disaster.json``
    beside the file, if there is such a label. A polygon whose text cannot be parsed is dropped and counted, as are
    empty ones and those left without any pixel.

    Args:
        path: The JSON file.
        shape: (height, width) of the image.

    Raises:
        SceneError: The file is no such JSON, or was made for another image size.
    """
    content = _load(path)
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    width, height = metadata.get("width"), metadata.get("height")
    if isinstance(width, int) and isinstance(height, int) and (height, width) != shape:
        raise SceneError(f"{path.name} was made for {height}×{width} px, but the image is {shape[0]}×{shape[1]}")

    entries = content["features"]["xy"]
    untold = any(not _properties(entry).get("subtype") for entry in entries)
    objects, counts = _parse(entries, _unclassified_after(path) if untold else frozenset())
    mask, instances, uids = _rasterise(objects, shape)
    known = [item for item in objects if not item.unclassified]
    hidden = len(known) - len(uids)
    total = len(entries)
    polygons = {
        "total": total,
        "objects": len(uids),
        "unclassified": len(objects) - len(known),
        "without_pixels": hidden,
    }
    notes: dict[str, Any] = {"labels": "polygons", "polygons": {**polygons, **counts}}

    fit = _georeference(objects, content["features"].get("lng_lat"))
    if fit is not None:
        note: dict[str, Any] = {"method": "fitted xy↔lng_lat", "rms_m": fit.rms_m, "vertices": fit.vertices}
        if fit.rejected:
            note["objects_rejected"] = fit.rejected
        if fit.reason:
            note["not_used"] = fit.reason
        notes["georeference"] = note
    return XbdLabel(mask, instances, uids, fit.transform if fit else None, _gsd(metadata), notes)


def read_target(path: Path, shape: tuple[int, int]) -> XbdLabel:
    """Read a raster target: above 0 is building (whatever the damage), 255 unknown; objects are its components.

    Raises:
        SceneError: It cannot be read or has another size than the image.
    """
    values, _ = read_mask(path)
    if values.shape != shape:
        raise SceneError(
            f"{path.name} is {values.shape[0]}×{values.shape[1]} px, but the image is {shape[0]}×{shape[1]}"
        )
    mask = np.where(values == IGNORE, IGNORE, np.where(values > 0, BUILDING, BACKGROUND)).astype(np.uint8)
    return XbdLabel(mask, label_objects(mask, (BUILDING,)), notes={"labels": "raster target"})


def _load(path: Path) -> dict[str, Any]:
    try:
        check_regular(path)
        content = read_json(path, _LABEL_BYTES)
    except (OSError, ValueError, SceneError) as error:
        raise SceneError(f"label {path.name} cannot be read: {' '.join(str(error).split())[:200]}") from error
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, dict) or not isinstance(features.get("xy"), list):
        raise SceneError(f"label {path.name} has no list features.xy")
    texts = (entry.get("wkt") for entry in features["xy"] if isinstance(entry, dict))
    vertices = sum(text.count(",") for text in texts if isinstance(text, str))
    if vertices > _MAX_VERTICES:
        raise SceneError(f"label {path.name} has {vertices} vertices, at most {_MAX_VERTICES} are read: simplify it")
    return dict(content)


def _properties(entry: Any) -> dict[str, Any]:
    properties = entry.get("properties") if isinstance(entry, dict) else None
    return properties if isinstance(properties, dict) else {}


def _unclassified_after(path: Path) -> frozenset[str]:
    """Uids that the label of the second date, beside that of the first, calls un-classified; none without one."""
    if not path.stem.endswith(_PRE):
        return frozenset()
    try:
        content = _load(path.with_name(f"{path.stem.removesuffix(_PRE)}{_POST}{path.suffix}"))
    except SceneError:  # the first date is complete without it
        return frozenset()
    found = (_properties(entry) for entry in content["features"]["xy"])
    return frozenset(
        readable_text(item["uid"]) for item in found if item.get("subtype") == _UNCLASSIFIED and item.get("uid")
    )


def _parse(entries: Sequence[Any], after: frozenset[str] = frozenset()) -> tuple[list[_Object], dict[str, int]]:
    """Return the objects that have an outline, and the counts of those that have none.

    Args:
        entries: One of the label's lists of features.
        after: Uids that are un-classified where the entry itself gives no subtype.
    """
    objects: list[_Object] = []
    counts = {"invalid": 0, "empty": 0}
    told_after = 0
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        properties = _properties(entry)
        try:
            polygons = parse_polygons(entry["wkt"])
        except (TypeError, KeyError, ValueError):
            counts["invalid"] += 1
            continue
        if not polygons:
            counts["empty"] += 1
            continue
        uid = readable_text(properties.get("uid") or f"polygon-{number}")
        subtype = properties.get("subtype")
        by_after = not subtype and uid in after
        told_after += by_after
        while uid in taken:  # object names must tell objects apart
            uid = f"{uid}#{number}"
        taken.add(uid)
        objects.append(_Object(uid, by_after or subtype == _UNCLASSIFIED, polygons))
    return objects, {**counts, "unclassified_after": told_after} if told_after else counts


def _rasterise(objects: Sequence[_Object], shape: tuple[int, int]) -> tuple[UInt8Array, Int32Array, tuple[str, ...]]:
    from rasterio.features import rasterize

    burnt = np.zeros(shape, dtype=np.int32)
    if objects:
        _check_work(objects, shape)
        # Largest first, so that the smaller one of two lies on top. Equal areas: the later in the file on top.
        order = sorted(range(len(objects)), key=lambda i: -objects[i].area)
        geometries = (
            ({"type": "MultiPolygon", "coordinates": [[r.tolist() for r in p] for p in objects[i].polygons]}, i + 1)
            for i in order
        )
        burnt = rasterize(geometries, out_shape=shape, fill=0, dtype="int32")
    unknown = np.asarray([False, *(item.unclassified for item in objects)])
    mask = np.where(burnt > 0, np.uint8(BUILDING), np.uint8(BACKGROUND))
    mask[unknown[burnt]] = IGNORE
    instances, uids = compact_instances(
        np.where(mask == BUILDING, burnt, 0).astype(np.int32), tuple(item.uid for item in objects)
    )
    return mask, instances, uids


def _check_work(objects: Sequence[_Object], shape: tuple[int, int]) -> None:
    """Raise SceneError for polygons that take the rasteriser hours: it goes through all edges for every row."""
    work = 0.0
    for polygon in (polygon for item in objects for polygon in item.polygons):
        corners = np.concatenate(polygon)
        cols, rows = np.ptp(np.clip(corners, 0, (shape[1], shape[0])), axis=0)
        work += float((rows + 1) * (cols + 1 + _VERTEX_PX * len(corners)))
    if work > _MAX_WORK:
        raise SceneError("its polygons cover the image too many times, or have too many vertices: simplify them")


def _georeference(objects: Sequence[_Object], entries: Any) -> Fit | None:
    """Fit pixels to degrees over the objects present in both lists with equal vertices; None without such a list."""
    if not isinstance(entries, list) or not entries:
        return None
    geographic = {item.uid: item.polygons for item in _parse(entries)[0]}
    pairs = []
    for item in objects:
        other = geographic.get(item.uid)
        if other is None:
            continue
        rings = [ring[:-1] for polygon in item.polygons for ring in polygon]
        degrees = [ring[:-1] for polygon in other for ring in polygon]
        if [len(ring) for ring in rings] == [len(ring) for ring in degrees]:
            pairs.append((np.concatenate(rings), np.concatenate(degrees)))
    return fit_geotransform(pairs)


def _gsd(metadata: dict[str, Any]) -> float | None:
    # ``gsd`` is that of the multispectral bands; the images are pan-sharpened to ``pan_resolution``.
    for key in ("pan_resolution", "gsd"):
        value = metadata.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and plausible_gsd(value):
            return float(value)
    return None
