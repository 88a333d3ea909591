"""The shortcut audit: how well a cue alone tells what changed, or which date is the later one.

Each cue goes to a logistic probe that is fitted on some places and tested on the others. What a probe of one or two
figures can do, a detector learns first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from changen_cli.synthesis.measures import LogisticProbe, auc, deal
from changen_cli.workflows.cues import CHANGE_CUES, DATE_CUES, PairCues

Array = npt.NDArray[np.float64]
Verdict = Literal["ok", "over", "unsure"]

BAR = 0.65
"""ROC AUC a cue may reach where there are no real pairs to compare with."""
ROOM = 0.10
"""How far above that of real pairs a cue's ROC AUC may lie."""
BALANCE = 0.03
"""How far contrast and sharpness of the later date may lie from those of the earlier one."""
_FOLDS = 5
_FEWEST_PLACES = 2
_FEWEST_PAIRS = 8

_SAME = "let all dates go through acquisitions of their own (--nuisance realistic, no --keep-date0)"
ADVICE = {
    "difference": "Unchanged pixels differ too little between dates: use a stronger --nuisance (none, mild, realistic, "
    "hard)",
    "difference_smoothed": "Unchanged ground differs too little in colour and light between dates: use a stronger "
    "--nuisance (none, mild, realistic, hard)",
    "contrast": "Texture changes only where the label says so: use a stronger --nuisance, and look at changed areas "
    "close up",
    "sharpness": f"Changed areas are softer or sharper than the rest: {_SAME}, or try another --strength",
    "noise": f"Drawn pixels lack the sensor's noise, or have too much: {_SAME}",
    "jpeg_grid": f"Only original pixels have a codec's blocks: start from images stored without loss, or {_SAME}",
    "date": f"One date was processed more than the other: {_SAME}",
    "few": "Too few places or pairs to tell: look at more (--samples), or make more",
}


@dataclass(frozen=True)
class Figure:
    """A figure with how sure it is.

    Attributes:
        value: NaN where it cannot be told.
        error: Standard error over places; NaN likewise.
        places: How many there were.
    """

    value: float
    error: float
    places: int

    @property
    def chance(self) -> float:
        """How far chance alone moves it: 95 %, by Student's t, for few places hardly know their own error."""
        return self.error * float(stats.t.ppf(0.975, max(1, self.places - 1)))


_UNKNOWN = Figure(math.nan, math.nan, 0)


@dataclass(frozen=True)
class Cue:
    """What the audit says of one cue.

    Attributes:
        name: ``change.<cue>``, ``date.<cue>``, or ``balance.<cue>``.
        made: ROC AUC; of a balance the ratio of the later to the earlier date.
        real: The same of real pairs; None without any.
        bar: What it may be at most; of a balance the farthest from 1.
        verdict: ``over`` where it is above the bar by more than chance, ``unsure`` where chance may be why.
        advice: What to do; empty where nothing.
    """

    name: str
    made: Figure
    real: Figure | None
    bar: float
    verdict: Verdict
    advice: str


def audit(made: Sequence[PairCues], real: Sequence[PairCues] | None = None) -> list[Cue]:
    """Judge all cues.

    Args:
        made: Pairs of the dataset.
        real: Real pairs to compare with; None for the fixed bar.
    """
    found = [_judge(f"change.{cue}", made, real, cue, change_auc, ADVICE[cue]) for cue in CHANGE_CUES]
    found += [_judge(f"date.{cue}", made, real, cue, date_auc, ADVICE["date"]) for cue in DATE_CUES]
    return found + [_judge_balance(made, real, cue) for cue in ("contrast", "sharpness")]


def change_auc(pairs: Sequence[PairCues], cue: str) -> Figure:
    """How well a cue tells changed pixels of a pair from its others, on places the probe was not fitted to.

    Scores are compared within a pair only, for a detector sees a pair as a whole; the mean over places counts.
    """
    usable = [pair for pair in pairs if pair.changed]
    places = [pair.place for pair in usable]
    scores: dict[str, list[float]] = {}
    for test in _folds(places):
        fitted = [_centred(pair, cue) for pair, tested in zip(usable, test, strict=True) if not tested]
        changed, others = (np.concatenate(side) for side in zip(*fitted, strict=True))
        score = LogisticProbe(changed, others, 1.0)
        for pair, tested in zip(usable, test, strict=True):
            if tested:
                value = auc(score(pair.changed[cue]), score(pair.unchanged[cue]))
                scores.setdefault(pair.place, []).append(value)
    return _mean([float(np.mean(values)) for values in scores.values()])


def date_auc(pairs: Sequence[PairCues], cue: str) -> Figure:
    """How well a cue tells the later date of a pair from the earlier one: pairs shown in order against reversed."""
    usable = [pair for pair in pairs if pair.date is not None]
    if len(usable) < _FEWEST_PAIRS:
        return _UNKNOWN
    places = np.asarray([pair.place for pair in usable])
    steps = np.array([pair.date for pair in usable])[:, [DATE_CUES.index(cue)]]
    scores = np.full(len(usable), np.nan)
    for test in _folds(places.tolist()):
        scores[test] = LogisticProbe(steps[~test], -steps[~test], 1.0)(steps[test])
    if np.isnan(scores).any():
        return _UNKNOWN
    left_out = [auc(rest, -rest) for rest in (scores[places != place] for place in dict.fromkeys(places)) if len(rest)]
    count = len(left_out)
    return Figure(auc(scores, -scores), float(np.std(left_out)) * math.sqrt(max(0, count - 1)), count)


def balance(pairs: Sequence[PairCues], cue: str) -> Figure:
    """Contrast or sharpness of the later dates over that of the earlier ones: 1 where none is the clean one."""
    column = DATE_CUES.index(cue)
    places: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.date is not None:
            places.setdefault(pair.place, []).append(pair.date[column])
    mean = _mean([float(np.mean(values)) for values in places.values()])
    return Figure(math.exp(mean.value), math.exp(mean.value) * mean.error, mean.places)


def identical_share(pairs: Sequence[PairCues]) -> float:
    """Share of unchanged pixels that are bit-identical, mean over pairs; NaN without any."""
    shares = [pair.identical for pair in pairs if not math.isnan(pair.identical)]
    return float(np.mean(shares)) if shares else math.nan


def _judge(
    name: str,
    made: Sequence[PairCues],
    real: Sequence[PairCues] | None,
    cue: str,
    measure: Callable[[Sequence[PairCues], str], Figure],
    advice: str,
) -> Cue:
    ours, theirs = measure(made, cue), None if real is None else measure(real, cue)
    known = theirs is not None and not math.isnan(theirs.value)
    bar = min(1.0, max(0.5, theirs.value) + ROOM) if theirs is not None and known else BAR
    verdict = _verdict(ours.value - bar, ours.chance)
    return Cue(name, ours, theirs, bar, verdict, _advice(verdict, advice))


def _judge_balance(made: Sequence[PairCues], real: Sequence[PairCues] | None, cue: str) -> Cue:
    ours = balance(made, cue)
    verdict = _verdict(abs(ours.value - 1) - BALANCE, ours.chance)
    theirs = None if real is None else balance(real, cue)
    return Cue(f"balance.{cue}", ours, theirs, BALANCE, verdict, _advice(verdict, ADVICE["date"]))


def _verdict(excess: float, chance: float) -> Verdict:
    """Judge how far a figure lies above its bar."""
    if math.isnan(excess):
        return "unsure"
    if excess <= 0:
        return "ok"
    return "over" if excess > chance else "unsure"


def _advice(verdict: Verdict, advice: str) -> str:
    return {"ok": "", "over": advice, "unsure": ADVICE["few"]}[verdict]


def _folds(places: Sequence[str]) -> list[npt.NDArray[np.bool_]]:
    """Parts of the pairs to test on; none where there is but one place."""
    return list(deal(places, _FOLDS)) if len(set(places)) >= _FEWEST_PLACES else []


def _centred(pair: PairCues, cue: str) -> tuple[Array, Array]:
    """A pair's figures without what all its pixels share, which tells nothing within a pair."""
    middle = (pair.changed[cue].mean(axis=0) + pair.unchanged[cue].mean(axis=0)) / 2
    return pair.changed[cue] - middle, pair.unchanged[cue] - middle


def _mean(values: Sequence[float]) -> Figure:
    if len(values) < _FEWEST_PLACES:
        return _UNKNOWN
    return Figure(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values))), len(values))
