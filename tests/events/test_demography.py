"""Objects come and go as their yearly rates say, and as long as the step is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import MaskSeries
from changen_cli.events import Demography, EventRules, simulate_series
from tests.events.test_events import BINARY, block_exemplar, check, grid_scene


def lived(rates: Mapping[str, float], years: tuple[float, ...], seed: int = 0, **options: object) -> MaskSeries:
    kinds = tuple(rates)
    return simulate_series(
        grid_scene(),
        EventRules(BINARY, kinds, demography=Demography(rates, years), **options),  # type: ignore[arg-type]
        steps=len(years),
        library=[block_exemplar(14, 20)],
        rng_for_step=lambda t: derive_rng(seed, t),
    )


def counts(series: MaskSeries, kind: str) -> list[int]:
    return [sum(e.kind == kind and e.time_index == t for e in series.events) for t in range(len(series.reports))]


def test_deaths_are_binomial_in_the_length_of_the_step() -> None:
    years = (0.5, 4.0)
    died = np.array([counts(lived({"remove": 0.1}, years, seed), "remove") for seed in range(150)])
    left = 16 - np.concatenate([np.zeros((150, 1)), died[:, :1]], axis=1)
    expected = left * (1 - np.exp(-0.1 * np.array(years)))
    spread = np.sqrt((expected * np.exp(-0.1 * np.array(years))).sum(axis=0))
    assert (abs(died.sum(axis=0) - expected.sum(axis=0)) < 3 * spread).all()


def test_births_are_poisson_in_the_objects_present() -> None:
    born = np.array([counts(lived({"create": 0.05}, (2.0,), seed), "create")[0] for seed in range(150)])
    # Of the size of those present on average; an object more or less ends a step well enough.
    assert born.mean() == pytest.approx(1.6, abs=0.4)
    assert born.max() > 3
    assert born.min() == 0


def test_rates_of_zero_change_nothing_and_that_is_as_asked() -> None:
    series = lived({"create": 0.0, "remove": 0.0}, (3.0, 5.0))
    assert series.events == ()
    assert all(report.met and report.asked == 0 for report in series.reports)


def test_everything_may_die_and_it_is_said() -> None:
    series = lived({"remove": 100.0}, (1.0,))
    assert counts(series, "remove") == [16]
    assert "the last building was removed" in series.reports[0].note


def test_a_long_life_is_exact() -> None:
    series = lived({"create": 0.05, "remove": 0.05}, (2.4, 2.6, 0.1), seed=3)
    check(grid_scene(), BINARY, series)


def test_sites_go_on_without_births() -> None:
    rates = {"grow": 0.5}
    series = lived(rates, (1.0, 1.0, 1.0, 1.0))
    assert {event.kind for event in series.events} == {"grow"}
