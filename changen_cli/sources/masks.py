"""From stored mask values to class ids and objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import SceneError
from changen_cli.core.types import IGNORE, ClassSchema, Int32Array, UInt8Array

_BLOCK_ROWS = 1024


def present_values(values: npt.NDArray[np.integer[Any]]) -> list[int]:
    """Return the distinct values of an integer mask, ascending, without sorting every pixel of 8-bit ones."""
    if values.dtype != np.uint8:
        return [int(value) for value in np.unique(values)]
    seen = np.zeros(256, dtype=bool)
    for row in range(0, len(values), _BLOCK_ROWS):
        seen[values[row : row + _BLOCK_ROWS].ravel()] = True
    return [int(value) for value in np.flatnonzero(seen)]


def to_class_ids(
    values: npt.NDArray[np.integer[Any]], nodata: int | None, schema: ClassSchema, *, named: bool
) -> tuple[UInt8Array, str]:
    """Turn stored mask values into class ids.

    Without named classes the mask is binary, and the meaning of 255 is decided per mask, so that reading order
    changes nothing: where only 0 and 255 occur, 255 is building; where 1 occurs too, 255 is unknown. With named
    classes 255 is always unknown. Classes whose name means "not labelled" become unknown as well.

    Args:
        values: ``[H, W]`` as stored.
        nodata: The value the file declares as missing; it counts only where it is not one of the classes.
        schema: The classes.
        named: Whether the user named the classes.

    Returns:
        uint8 ``[H, W]`` class ids with 255 = unknown, and a note on how 255 was read (empty when it does not occur).

    Raises:
        SceneError: A value is no class id; the message lists them.
    """
    count = len(schema.names)
    found = present_values(values)
    unknown = {IGNORE, *schema.unknown_ids}
    if nodata is not None and not 0 <= nodata < count:
        unknown.add(nodata)
    wrong = [value for value in found if value not in unknown and not 0 <= value < count]
    if wrong:
        shown = ", ".join(map(str, wrong[:12])) + (", …" if len(wrong) > 12 else "")
        if named:
            raise SceneError(f"the mask holds {shown}; --classes names ids 0 to {count - 1} (and 255 is unknown)")
        raise SceneError(f"the mask holds {shown}; without --classes only 0, 1 and 255 are known")
    table = {value: value for value in found}
    table.update(dict.fromkeys(unknown, IGNORE))
    note = ""
    if IGNORE in found:
        as_building = not named and set(found) <= {0, IGNORE} and nodata != IGNORE
        note = "255 read as building" if as_building else "255 read as unknown"
        table[IGNORE] = 1 if as_building else IGNORE
    if values.dtype == np.uint8:
        lookup = np.zeros(256, dtype=np.uint8)
        for value in found:
            lookup[value] = table[value]
        return lookup[values], note
    result = np.full(values.shape, IGNORE, dtype=np.uint8)
    for value in found:
        if table[value] != IGNORE:
            result[values == value] = table[value]
    return result, note


def label_objects(mask: UInt8Array, building_id: int) -> Int32Array:
    """Number the 8-connected components of the building class, int32 ``[H, W]``, 0 elsewhere, 1..N in scan order."""
    from scipy import ndimage

    labels = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask == building_id, structure=np.ones((3, 3), dtype=np.uint8), output=labels)  # type: ignore[attr-defined]
    return labels
