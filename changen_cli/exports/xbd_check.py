"""Checks of folders in xBD's layout, also of those that do not come from changen.

The rules are those of the challenge's own code and of its readers: file names tell scene and date, a uid links both
dates, subtypes are the joint damage scale, targets say what the polygons say. [DIUx-xView/xView2_baseline, torchgeo]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.damage import DAMAGE_STATES
from changen_cli.core.types import Int32Array
from changen_cli.core.untrusted import read_json
from changen_cli.exports.findings import Finding, Problem
from changen_cli.exports.layers import Layer, read_pixels, relative
from changen_cli.exports.objects import Polygon, burn, ring_area
from changen_cli.exports.wkt import from_wkt
from changen_cli.exports.xbd import UNCLASSIFIED

_NAME = re.compile(r"(.+_\d{8})_(pre|post)_disaster\.png")
_SPLITS = ("train", "tier3", "val", "test", "hold")
_SUBTYPES = (*DAMAGE_STATES, UNCLASSIFIED)
_IMAGE = Layer("images", "RGB", hint="Images are 8-bit RGB")
_TARGET = Layer(
    "targets",
    "L",
    frozenset((*range(len(DAMAGE_STATES) + 1), 255)),
    hint="0 background, 1 to 4 from no-damage to destroyed",
)
_UNKNOWN = 255
"""How polygons without a state are burnt: a target may say 0, 1 or 255 there."""

Entries = dict[str, tuple[str | None, list[Polygon]]]
"""Uid → subtype and polygons in pixels."""


def check_xbd(root: Path) -> Iterator[Finding]:
    """Check every split, or the folder itself where it holds ``images``."""
    bases = [root / name for name in _SPLITS if (root / name).is_dir()] or [root]
    for base in bases:
        if (base / "images").is_dir():
            yield from _check_split(root, base)
        else:
            yield Finding(
                relative(root, base / "images"), "is missing", f"Splits are {', '.join(_SPLITS)}, with images/ in each"
            )


def _check_split(root: Path, base: Path) -> Iterator[Finding]:
    scenes: dict[str, set[str]] = {}
    for path in sorted((base / "images").iterdir()):
        found = _NAME.fullmatch(path.name)
        if found:
            scenes.setdefault(found[1], set()).add(found[2])
        else:
            fix = "Readers look for <disaster>_<8 digits>_pre_disaster.png and _post_disaster.png: rename or remove it"
            yield Finding(relative(root, path), "has a name that tells no scene and date", fix)
    if not scenes:
        yield Finding(relative(root, base / "images"), "holds no scene", "Name the folder that holds the splits")
    targets = (base / "targets").is_dir()
    if scenes and not targets:
        fix = "Rasterise the labels, for readers that open targets"
        yield Finding(relative(root, base / "targets"), "is missing, as in tier3", fix, "warning")
    stems = {f"{scene}_{which}_disaster" for scene, dates in scenes.items() for which in dates}
    for folder, ending in (("labels", ".json"), ("targets", "_target.png")):
        for path in sorted((base / folder).iterdir()) if (base / folder).is_dir() else ():
            if path.name.removesuffix(ending) not in stems:
                yield Finding(relative(root, path), "has no image of its name", "Add the image, or remove it")
    for scene, dates in sorted(scenes.items()):
        yield from _check_scene(root, base, scene, dates, targets=targets)


def _check_scene(root: Path, base: Path, scene: str, dates: set[str], *, targets: bool) -> Iterator[Finding]:
    shapes: dict[str, tuple[int, int]] = {}
    entries: dict[str, Entries] = {}
    for which in ("pre", "post"):
        stem = f"{scene}_{which}_disaster"
        image = base / "images" / f"{stem}.png"
        if which not in dates:
            fix = "Add it, or remove the other date"
            yield Finding(relative(root, image), "is missing: the pair is not complete", fix)
            continue
        pixels, problems = read_pixels(image, _IMAGE)
        yield from (Finding(relative(root, image), *problem) for problem in problems)
        if pixels is not None:
            shapes[which] = pixels.shape[:2]
        label = base / "labels" / f"{stem}.json"
        found, more = _read_label(label, shapes.get(which), needs_subtype=which == "post")
        yield from (Finding(relative(root, label), *problem) for problem in more)
        if found is not None:
            entries[which] = found
        if targets and which in shapes:
            target = base / "targets" / f"{stem}_target.png"
            yield from _check_target(root, target, shapes[which], entries.get(which), only_buildings=which == "pre")
    if len(shapes) == 2 and shapes["pre"] != shapes["post"]:
        fix = "Both images of a pair share one grid"
        yield Finding(
            relative(root, base / "images" / f"{scene}_post_disaster.png"), "has another size than _pre_", fix
        )
    if len(entries) == 2:
        lost = sorted(set(entries["pre"]) - set(entries["post"]))
        if lost:
            message = f"lacks the uids of {len(lost)} building(s) of the first date, e.g. {lost[0]}"
            fix = "Every building of the first date has its state here; one that is gone is destroyed"
            yield Finding(relative(root, base / "labels" / f"{scene}_post_disaster.json"), message, fix)


def _read_label(
    path: Path, shape: tuple[int, int] | None, *, needs_subtype: bool
) -> tuple[Entries | None, list[Problem]]:
    """The buildings of a label, and (what is wrong, what to do) of each problem; None where it is no label at all."""
    try:
        content = read_json(path)
        listed = list(content["features"]["xy"])
        geographic = list(content["features"].get("lng_lat") or [])
        metadata = dict(content.get("metadata") or {})
    except FileNotFoundError:
        return None, [("is missing", "Every image has its label; one without buildings has an empty list features.xy")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [(f"is no label: {error!r}"[:160], "It is JSON with the list features.xy")]
    problems: list[Problem] = []
    size = metadata.get("height"), metadata.get("width")
    if shape and all(isinstance(value, int) for value in size) and size != shape:
        problems.append(
            (f"says {size[1]} × {size[0]} px, the image has {shape[1]} × {shape[0]}", "Correct metadata.width, height")
        )
    entries: Entries = {}
    for number, entry in enumerate(listed):
        try:
            properties, polygons = entry["properties"], from_wkt(entry["wkt"])
            uid, subtype = properties["uid"], properties.get("subtype")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(
                (f"features.xy[{number}] is no building: {error}", "It has properties.uid, and a polygon as wkt")
            )
            continue
        problems += _entry_problems(number, str(uid), subtype, polygons, shape, needs_subtype=needs_subtype)
        if str(uid) in entries:
            problems.append((f"features.xy[{number}] has the uid {uid} again", "A uid is one building"))
        entries[str(uid)] = subtype, polygons
    if geographic:
        problems += _geographic_problems(geographic, entries)
    return entries, problems


def _entry_problems(
    number: int,
    uid: str,
    subtype: Any,
    polygons: list[Polygon],
    shape: tuple[int, int] | None,
    *,
    needs_subtype: bool,
) -> Iterator[Problem]:
    if subtype is not None and subtype not in _SUBTYPES:
        yield f"features.xy[{number}] ({uid}) has the subtype {subtype!r}", f"Known are {', '.join(_SUBTYPES)}"
    if needs_subtype and subtype is None:
        yield f"features.xy[{number}] ({uid}) has no subtype", "The second date says what state a building is in"
    points = [point for polygon in polygons for ring in polygon for point in ring]
    if shape and any(not (0 <= x <= shape[1] and 0 <= y <= shape[0]) for x, y in points):
        yield f"features.xy[{number}] ({uid}) leaves the image", "Coordinates are pixels, (column row)"
    if points and sum(ring_area(polygon[0]) for polygon in polygons) == 0:
        yield f"features.xy[{number}] ({uid}) has no area", "Remove it"


def _geographic_problems(listed: list[Any], entries: Entries) -> Iterator[Problem]:
    found: dict[str, list[Polygon]] = {}
    for number, entry in enumerate(listed):
        try:
            found[str(entry["properties"]["uid"])] = from_wkt(entry["wkt"])
        except (KeyError, TypeError, ValueError) as error:
            yield f"features.lng_lat[{number}] is no building: {error}", "It has properties.uid, and a polygon as wkt"
    if set(found) != set(entries):
        other = sorted(set(found) ^ set(entries))
        yield f"lists other buildings in lng_lat than in xy, e.g. {other[0]}", "Both lists show the same buildings"
    points = [point for polygons in found.values() for polygon in polygons for ring in polygon for point in ring]
    if any(abs(x) > 180 or abs(y) > 90 for x, y in points):
        yield "has coordinates in lng_lat that are no degrees", "They are (longitude latitude)"


def _check_target(
    root: Path, path: Path, shape: tuple[int, int], entries: Entries | None, *, only_buildings: bool
) -> Iterator[Finding]:
    if not path.is_file():
        yield Finding(relative(root, path), "is missing", "Rasterise the label")
        return
    pixels, problems = read_pixels(path, _TARGET)
    yield from (Finding(relative(root, path), *problem) for problem in problems)
    if pixels is None:
        return
    if pixels.shape != shape:
        yield Finding(relative(root, path), "has another size than its image", "Both share one grid")
    elif entries is not None:
        expected = burnt(entries, shape, only_buildings=only_buildings)
        wrong = int(_inner(expected, np.asarray(pixels, dtype=np.int32)).sum())
        if wrong:
            fix = "Rasterise the label: 1 to 4 from no-damage to destroyed; 1 for every building of the first date"
            yield Finding(relative(root, path), f"differs from the polygons of its label in {wrong} pixels", fix)


def burnt(entries: Entries, shape: tuple[int, int], *, only_buildings: bool) -> Int32Array:
    """Burn the buildings of a label, larger ones first, as their states 1 to 4; 255 where any value will do."""

    def value(subtype: str | None) -> int:
        if only_buildings:
            return 1
        return DAMAGE_STATES.index(subtype) + 1 if subtype in DAMAGE_STATES else _UNKNOWN

    by_size = sorted(entries.values(), key=lambda entry: -sum(ring_area(p[0]) for p in entry[1]))
    return burn([(polygons, value(subtype)) for subtype, polygons in by_size], shape)


def _inner(expected: Int32Array, pixels: Int32Array) -> Any:
    """Where a target is wrong; outlines, which every rasteriser draws another way, are left out."""
    from scipy import ndimage

    flat = ndimage.maximum_filter(expected, 3) == ndimage.minimum_filter(expected, 3)
    return flat & (pixels != expected) & ~((expected == _UNKNOWN) & np.isin(pixels, (0, 1, _UNKNOWN)))
