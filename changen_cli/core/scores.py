"""How well a map of probabilities tells what changed, added up over any number of images in little memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import BoolArray

_BINS = 4096


@dataclass
class ChangeScores:
    """Pixels of all images counted together, so that large images and those with much change count for more.

    Attributes:
        threshold: A pixel is said to have changed where its probability is higher.
        counts: int64 ``[N, 3]``: per image pixels said and true, said and not true, true and not said.
        changed: int64 ``[4096]``, changed pixels by their probability.
        unchanged: int64 ``[4096]``, unchanged pixels by their probability.
    """

    threshold: float = 0.5
    counts: list[tuple[int, int, int]] = field(default_factory=list)
    changed: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    unchanged: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, probability: npt.NDArray[np.floating], change: BoolArray, known: BoolArray) -> None:
        """Count one image.

        Args:
            probability: ``[H, W]`` in [0, 1].
            change: bool ``[H, W]``, what changed.
            known: bool ``[H, W]``; nothing else counts.
        """
        bins = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
        true, said = change & known, (probability > self.threshold) & known
        self.changed += np.bincount(bins[true], minlength=_BINS)
        self.unchanged += np.bincount(bins[known & ~change], minlength=_BINS)
        both = int(np.count_nonzero(said & true))
        self.counts.append((both, int(np.count_nonzero(said)) - both, int(np.count_nonzero(true)) - both))

    @property
    def false_alarm_share(self) -> float:
        """Share of the unchanged pixels that are said to have changed; not a number without any."""
        unchanged = int(self.unchanged.sum())
        return sum(false for _, false, _ in self.counts) / unchanged if unchanged else math.nan

    def figures(self) -> dict[str, float]:
        """F1, IoU, precision, recall, AP, and the area said over the true one; not a number where nothing changed.

        ``f1_error`` is the standard error of F1 over images, by 200 resamplings of them; of one image it is not known.
        """
        counts = np.array(self.counts, dtype=np.int64).reshape(-1, 3)
        both, false, missed = (int(value) for value in counts.sum(axis=0))
        return {
            "f1": _over(2 * both, 2 * both + false + missed) if both + missed else math.nan,
            "f1_error": _spread(counts),
            "iou": _over(both, both + false + missed) if both + missed else math.nan,
            "precision": _over(both, both + false),
            "recall": _over(both, both + missed),
            "ap": average_precision(self.changed, self.unchanged),
            "area_ratio": _over(both + false, both + missed),
        }


def average_precision(positive: npt.NDArray[np.int64], negative: npt.NDArray[np.int64]) -> float:
    """Mean precision over recall, by histograms of scores in rising order; not a number without positives.

    Args:
        positive: ``[N]``, counts of what should score high.
        negative: ``[N]``, counts of what should score low.
    """
    if not positive.sum():
        return math.nan
    hits, false = (np.cumsum(counts[::-1]) for counts in (positive, negative))
    precision = hits / np.maximum(hits + false, 1)
    return float((precision * positive[::-1]).sum() / hits[-1])


def _over(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _spread(counts: npt.NDArray[np.int64]) -> float:
    if len(counts) < 2:
        return math.nan
    rng = np.random.default_rng(0)
    drawn = counts[rng.integers(len(counts), size=(200, len(counts)))].sum(axis=1)
    drawn = drawn[drawn[:, 0] + drawn[:, 2] > 0]  # where nothing changed, F1 is not known
    return float(np.std(2 * drawn[:, 0] / (2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2]))) if len(drawn) else math.nan
