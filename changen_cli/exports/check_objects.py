"""Instance masks and the ids of their numbers, checked against each other and against the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from changen_cli.exports.check_events import misfits
from changen_cli.exports.polygons import fill_polygon
from changen_cli.exports.reading import Pixels, Row


def nameless(numbers: Pixels, objects: Mapping[int, str]) -> list[int]:
    """Pixels of an instance mask that the table of objects does not have."""
    return sorted(set(np.unique(numbers).tolist()) - {0} - set(objects))


def check_instances(
    events: Sequence[tuple[int, Row]], before: Pixels, after: Pixels, objects: Mapping[int, str]
) -> Iterator[str]:
    """Yield what the events of a step say of objects that the instance masks do not show, one line each.

    Args:
        events: Number and content of each.
        before: Object numbers, uint16 or int32 ``[H, W]``, at the date the step leads from.
        after: Object numbers at the date it leads to.
        objects: Number → object id.
    """
    for line, event in events:
        if misfits(event) or not event["instance"]:
            continue  # what is no event is told where the masks are checked
        number, label = event["instance"], f"event {line} ({event['object_id']})"
        if objects.get(number) != event["object_id"]:
            yield f"{label}: its number {number} is {objects.get(number)} in the table of objects"
        try:
            shape, box = fill_polygon(event["polygon"])
        except ValueError:
            continue  # likewise
        inside = slice(max(0, box[0]), box[2]), slice(max(0, box[1]), box[3])
        if before[inside].shape != shape.shape:
            continue  # it leaves the tile
        held = (before[inside] == number) | (after[inside] == number)
        if (shape & ~held).any():
            yield f"{label}: {int((shape & ~held).sum())} of its px have another number before and after"
