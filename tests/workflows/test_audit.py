"""The audit finds the shortcuts that are planted, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from changen_cli.workflows.audit import Figure, audit, balance, change_auc, identical_share
from changen_cli.workflows.cues import CHANGE_CUES, DATE_CUES, PairCues, observe

from .planted import SIDE, pair

COUNT = 12


def seen(kind: str, places: int = COUNT) -> list[PairCues]:
    known = np.ones((SIDE, SIDE), bool)
    return [
        observe(*pair(kind, number), known, f"place{number % places}", np.random.default_rng(number))
        for number in range(COUNT)
    ]


@pytest.fixture(scope="module")
def sets() -> dict[str, list[PairCues]]:
    return {kind: seen(kind) for kind in ("identical", "blurred", "coded", "soft", "independent")}


def verdicts(pairs: list[PairCues], real: list[PairCues] | None = None) -> dict[str, str]:
    return {cue.name: cue.verdict for cue in audit(pairs, real)}


def test_identical_pixels_give_the_label_away(sets) -> None:
    cues = {cue.name: cue for cue in audit(sets["identical"])}
    assert cues["change.difference"].made.value > 0.98 and cues["change.difference"].verdict == "over"
    assert "--nuisance" in cues["change.difference"].advice
    assert identical_share(sets["identical"]) == 1.0
    assert {cues[f"date.{cue}"].verdict for cue in DATE_CUES} == {"ok"}, "far from the change both dates are one"


def test_a_softer_later_date_gives_the_date_away(sets) -> None:
    found = verdicts(sets["blurred"])
    assert found["date.sharpness"] == found["date.noise"] == found["balance.sharpness"] == "over"
    assert balance(sets["blurred"], "sharpness").value < 0.8
    cue = next(cue for cue in audit(sets["blurred"]) if cue.name == "date.sharpness")
    assert cue.made.value > 0.95 and "One date was processed more" in cue.advice


def test_a_codec_at_one_date_gives_it_away(sets) -> None:
    cue = next(cue for cue in audit(sets["coded"]) if cue.name == "date.jpeg_grid")
    assert cue.made.value > 0.95 and cue.verdict == "over"


def test_smooth_drawn_pixels_give_the_label_away(sets) -> None:
    found = {cue.name: cue for cue in audit(sets["soft"])}
    assert found["change.sharpness"].verdict == "over" and found["change.contrast"].verdict == "over"


def test_independent_dates_pass(sets) -> None:
    found = {cue.name: cue for cue in audit(sets["independent"])}
    assert {found[f"change.{cue}"].verdict for cue in CHANGE_CUES} == {"ok"}
    assert all(abs(found[f"change.{cue}"].made.value - 0.5) < 0.1 for cue in CHANGE_CUES)
    assert "over" not in {cue.verdict for cue in found.values()}
    assert found["balance.contrast"].verdict == found["balance.sharpness"].verdict == "ok"
    assert identical_share(sets["independent"]) < 0.05


def test_the_bar_follows_real_pairs(sets) -> None:
    made = sets["soft"]
    same = {cue.name: cue for cue in audit(made, made)}
    assert {cue.verdict for cue in same.values() if cue.name.startswith("change.")} == {"ok"}
    assert same["change.sharpness"].bar == pytest.approx(min(1.0, same["change.sharpness"].made.value + 0.1))
    strict = {cue.name: cue for cue in audit(made, sets["independent"])}
    assert strict["change.sharpness"].verdict == "over" and strict["change.sharpness"].bar < 0.7
    assert strict["change.sharpness"].bar >= 0.6, "less than guessing asks for nothing better"


def test_one_place_tells_nothing(sets) -> None:
    found = audit(seen("identical", places=1)[:4])
    assert {cue.verdict for cue in found} == {"unsure"} and math.isnan(found[0].made.value)
    assert all("Too few places" in cue.advice for cue in found)
    assert math.isnan(change_auc([], "noise").value)


def test_unknown_and_missing_pixels_are_not_looked_at() -> None:
    before, after, change = pair("identical", 0)
    rng = np.random.default_rng(0)
    known = np.zeros(change.shape, bool)
    nothing = observe(before, after, change, known, "a", rng)
    assert not nothing.changed and nothing.date is None and math.isnan(nothing.identical)
    everything = observe(before, after, ~known, ~known, "a", rng)
    assert not everything.changed and everything.date is None
    known[:, :80] = True
    garbage = after.copy()
    garbage[:, 120:] = 0
    one, other = (
        observe(before, image, change & known, known, "a", np.random.default_rng(1)) for image in (after, garbage)
    )
    assert np.array_equal(one.changed["difference"], other.changed["difference"])
    assert one.identical == other.identical == 1.0
    small = observe(before[:9, :9], after[:9, :9], change[:9, :9], ~change[:9, :9], "a", rng)
    assert not small.changed


def test_two_places_hardly_know_their_error() -> None:
    assert Figure(0.7, 0.01, 2).chance == pytest.approx(0.127, abs=0.001)
    assert Figure(0.7, 0.01, 50).chance == pytest.approx(0.0201, abs=0.0001)
