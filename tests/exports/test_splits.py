"""Splits by place."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.errors import UsageError
from changen_cli.exports.splits import assign_splits, parse_shares

SHARES = (0.8, 0.1, 0.1)


@given(st.sets(st.text(min_size=1, max_size=6), min_size=3, max_size=60))
def test_every_place_has_one_split_and_every_split_a_place(groups) -> None:
    splits = assign_splits(groups, SHARES)
    assert set(splits) == groups
    assert set(splits.values()) == {"train", "val", "test"}
    assert assign_splits(sorted(groups, reverse=True), SHARES) == splits


def test_shares_are_met_in_the_mean() -> None:
    counts = Counter(assign_splits((f"place-{i}" for i in range(5000)), SHARES).values())
    assert abs(counts["train"] / 5000 - 0.8) < 0.02
    assert abs(counts["val"] / 5000 - 0.1) < 0.015


def test_new_places_move_no_old_one() -> None:
    places = [f"place-{i}" for i in range(300)]
    before, after = assign_splits(places[:200], SHARES), assign_splits(places, SHARES)
    assert all(after[place] == split for place, split in before.items())


def test_too_few_places() -> None:
    with pytest.raises(UsageError, match=r"3 splits.* 2 place"):
        assign_splits(("a", "b"), SHARES)


@pytest.mark.parametrize("text", ["0.8,0.1", "1.1,-0.1", "a", "", "0.25,0.25,0.25,0.25", "0.8,0.2,0", "nan,1"])
def test_bad_shares(text) -> None:
    with pytest.raises(UsageError, match="--split"):
        parse_shares(text)


def test_good_shares() -> None:
    assert parse_shares("0.8, 0.1,0.1") == SHARES
    assert parse_shares("1") == (1.0,)
