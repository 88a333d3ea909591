from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.errors import SceneError
from changen_cli.core.types import ClassSchema
from changen_cli.sources.masks import label_objects, present_values, to_class_ids

BINARY = ClassSchema()
NAMED = ClassSchema(("unlabelled", "building", "land"))


def ids(
    values: list[int],
    schema: ClassSchema = BINARY,
    named: bool = False,
    nodata: int | None = None,
    dtype: str = "uint8",
) -> list[int]:
    result, _ = to_class_ids(np.array([values], dtype=dtype), nodata, schema, named=named)
    assert result.dtype == np.uint8
    return [int(value) for value in result[0]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_meaning_of_255_without_names(dtype: str) -> None:
    assert ids([0, 1], dtype=dtype) == [0, 1]
    assert ids([0, 255], dtype=dtype) == [0, 1]
    assert ids([0, 1, 255], dtype=dtype) == [0, 1, 255]
    assert ids([0, 255], nodata=255, dtype=dtype) == [0, 255]


def test_named_classes_keep_255_and_lose_the_unlabelled_class() -> None:
    assert ids([0, 1, 2, 255], NAMED, True) == [255, 1, 2, 255]
    assert ids([0, 255], ClassSchema(), True) == [0, 255]


def test_declared_nodata_counts_only_where_it_is_no_class() -> None:
    assert ids([0, 1, 9], NAMED, True, nodata=9) == [255, 1, 255]
    assert ids([1, 2], NAMED, True, nodata=2) == [1, 2]
    assert ids([-1, 1], NAMED, True, nodata=-1, dtype="int16") == [255, 1]


def test_values_beyond_are_named() -> None:
    with pytest.raises(SceneError, match=r"holds 7, 300; --classes names ids 0 to 2"):
        ids([0, 7, 300], NAMED, True, dtype="uint16")
    with pytest.raises(SceneError, match=r"holds 2; without --classes"):
        ids([0, 2])


def test_present_values_sees_every_block() -> None:
    values = np.zeros((2500, 3), dtype=np.uint8)
    values[2499, 2], values[1024, 0] = 9, 4
    assert present_values(values) == [0, 4, 9]


def test_objects_touching_at_a_corner_are_one() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 255]], dtype=np.uint8)
    labels = label_objects(mask, 1)
    assert labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0]]
    assert labels.dtype == np.int32
