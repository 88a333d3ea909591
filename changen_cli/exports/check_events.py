"""The events of one step against its two semantic masks: every changed pixel belongs to exactly one event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np

from changen_cli.core.types import BoolArray, Box, EventKind, UInt8Array
from changen_cli.exports.polygons import fill_polygon
from changen_cli.exports.reading import Row

_KEYS = {
    "object_id": str, "instance": int, "kind": str, "from_class": int, "to_class": int,
    "from_name": str, "to_name": str, "bbox": list, "area_px": int, "polygon": str,
}  # fmt: skip


def check_step(
    events: Sequence[tuple[int, Row]],
    before: UInt8Array,
    after: UInt8Array,
    names: Sequence[str],
    calendar: Sequence[str] = (),
) -> Iterator[str]:
    """Yield what is wrong with the events of a step, one line each.

    Args:
        events: Number and content of each.
        before: uint8 ``[H, W]``, the semantic mask it leads from.
        after: uint8 ``[H, W]``, the one it leads to.
        names: Class names in id order; empty where they are not known.
        calendar: Calendar dates of the two; empty where there are none.
    """
    covered = np.zeros(before.shape, np.uint8)
    for number, event in events:
        label = f"event {number} ({event.get('object_id')})"
        wrong = misfits(event)
        if wrong:
            yield f"{label}: {wrong[0]} is {event.get(wrong[0])!r}"
            continue
        yield from (f"{label}: {message}" for message in _names(event, names, calendar))
        try:
            shape, box = fill_polygon(event["polygon"])
        except ValueError as error:
            yield f"{label}: the polygon {error}"
            continue
        if box[0] < 0 or box[1] < 0 or box[2] > before.shape[0] or box[3] > before.shape[1]:
            yield f"{label}: the polygon leaves the tile"
            continue
        yield from (f"{label}: {message}" for message in _figures(event, shape, box, before, after))
        covered[box[0] : box[2], box[1] : box[3]] += shape
    changed = before != after
    for count, what in (
        ((changed & (covered == 0)).sum(), "changed px belong to no event"),
        ((covered > 1).sum(), "px belong to several events"),
        ((~changed & (covered > 0)).sum(), "px belong to an event but did not change"),
    ):
        if count:
            yield f"{int(count)} {what}"


def misfits(event: Row) -> list[str]:
    """Keys of an event that are missing or of another type than they should be."""
    return [key for key, kind in _KEYS.items() if type(event.get(key)) is not kind]


def _names(event: Row, names: Sequence[str], calendar: Sequence[str]) -> Iterator[str]:
    """Kind, classes and dates mean something."""
    if event["kind"] not in get_args(EventKind):
        yield f"{event['kind']!r} is no kind of event"
    for side in ("from", "to"):
        index, name = event[f"{side}_class"], event[f"{side}_name"]
        if not names:
            continue
        if not 0 <= index < len(names):
            yield f"{side}_class {index} is not in classes.json"
        elif names[index] != name:
            yield f"{side}_class {index} is {names[index]}, not {name}"
    dated = [event.get(key) for key in ("date_from", "date_to") if event.get(key) is not None]
    if dated != list(calendar):
        yield f"dates {dated}, the calendar says {list(calendar)}"


def _figures(event: Row, shape: BoolArray, box: Box, before: UInt8Array, after: UInt8Array) -> Iterator[str]:
    """Box, area and classes are those of the pixels inside the polygon."""
    rows, cols = slice(box[0], box[2]), slice(box[1], box[3])
    if event["bbox"] != list(box):
        yield f"bbox {event['bbox']}, the polygon has {list(box)}"
    area = int(shape.sum())
    if event["area_px"] != area:
        yield f"area_px {event['area_px']}, the polygon fills {area}"
    ids, counts = np.unique(before[rows, cols][shape], return_counts=True)
    areas = {str(index): int(count) for index, count in zip(ids, counts, strict=True)}
    if event.get("from_areas_px") != areas:
        yield f"from_areas_px {event.get('from_areas_px')}, the mask before has {areas}"
    later = np.unique(after[rows, cols][shape])
    if later.tolist() != [event["to_class"]]:
        yield f"to_class {event['to_class']}, the mask after has {later.tolist()}"
