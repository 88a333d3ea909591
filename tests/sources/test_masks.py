from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.errors import SceneError
from changen_cli.core.types import ClassSchema
from changen_cli.sources.masks import Meaning, label_objects, meaning_of_255, present_values, to_class_ids

BINARY = ClassSchema()
NAMED = ClassSchema(("unlabelled", "building", "land"))


def ids(
    values: list[int],
    schema: ClassSchema = BINARY,
    named: bool = False,
    nodata: int | None = None,
    dtype: str = "uint8",
    meaning: Meaning | None = None,
) -> list[int]:
    result, _ = to_class_ids(np.array([values], dtype=dtype), nodata, schema, named=named, meaning=meaning)
    assert result.dtype == np.uint8
    return [int(value) for value in result[0]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_255_without_names_is_what_the_dataset_says(dtype: str) -> None:
    assert ids([0, 255], dtype=dtype, meaning="building") == [0, 1]
    assert ids([0, 255], dtype=dtype, meaning="unknown") == [0, 255]
    assert ids([0, 1, 255], dtype=dtype, meaning="unknown") == [0, 1, 255]
    assert ids([0, 255], nodata=255, dtype=dtype, meaning="building") == [0, 255]
    with pytest.raises(SceneError, match=r"holds 1, .* pass --classes background,building"):
        ids([0, 1], dtype=dtype, meaning="building")


def test_255_that_nothing_explains_is_refused_unless_its_mask_does() -> None:
    assert ids([0, 1, 255]) == [0, 1, 255]
    assert ids([0, 255], nodata=255) == [0, 255]
    with pytest.raises(SceneError, match="pass --classes background,building"):
        ids([0, 255])


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([[0, 255], [0, 1]], "unknown"),
        ([[0], [0, 255], [0]], "building"),
        ([[0], [0]], None),
        ([], None),
        ([[0, 255], [0, 1, 7, 255]], "building"),  # shades of a drawing: no class ids
    ],
)
def test_meaning_of_255_takes_all_masks_to_tell(masks: list[list[int]], expected: str | None) -> None:
    stored = [(np.array([values], dtype=np.uint8), None) for values in masks]
    assert meaning_of_255(stored) == expected


def test_meaning_of_255_stops_at_the_first_1_and_ignores_declared_nodata() -> None:
    stored = iter([(np.array([[0, value]], dtype=np.uint8), None) for value in (255, 1, 255)])
    assert meaning_of_255(stored) == "unknown"
    assert len(list(stored)) == 1
    assert meaning_of_255([(np.array([[0, 255]], dtype=np.uint8), 255)]) is None


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
    labels = label_objects(mask, (1,))
    assert labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0]]
    assert labels.dtype == np.int32


def test_touching_states_of_damage_are_two_objects() -> None:
    mask = np.array([[1, 1, 4, 4], [0, 0, 0, 0], [4, 0, 0, 1]], dtype=np.uint8)
    assert label_objects(mask, (1, 2, 3, 4)).tolist() == [[1, 1, 3, 3], [0, 0, 0, 0], [4, 0, 0, 2]]
