"""One sample as a report shows it: metadata, events with their outlines, and small pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from changen_cli.core.errors import OutputError
from changen_cli.core.types import ClassSchema
from changen_cli.exports.master import Sample, Stored
from changen_cli.exports.objects import Ring
from changen_cli.exports.reading import Row
from changen_cli.exports.wkt import from_wkt

_OUTLINE_PX = 1.0
"""How far an outline may lie beside the pixels it runs around: what stairs of one pixel need to become a line."""
_MAX_SIDE_PX = 1 << 15
_MAX_DEPTH = 24


@dataclass(frozen=True)
class Look:
    """How large and how fine pictures are.

    Attributes:
        side_px: Longer side, at most.
        quality: Of WebP, 0 to 100.
    """

    side_px: int
    quality: int


def describe_sample(sample: Sample, images: list[str], masks: list[str]) -> dict[str, Any]:
    """What the page needs to show a sample.

    Args:
        sample: The sample.
        images: Addresses of its images, one per date; empty where the dataset has none.
        masks: Addresses of its masks.
    """
    return {
        "row": sample.row,
        "events": [_event(sample.id, event) for event in sample.events],
        "images": images,
        "masks": masks,
    }


def embedded(sample: Sample, schema: ClassSchema, look: Look) -> dict[str, Any]:
    """A sample with its pictures in it, as ``data:`` addresses."""
    images = [_address("webp", photograph(image, look)) for image in sample.images]
    masks = [_address("png", painted(mask, schema, look.side_px)) for mask in sample.masks]
    return describe_sample(sample, images, masks)


def photograph(image: Stored, look: Look) -> bytes:
    """A date's image as WebP, no larger than it is."""
    from PIL import Image

    picture = Image.fromarray(image.array()).convert("RGB")
    picture.thumbnail((look.side_px, look.side_px), Image.Resampling.LANCZOS)
    return _encoded(picture, "WEBP", quality=look.quality, method=4)


def painted(mask: Stored, schema: ClassSchema, side_px: int) -> bytes:
    """A semantic mask in class colours as PNG; unknown pixels and black classes are clear, to see what lies below."""
    from PIL import Image

    ids = mask.array()
    if ids.ndim != 2:
        raise OutputError(f"{mask.path or mask.name} is no mask of one band", "Run changen validate on the dataset")
    unknown = len(schema.names)
    picture = Image.fromarray(np.minimum(ids, unknown).astype(np.uint8))
    picture.putpalette([*schema.colors.ravel().tolist(), 0, 0, 0])
    picture.thumbnail((side_px, side_px), Image.Resampling.NEAREST)
    clear = bytes(255 if any(color) else 0 for color in schema.colors) + b"\0"
    return _encoded(picture, "PNG", transparency=clear, optimize=True)


def _encoded(picture: Any, form: str, **how: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, form, **how)
    return target.getvalue()


def _address(form: str, data: bytes) -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it: what is no number becomes null, the unknown a text, what is nested deeply ``…``."""
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    return [plain(inner, depth + 1) for inner in value] if isinstance(value, list | tuple) else str(value)


def _event(name: str, event: Row) -> dict[str, Any]:
    try:
        found = {
            "id": str(event["object_id"]),
            "step": int(event["step"]),
            "kind": str(event["kind"]),
            "stage": str(event.get("stage") or ""),
            "from": int(event["from_class"]),
            "to": int(event["to_class"]),
            "area": int(event["area_px"]),
            "box": [int(edge) for edge in event["bbox"]],
            "outline": outline(str(event.get("polygon", ""))),
            "origin": str(event.get("source_scene") or ""),
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise OutputError(f"{name}: an event is not as it should be: {error!r}", "Run changen validate on it") from None
    return {key: value for key, value in found.items() if value != ""}


def outline(text: str) -> str:
    """A polygon along pixel edges as the ``d`` of an SVG path in pixels, stairs smoothed; empty where it is none."""
    try:
        polygons = from_wkt(text)
    except ValueError:
        return ""
    return "".join(_path(ring) for polygon in polygons for ring in polygon)


def _path(ring: Ring) -> str:
    if not all(abs(x) < _MAX_SIDE_PX and abs(y) < _MAX_SIDE_PX for x, y in ring):
        return ""
    far = max(range(len(ring)), key=lambda place: math.dist(ring[0], ring[place]))
    corners = sorted({0, far, len(ring) - 1, *_corners(ring, 0, far), *_corners(ring, far, len(ring) - 1)})
    return "M" + " ".join(f"{ring[place][0]:g} {ring[place][1]:g}" for place in corners[:-1]) + "z"


def _corners(line: Ring, first: int, last: int) -> list[int]:
    """Places of a line that must stay for the rest to lie near it (Douglas and Peucker 1973), without its ends."""
    found, waiting = [], [(first, last)]
    while waiting:
        start, end = waiting.pop()
        (x, y), (to_x, to_y) = line[start], line[end]
        right, down = to_x - x, to_y - y
        length = math.hypot(right, down)
        if end - start < 2 or not length:
            continue
        reach = [abs(right * (line[place][1] - y) - down * (line[place][0] - x)) for place in range(start + 1, end)]
        most = max(reach)
        if most > _OUTLINE_PX * length:
            middle = start + 1 + reach.index(most)
            found.append(middle)
            waiting += [(start, middle), (middle, end)]
    return found
