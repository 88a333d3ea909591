"""Instance masks and the ids of their numbers, checked against each other and against the events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import OutputError
from changen_cli.core.untrusted import parse_json
from changen_cli.exports.check_events import misfits
from changen_cli.exports.polygons import fill_polygon
from changen_cli.exports.rows import Row

Numbers = npt.NDArray[Any]
"""uint16 or int32 ``[H, W]``, object numbers."""


def parse_objects(text: str) -> dict[int, str]:
    """Number → object id.

    Raises:
        OutputError: It is no such JSON object.
    """
    try:
        found = parse_json(text)
        return {int(number): str(name) for number, name in found.items()}
    except (ValueError, AttributeError) as error:
        raise OutputError(f"the table of objects is no JSON object of numbers: {error}") from None


def nameless(numbers: Numbers, objects: Mapping[int, str]) -> list[int]:
    """Numbers of an instance mask that the table of objects does not have."""
    return sorted(set(np.unique(numbers).tolist()) - {0} - set(objects))


def check_instances(
    events: Sequence[tuple[int, Row]], before: Numbers, after: Numbers, objects: Mapping[int, str]
) -> Iterator[str]:
    """Yield what the events of a step say of objects that the instance masks do not show, one line each.

    Args:
        events: Number and content of each.
        before: Object numbers at the date the step leads from.
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
