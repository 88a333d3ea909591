"""From stored mask values to class ids and objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import SceneError
from changen_cli.core.types import IGNORE, ClassSchema, Int32Array, UInt8Array

Meaning = Literal["building", "unknown"]
"""What 255 stands for in the masks of one dataset."""

_BLOCK_ROWS = 1024


def present_values(values: npt.NDArray[np.integer[Any]]) -> list[int]:
    """Return the distinct values of an integer mask, ascending, without sorting every pixel of 8-bit ones."""
    if values.dtype != np.uint8:
        return [int(value) for value in np.unique(values)]
    seen = np.zeros(256, dtype=bool)
    for row in range(0, len(values), _BLOCK_ROWS):
        seen[values[row : row + _BLOCK_ROWS].ravel()] = True
    return [int(value) for value in np.flatnonzero(seen)]


def meaning_of_255(masks: Iterable[tuple[npt.NDArray[np.integer[Any]], int | None]]) -> Meaning | None:
    """Decide for a whole dataset of binary masks what 255 is; no more masks are taken than the decision needs.

    A tile that holds only 0 and 255 may show buildings of a 0/255 dataset, or nothing but unknown ground of a 0/1/255
    dataset; only the other masks tell. Masks with any further value are no binary masks and have no say, nor has a
    255 that its file declares as missing.

    Args:
        masks: Stored values and declared nodata value of each.

    Returns:
        ``unknown`` when a mask holds a 1, ``building`` when none does and one holds 255, None when none holds either.
    """
    meaning: Meaning | None = None
    for values, nodata in masks:
        found = set(present_values(values))
        if not found <= {0, 1, IGNORE, nodata}:
            continue
        if 1 in found:
            return "unknown"
        if IGNORE in found and nodata != IGNORE:
            meaning = "building"
    return meaning


def to_class_ids(
    values: npt.NDArray[np.integer[Any]],
    nodata: int | None,
    schema: ClassSchema,
    *,
    named: bool,
    meaning: Meaning | None = None,
) -> tuple[UInt8Array, str]:
    """Turn stored mask values into class ids.

    Without named classes the mask is binary, and 255 means what was decided for its dataset. With named classes, and
    where the file declares 255 as missing, 255 is unknown. Classes whose name means "not labelled" become unknown as
    well.

    Args:
        values: ``[H, W]`` as stored.
        nodata: The value the file declares as missing; it counts only where it is not one of the classes.
        schema: The classes.
        named: Whether the user named the classes.
        meaning: Without named classes, what 255 is in this dataset; None when its masks did not tell.

    Returns:
        uint8 ``[H, W]`` class ids with 255 = unknown, and a note on how 255 is read (empty when that was not decided
        and it does not occur).

    Raises:
        SceneError: A value is no class id (the message lists them), or the mask contradicts the meaning of 255.
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
    if not named:
        if meaning == "building" and 1 in found:
            raise SceneError(
                "the mask holds 1, but 255 is building in the masks that decide what it is: "
                "if 255 is unknown, pass --classes background,building"
            )
        if nodata == IGNORE or (meaning is None and 1 in found):
            meaning = "unknown"
        if meaning is None and IGNORE in found:
            raise SceneError(
                "the mask holds 255, but the masks that decide what it is hold neither 1 nor 255: "
                "if 255 is unknown, pass --classes background,building"
            )
        note = f"255 read as {meaning}" if meaning else ""
        table[IGNORE] = 1 if meaning == "building" else IGNORE
    elif IGNORE in found:
        note = "255 read as unknown"
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


def label_objects(mask: UInt8Array, building_ids: Sequence[int]) -> Int32Array:
    """Number the 8-connected components of every building class.

    Args:
        mask: uint8 ``[H, W]``, class ids.
        building_ids: The classes; regions of two of them, such as two states of damage, are never one object.

    Returns:
        int32 ``[H, W]``, 0 elsewhere, 1..N in scan order, class by class.
    """
    from scipy import ndimage

    numbers, labels = np.zeros(mask.shape, dtype=np.int32), np.empty(mask.shape, dtype=np.int32)
    count = 0
    for index in building_ids:
        found = ndimage.label(mask == index, structure=np.ones((3, 3), dtype=np.uint8), output=labels)  # type: ignore[attr-defined]
        labels[labels > 0] += count
        numbers |= labels  # they share no pixel
        count += found
    return numbers
