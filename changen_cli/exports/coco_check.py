"""Checks of folders in COCO's layout, also of those that do not come from changen.

The rules are pycocotools': what it indexes by, and how it decodes segmentations. [cocodataset/cocoapi, data format]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.untrusted import inside, read_json
from changen_cli.exports.findings import Finding, Problem, guarded
from changen_cli.exports.layers import relative
from changen_cli.exports.objects import ring_area
from changen_cli.exports.reading import decode

_LISTS = ("images", "annotations", "categories")
_SHOWN = 20
_IMAGE_FOLDERS = ("images", ".")


def check_coco(root: Path) -> Iterator[Finding]:
    """Check ``{split}/annotations.json``, or ``annotations/*.json``, or one in the folder itself."""
    files = sorted({*root.glob("annotations.json"), *root.glob("*/annotations.json"), *root.glob("annotations/*.json")})
    if not files:
        fix = "Name the folder that holds the splits, with annotations.json in each"
        yield Finding(".", "holds no annotations.json", fix)
    for path in files:
        yield from _check_file(root, path)


def _check_file(root: Path, path: Path) -> Iterator[Finding]:
    name = relative(root, path)
    try:
        content = read_json(path)
        lists = {key: list(content[key]) for key in _LISTS}
        images = {entry["id"]: entry for entry in lists["images"]}
        known = {entry["id"] for entry in lists["categories"]}
        counts = {key: Counter(entry["id"] for entry in lists[key]) for key in ("images", "annotations")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = f"It is JSON with the lists {', '.join(_LISTS)}, all with ids"
        yield Finding(name, f"is no COCO file: {error!r}"[:160], fix)
        return
    for key, found in counts.items():
        twice = [number for number, count in found.items() if count > 1]
        if twice:
            fix = "pycocotools keeps one of each: number them anew"
            yield Finding(name, f"uses {len(twice)} id(s) of {key} more than once, e.g. {twice[0]}", fix)
    yield from _check_images(root, path, lists["images"])
    problems = _entry_problems(lists["annotations"], images, known)
    for count, (message, fix) in enumerate(problems):
        if count == _SHOWN:
            yield Finding(name, "has more problems like these", "Solve these first")
            return
        yield Finding(name, message, fix)


def _check_images(root: Path, table: Path, listed: list[dict[str, Any]]) -> Iterator[Finding]:
    split = table.parent if table.name == "annotations.json" else table.parent.parent
    base = next((split / name for name in _IMAGE_FOLDERS if (split / name).is_dir()), split)
    seen: set[str] = set()
    for entry in listed:
        try:
            file, size = str(entry["file_name"]), (int(entry["width"]), int(entry["height"]))
        except (KeyError, TypeError, ValueError) as error:
            message = f"has an image without file_name, width and height: {error!r}"
            yield Finding(relative(root, table), message, "Readers look for all three")
            continue
        try:
            image = path if (path := inside(base, file)).is_file() else inside(split, file)
        except ValueError as error:
            yield Finding(relative(root, table), f"lists {error}", "Name files of the folder")
            continue
        if file in seen:
            yield Finding(relative(root, table), f"lists {file} more than once", "An image has one entry")
        seen.add(file)
        if not image.is_file():
            yield Finding(f"{relative(root, base)}/{file}", "is missing", f"{relative(root, table)} lists it")
            continue
        try:
            height, width = decode(image)[1].shape[:2]
        except ValueError as error:
            yield Finding(relative(root, image), f"cannot be read: {error}", "Copy or export it again")
            continue
        if (width, height) != size:
            message = f"has {width} × {height} px, the annotations say {size[0]} × {size[1]}"
            yield Finding(relative(root, image), message, "Correct width and height, and the segmentations")
    if base.name == "images":
        for stray in sorted({p.name for p in base.iterdir()} - {Path(file).name for file in seen}):
            fix = "Add it to the annotations, or remove it"
            yield Finding(f"{relative(root, base)}/{stray}", "is not listed", fix, "warning")


def _entry_problems(
    entries: list[dict[str, Any]], images: dict[Any, dict[str, Any]], categories: set[Any]
) -> Iterator[Problem]:
    """What is wrong with each annotation, and what to do."""
    tracks: dict[tuple[Any, Any], Any] = {}
    for entry in entries:
        which = f"annotation {entry['id']}"
        fix = "Compare it with COCO's data format"
        yield from guarded(_problems_of(entry, which, images, categories, tracks), which, fix)


def _problems_of(
    entry: dict[str, Any],
    which: str,
    images: dict[Any, dict[str, Any]],
    categories: set[Any],
    tracks: dict[tuple[Any, Any], Any],
) -> Iterator[Problem]:
    image = images.get(entry.get("image_id"))
    if image is None:
        yield f"{which} belongs to the image {entry.get('image_id')}, which is not listed", "Correct its image_id"
        return
    if entry.get("category_id") not in categories:
        yield f"{which} has the category {entry.get('category_id')}, which is not listed", "Correct its category_id"
    if entry.get("iscrowd") not in (0, 1):
        yield f"{which} has iscrowd {entry.get('iscrowd')!r}", "It is 0 for one object, 1 for a group"
    yield from ((f"{which} {message}", fix) for message, fix in _shape_problems(entry, image))
    track = entry.get("track_id")
    if track is not None:
        other = tracks.setdefault((entry["image_id"], track), entry["id"])
        if other != entry["id"]:
            yield f"{which} has the track_id {track}, as annotation {other} of this image", "A track is one object"


def _shape_problems(entry: dict[str, Any], image: dict[str, Any]) -> Iterator[Problem]:
    try:
        area, box = _measure(entry["segmentation"], int(image["width"]), int(image["height"]))
    except (KeyError, TypeError, ValueError) as error:
        yield f"has a segmentation that cannot be decoded: {error}"[:160], "Write polygons, or RLE of the image's size"
        return
    try:
        x, y, width, height = (float(value) for value in entry["bbox"])
        told = float(entry["area"])
    except (KeyError, TypeError, ValueError):
        yield "has no bbox of four numbers, or no area", "Write bbox [x, y, width, height] and area in pixels"
        return
    if box is None:
        yield "has no pixels", "Remove it"
        return
    # Rasterisers differ along outlines: by a pixel in boxes, and by some of the perimeter in areas.
    if any(abs(a - b) > 1.5 for a, b in zip((x, y, x + width, y + height), box, strict=True)):
        yield (
            f"has the bbox {entry['bbox']}, its segmentation spans {[round(v, 1) for v in box]}",
            "It is [x, y, width, height]",
        )
    if abs(told - area) > 2 * (width + height):
        yield f"has the area {told:g}, its segmentation {area:g} px", "Count the pixels of the segmentation"


def _measure(shape: Any, width: int, height: int) -> tuple[float, tuple[float, float, float, float] | None]:
    """Area in px and (x0, y0, x1, y1) of a segmentation; no box where it is empty.

    Raises:
        ValueError: It is neither polygons nor RLE of this image, or leaves it.
    """
    if isinstance(shape, dict):
        counts = decode_counts(shape["counts"])
        if list(shape["size"]) != [height, width] or counts.sum() != width * height or (counts < 0).any():
            raise ValueError(f"RLE of {shape['size']} with {counts.sum()} pixels")
        inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
        rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            return 0, None
        return float(inside.sum()), (float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1))
    if not isinstance(shape, list) or not shape:
        raise ValueError("is neither polygons nor RLE")
    rings = [np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in shape]
    if any(len(ring) < 3 for ring in rings):
        raise ValueError("a polygon with fewer than three corners")
    points = np.concatenate(rings)
    if (points < -0.5).any() or (points > (width + 0.5, height + 0.5)).any():
        raise ValueError("a polygon leaves the image")
    area = sum(ring_area(np.concatenate([ring, ring[:1]])) for ring in rings)
    low, high = points.min(axis=0), points.max(axis=0)
    return float(area), (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def decode_counts(counts: Any) -> Any:
    """Run lengths, int64 ``[N]``, of COCO's RLE: a list of them, or its compressed text.

    The text holds, five bits a character, differences to the run before the last one.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(counts, list):
        return np.asarray(counts, dtype=np.int64)
    if not isinstance(counts, str):
        raise ValueError("counts are neither a list nor text")
    values: list[int] = []
    value = shift = 0
    for letter in counts.encode("ascii", "replace"):
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError("counts hold letters no RLE has")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            values.append(value + (values[-2] if len(values) > 2 else 0))
            value = shift = 0
    return np.asarray(values, dtype=np.int64)
