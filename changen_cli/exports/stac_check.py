"""Checks of static STAC catalogues, also of those that do not come from changen.

The rules are those of the item, collection and catalogue specifications, and the fields the label extension requires.
[radiantearth/stac-spec 1.1.0, stac-extensions/label v1.0.0]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.untrusted import read_json
from changen_cli.exports.findings import Finding, Problem, guarded
from changen_cli.exports.layers import relative
from changen_cli.exports.reading import decode

_LABEL = "stac-extensions.github.io/label/"
_REQUIRED = {
    "Catalog": ("stac_version", "id", "description", "links"),
    "Collection": ("stac_version", "id", "description", "license", "extent", "links"),
    "Feature": ("stac_version", "id", "geometry", "properties", "links", "assets"),
}
_TYPES: dict[str, type] = {"id": str, "links": list, "properties": dict, "assets": dict, "collection": str}
_LINKED = ("child", "item", "root", "parent", "collection", "source")
_RASTERS = (".png", ".tif", ".tiff")

Content = Mapping[str, Any]


def check_stac(root: Path) -> Iterator[Finding]:
    """Check ``catalog.json`` or ``collection.json`` of the folder, and everything it leads to."""
    start = next((root / name for name in ("catalog.json", "collection.json") if (root / name).is_file()), None)
    if start is None:
        yield Finding(".", "has neither catalog.json nor collection.json", "Name the folder of the catalogue")
        return
    waiting, seen = [start.resolve()], {start.resolve()}
    base = root.resolve()
    ids: dict[tuple[str, str], str] = {}
    while waiting:
        path = waiting.pop()
        content, problems = _read(path, base)
        name = _name(base, path)
        yield from (Finding(name, *problem) for problem in problems)
        if content is None:
            continue
        found = chain(_link_problems(path, content), _item_problems(path, content, name, ids, base))
        fix = "Compare it with the specification of STAC"
        yield from (Finding(name, *problem) for problem in guarded(found, f"the {content['type']}", fix))
        for link in reversed(_links(content, ("child", "item"))):
            target = (path.parent / link["href"]).resolve()
            if target.is_file() and target not in seen:
                seen.add(target)
                waiting.append(target)


def _name(base: Path, path: Path) -> str:
    return relative(base, path) if path.is_relative_to(base) else path.as_posix()


def _read(path: Path, base: Path) -> tuple[Content | None, list[Problem]]:
    """An object of the catalogue in ``base``, if it is one and leads to nothing outside; and its problems."""
    try:
        content = read_json(path)
        kind = content["type"]
        required = _REQUIRED[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, [(f"is no STAC object: {error!r}"[:160], f"Its type is one of {', '.join(_REQUIRED)}")]
    missing = [key for key in required if key not in content]
    if missing:
        return None, [(f"lacks {', '.join(missing)}", f"A {kind} must have them")]
    wrong = [key for key, type_ in _TYPES.items() if key in content and not isinstance(content[key], type_)]
    if wrong or not all(isinstance(link, dict) and isinstance(link.get("href"), str) for link in content["links"]):
        return None, [
            (f"has {wrong[0] if wrong else 'a link'} of a wrong kind", "Compare it with the specification of STAC")
        ]
    if outside := [href for href in _hrefs(content) if not _is_inside(base, path.parent / href)]:
        return None, [
            (f"leads out of the catalogue, to {outside[0]}"[:160], "A static catalogue holds its files itself")
        ]
    if kind == "Collection":
        return content, list(_extent_problems(content["extent"]))
    return content, []


def _hrefs(content: Content) -> Iterator[str]:
    """All that the checks follow."""
    assets = content.get("assets", {}).values()
    for entry in (*content["links"], *(asset for asset in assets if isinstance(asset, dict))):
        href = entry.get("href")
        if isinstance(href, str) and "://" not in href:
            yield href


def _is_inside(base: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(base)
    except (OSError, ValueError, RuntimeError):  # no path at all
        return False


def _extent_problems(extent: Any) -> Iterator[Problem]:
    try:
        boxes, intervals = extent["spatial"]["bbox"], extent["temporal"]["interval"]
        fits = all(len(box) in (4, 6) for box in boxes) and all(len(interval) == 2 for interval in intervals)
    except (KeyError, TypeError):
        fits = False
    if not fits:
        yield "has no spatial.bbox and temporal.interval in its extent", "Both are lists of lists"


def _links(content: Content, rels: tuple[str, ...] = _LINKED) -> list[Content]:
    """Links to files of the catalogue."""
    return [link for link in content["links"] if link.get("rel") in rels and "://" not in link["href"]]


def _link_problems(path: Path, content: Content) -> Iterator[Problem]:
    for link in _links(content):
        if not (path.parent / link["href"]).is_file():
            yield f"links as {link['rel']} to {link['href']}, which is missing", "Add it, or remove the link"
    if content["type"] == "Feature":
        has = any(link.get("rel") == "collection" for link in content["links"])
        if ("collection" in content) != has:
            yield "has a field collection without such a link, or the other way round", "An item has both or neither"


def _item_problems(
    path: Path, item: Content, name: str, ids: dict[tuple[str, str], str], base: Path
) -> Iterator[Problem]:
    """Problems of an item, if it is one; notes in ``ids`` who has its id."""
    if item["type"] != "Feature":
        return
    other = ids.setdefault((item.get("collection", ""), item["id"]), name)
    if other != name:
        yield f"has the id {item['id']}, as {other} does", "Ids are unique in a collection"
    yield from _place_problems(item)
    yield from _time_problems(item["properties"])
    sizes: dict[str, tuple[int, int]] = {}
    for key, asset in item["assets"].items():
        href = str(asset.get("href", "")) if isinstance(asset, dict) else ""
        if "://" in href:
            continue
        file = path.parent / href
        if not href or not file.is_file():
            yield f"has the asset {key} at {href}, which is missing", "Add the file, or remove the asset"
        elif file.suffix.lower() in _RASTERS:
            size, problem = _size(file)
            if problem:
                yield f"has an asset {key} that {problem}", "Copy or export it again"
            if size:
                sizes[key] = size
    shape = item["properties"].get("proj:shape")
    wanted = tuple(shape) if isinstance(shape, list) else None
    if len(set(sizes.values()) | ({wanted} if wanted and sizes else set())) > 1:
        yield (
            f"has rasters of several sizes: {sizes}, proj:shape {shape}"[:200],
            "All rasters of an item share one grid",
        )
    if any(_LABEL in str(uri) for uri in item.get("stac_extensions") or ()):
        yield from _label_problems(path, item, base)


def _place_problems(item: Content) -> Iterator[Problem]:
    geometry, box = item["geometry"], item.get("bbox")
    if geometry is None:
        if box is not None:
            yield "has a bbox without a geometry", "Leave bbox out where geometry is null"
        return
    try:
        rings = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        points = np.array([point[:2] for polygon in rings for ring in polygon for point in ring], dtype=np.float64)
        expected = np.array([*points.min(axis=0), *points.max(axis=0)])
    except (KeyError, TypeError, ValueError, IndexError):
        yield "has a geometry that is no polygon", "Write the footprint in degrees, WGS 84"
        return
    if (np.abs(points) > (180, 90)).any():
        yield "has a geometry that is not in degrees", "It is (longitude, latitude), WGS 84"
    if not isinstance(box, list) or len(box) not in (4, 6):
        yield "has a geometry without a bbox", "Write [west, south, east, north]"
    elif np.abs(np.array(box if len(box) == 4 else [*box[:2], *box[3:5]], dtype=np.float64) - expected).max() > 1e-6:
        yield "has a bbox that is not that of its geometry", "Write [west, south, east, north]"


def _time_problems(properties: Content) -> Iterator[Problem]:
    if "datetime" not in properties:
        yield "lacks the property datetime", "Write a time, or null with start_datetime and end_datetime"
        return
    keys = ["datetime"] if properties["datetime"] is not None else ["start_datetime", "end_datetime"]
    for key in keys:
        try:
            aware = datetime.fromisoformat(properties[key]).tzinfo is not None
        except (KeyError, TypeError, ValueError):
            aware = False
        if not aware:
            yield f"has the {key} {properties.get(key)!r}, which is no time", "Write it as 2018-06-16T00:00:00Z"


def _size(file: Path) -> tuple[tuple[int, int] | None, str]:
    """(height, width) of a raster; and what is wrong with it, or nothing."""
    try:
        height, width = decode(file)[1].shape[:2]
    except ValueError as error:
        return None, f"cannot be read: {error}"
    return (height, width), ""


def _label_problems(path: Path, item: Content, base: Path) -> Iterator[Problem]:
    told = item["properties"]
    names = told.get("label:properties", "")
    if names is not None and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        yield "has no label:properties", "Names of the properties with the classes; null for rasters"
    if told.get("label:type") not in ("raster", "vector"):
        yield f"has the label:type {told.get('label:type')!r}", "It is raster or vector"
    if not isinstance(told.get("label:description"), str) or not told["label:description"]:
        yield "has no label:description", "Say what the labels are and how they were made"
    for entry in told.get("label:classes") or ():
        if not isinstance(entry, dict) or not {"name", "classes"} <= set(entry):
            yield "has label:classes without name and classes", "Write a list of {name, classes}"
        elif (entry["name"] is None) != (told.get("label:type") == "raster"):
            yield "has label:classes with a wrong name", "It is null for rasters, and a property for vectors"
    labels = item["assets"].get("labels")
    if labels is None:
        yield "has no asset labels", "The label extension wants one of this key"
    elif str(labels.get("href", "")).endswith("json") and (path.parent / labels["href"]).is_file():
        try:
            content = read_json(path.parent / labels["href"])
            kind = content["type"]
        except (OSError, ValueError, KeyError, TypeError):
            kind = None
        if kind != "FeatureCollection":
            yield "has an asset labels that is no FeatureCollection", "Write GeoJSON"
    yield from _source_problems(path, item, base)


def _source_problems(path: Path, item: Content, base: Path) -> Iterator[Problem]:
    sources = [link for link in item["links"] if link.get("rel") == "source"]
    if not sources:
        yield "has no link source", "Link to the item of the image that is labelled"
    for link in sources:
        target = path.parent / link["href"]
        if target.is_file():
            content, _ = _read(target, base)
            unknown = set(link.get("label:assets") or ()) - set((content or {}).get("assets", {}))
            if unknown:
                message = f"names the asset {sorted(unknown)[0]} of {link['href']}, which has none"
                yield message, "label:assets are keys of assets of the source"
