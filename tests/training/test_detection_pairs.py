"""Pairs to learn change from: labels say what the pixels show, whichever way the pairs are made."""

from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.types import IGNORE, ClassSchema
from changen_cli.training.detection_pairs import (
    NOTHING_SAID,
    ExchangedPairs,
    LabelledPairs,
    PairTile,
    PastedPairs,
    SceneTile,
    make_batch,
    meanings,
)

SCHEMA = ClassSchema(("background", "building"))
COLOURS = np.array([[40, 90, 50], [200, 60, 60]], np.uint8)


def scene(number: int, side: int = 96) -> SceneTile:
    """Buildings in one colour on ground of another, an unknown corner, so that pixels tell the class."""
    rng = np.random.default_rng(number)
    mask = np.zeros((side, side), np.uint8)
    for row, col in rng.integers(0, side - 24, (4, 2)):
        mask[row : row + 14, col : col + 20] = 1
    mask[:6, :6] = IGNORE
    return SceneTile(COLOURS[np.minimum(mask, 1)], mask, meanings(SCHEMA), f"place{number}")


def pair(number: int, *, changed: bool = True) -> PairTile:
    first = scene(number)
    second = first.mask.copy()
    if changed:
        second[70:90, 70:90] = 1 - second[70, 70]
    change = (first.mask != second).astype(np.uint8)
    change[first.mask == IGNORE] = IGNORE
    return PairTile(
        first.image, COLOURS[np.minimum(second, 1)], change, first.mask, second, first.allowed, first.group
    )  # fmt: skip


SOURCES = {
    "labelled": lambda: LabelledPairs([pair(0), pair(1, changed=False)], 48),
    "exchanged": lambda: ExchangedPairs([scene(0), scene(1), scene(2)], 48),
    "pasted": lambda: PastedPairs([scene(0), scene(1), scene(2)], 48, (1,)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_labels_are_what_changed(kind) -> None:
    source, rng = SOURCES[kind](), np.random.default_rng(0)
    shares = []
    for _ in range(40):
        crop = source.draw(rng)
        assert crop.before.shape == crop.after.shape == (48, 48, 3) and crop.change.shape == (48, 48)
        unknown = (crop.first == IGNORE) | (crop.second == IGNORE)
        assert ((crop.change == IGNORE) == unknown).all()
        assert (((crop.first != crop.second) == (crop.change == 1)) | unknown).all()
        if kind == "pasted":  # nothing is resampled after the paste: the very pixels that differ
            assert ((crop.before != crop.after).any(axis=-1) == (crop.change == 1)).all()
        shares.append((crop.change == 1).mean())
    assert kind == "exchanged" or np.mean(np.array(shares) == 0) > 0.05, "pairs without change are among them"
    assert 0.02 < np.mean(shares) < 0.5


def test_exchanged_dates_are_of_different_places() -> None:
    source, rng = ExchangedPairs([scene(0), scene(1)], 96), np.random.default_rng(0)
    for _ in range(10):
        crop = source.draw(rng)
        assert crop.first.sum() != crop.second.sum() or (crop.first != crop.second).any()
    assert ExchangedPairs([scene(0)], 48).draw(rng).change.shape == (48, 48)


def test_half_of_the_crops_hold_a_change() -> None:
    source, rng = LabelledPairs([pair(0), *(pair(n, changed=False) for n in range(1, 9))], 48), np.random.default_rng(0)
    hit = [(source.draw(rng).change == 1).any() for _ in range(200)]
    assert 0.4 < np.mean(hit) < 0.7


@pytest.mark.parametrize("kind", SOURCES)
def test_batches_depend_on_the_generator_only(kind) -> None:
    first, second = (make_batch(SOURCES[kind](), 4, np.random.default_rng(3)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert first.before.shape == first.after.shape == (4, 3, 48, 48) and first.before.dtype == np.float32
    assert np.abs(first.before).max() <= 1 and first.allowed.shape == (8, 8, 48, 48)
    if kind == "pasted":
        assert (first.before != first.after).mean() > 0.5, "each date has its own light"


def test_what_ids_mean() -> None:
    table = meanings(SCHEMA)
    assert table[1].nonzero()[0].tolist() == [7] and table[0].nonzero()[0].tolist() == list(range(7))
    assert table[IGNORE].all()
    cover = meanings(ClassSchema(("unlabelled", "water", "forest")))
    assert cover[0].all() and cover[1].nonzero()[0].tolist() == [5] and cover[2].nonzero()[0].tolist() == [4]
    assert (meanings(ClassSchema(("nothing", "something"))) == NOTHING_SAID).all()


def test_too_small_and_nothing_to_paste() -> None:
    for make in (lambda: LabelledPairs([pair(0)], 128), lambda: ExchangedPairs([scene(0)], 128)):
        with pytest.raises(UsageError, match="128 px"):
            make()
    with pytest.raises(UsageError, match="no object fits"):
        PastedPairs([scene(0)], 48, ())
