"""Properties of transitions on any matrix and any mask, and the statistics of which pair comes next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from changen_cli.core.errors import UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import load_transitions
from changen_cli.core.types import Scene
from changen_cli.events import Transitions, resolve_transitions
from changen_cli.events.transitions import Demand

from .test_events import LAND
from .test_transitions import check, run

NAMES = ("unknown", "building", "land", "road", "vegetation", "water")
DRAWS = 10_000
EVERYWHERE = np.ones(256, dtype=bool)


def table(rates: np.ndarray, **further: Any) -> Transitions:
    """A matrix from an array ``[6, 6]`` over LAND's classes, the unknown one too."""
    rows = {
        name: {NAMES[to]: float(rate) for to, rate in enumerate(row) if to != of}
        for of, (name, row) in enumerate(zip(NAMES, rates, strict=True))
    }
    return resolve_transitions(load_transitions({"rates": rows, **further}), LAND)


def random_rates(seed: int) -> np.ndarray:
    """Rows of zero, one, or several rates that add up to at most 0.9."""
    rng = derive_rng(seed, "rates")
    rates = rng.random((6, 6)) * (rng.random((6, 6)) < rng.uniform(0.2, 1))
    np.fill_diagonal(rates, 0)
    return rates * rng.uniform(0.1, 0.9) / np.maximum(rates.sum(axis=1, keepdims=True), 1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_draws_follow_the_matrix(seed: int) -> None:
    """Pairs as often as rate times area; within a row, as often as its rates, whatever the areas are."""
    transitions = table(random_rates(seed))
    areas = np.zeros(256)
    areas[1:6] = derive_rng(seed, "areas").integers(2_000, 90_000, 5)
    demand = Demand(transitions, areas, EVERYWHERE, 1e4)
    rng = derive_rng(seed, "draws")
    counts = np.zeros((256, 256))
    for _ in range(DRAWS):
        counts[demand.draw(rng)] += 1
    weights = transitions.rates * areas[:, None]
    assert not counts[weights == 0].any()
    expected = weights[weights > 0] / weights.sum() * DRAWS
    assert stats.chisquare(counts[weights > 0], expected).pvalue > 1e-3
    for of in range(1, 6):
        row = transitions.rates[of] > 0
        if row.sum() > 1 and counts[of].sum() > 200:
            expected = transitions.rates[of, row] / transitions.rates[of].sum() * counts[of].sum()
            assert stats.chisquare(counts[of, row], expected).pvalue > 1e-3


def test_draws_notice_a_matrix_that_is_not_followed() -> None:
    """The bound above would catch shares that are off by a twentieth."""
    rates = np.zeros((6, 6))
    rates[2, 4], rates[4, 2] = 0.2, 0.3
    areas = np.full(256, 1e4)
    rng = derive_rng(0, "draws")
    demand = Demand(table(rates), areas, EVERYWHERE, 1e4)
    counts = np.zeros((256, 256))
    for _ in range(DRAWS):
        counts[demand.draw(rng)] += 1
    found = [counts[2, 4], counts[4, 2]]
    assert stats.chisquare(found, np.array([0.4, 0.6]) * DRAWS).pvalue > 1e-3
    assert stats.chisquare(found, np.array([0.42, 0.58]) * DRAWS).pvalue < 1e-3


def odd_mask(seed: int) -> np.ndarray:
    """Anything: narrow tiles, single pixels of every class, one class, unknown ground and a class named so."""
    rng = derive_rng(seed, "mask")
    height, width = (int(side) for side in rng.choice([1, 2, 3, 17, 64, 150], 2))
    values = np.array([0, 2, 3, 4, 5, 255], np.uint8)
    kind = seed % 4
    if kind == 0:
        mask = np.full((height, width), rng.choice(values))
    elif kind == 1:
        mask = rng.choice(values, (height, width))  # regions of one pixel
    else:
        blocks = rng.choice(values, (-(-height // 12), -(-width // 12)))
        mask = blocks.repeat(12, 0).repeat(12, 1)[:height, :width].copy()
        if kind == 3:
            salt = rng.random(mask.shape) < 0.02
            mask[salt] = rng.choice(values, int(salt.sum()))
    return mask.astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_matrix_on_any_mask(seed: int) -> None:
    mask, rates = odd_mask(seed), random_rates(seed)
    moves = [{"class": "water", "distance_m": [1, 6], "over": ["land", "vegetation"], "share": 0.3}] * (seed % 2)
    boost = (0.0, 0.5, 1.0)[seed % 3]
    try:
        transitions = table(rates, moves=moves, boost=boost)
    except UsageError:
        assert not rates[1:, 1:].any() and not moves
        return
    assert not transitions.rates[[0, 255]].any() and not transitions.rates[:, [0, 255]].any()
    image = derive_rng(seed, "image").integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    scene = Scene("s", "g", image, mask, np.zeros(mask.shape, np.int32))
    series = run(scene, transitions, seed, steps=2, library=[])
    check(scene, series, transitions)
    still = np.isin(mask, [0, 255]) | ~transitions.rates.any(axis=1)[mask] & ~np.isin(mask, [2, 4] * (seed % 2))
    assert (series.masks[:, still] == mask[still]).all()


def test_rate_zero_changes_nothing() -> None:
    """A row of zeros beside one that may change: its class is as it was, in every pixel of every date."""
    rates = np.zeros((6, 6))
    rates[4, 2] = 0.5
    transitions = table(rates)
    for seed in range(8):
        mask = odd_mask(4 * seed + 2)
        scene = Scene("s", "g", np.zeros((*mask.shape, 3), np.uint8), mask, np.zeros(mask.shape, np.int32))
        series = run(scene, transitions, seed, library=[])
        assert (series.masks[:, mask != 4] == mask[mask != 4]).all()
        assert {(event.from_class, event.to_class) for event in series.events} <= {(4, 2)}
