"""Scores of change maps: the figures by their definitions, pooled over images."""

from __future__ import annotations

import math

import numpy as np
import pytest

from changen_cli.core.scores import ChangeScores


def by_hand(probability: np.ndarray, change: np.ndarray) -> float:
    """Average precision over the ranks of single pixels."""
    order = np.argsort(-probability)
    hits = np.cumsum(change[order])
    return float((hits / np.arange(1, order.size + 1))[change[order]].mean())


def test_figures_are_those_of_all_pixels_that_are_known() -> None:
    rng = np.random.default_rng(0)
    scores, seen = ChangeScores(), []
    for shape in ((40, 30), (20, 20)):
        change, known = rng.random(shape) < 0.2, rng.random(shape) < 0.8
        probability = np.clip(0.35 * change + rng.random(shape) * 0.6, 0, 1)
        scores.add(probability, change, known)
        seen.append((probability[known], change[known]))
    probability, change = (np.concatenate(part) for part in zip(*seen, strict=True))
    said = probability > 0.5
    precision, recall = change[said].mean(), said[change].mean()
    found = scores.figures()
    assert found["precision"] == pytest.approx(precision) and found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["iou"] == pytest.approx((said & change).sum() / (said | change).sum())
    assert found["area_ratio"] == pytest.approx(said.sum() / change.sum())
    assert found["ap"] == pytest.approx(by_hand(probability, change), abs=2e-3)
    assert 0 < found["f1_error"] < 0.2
    assert scores.false_alarm_share == pytest.approx(said[~change].mean())


def test_without_change_only_false_alarms_are_told() -> None:
    scores = ChangeScores()
    scores.add(np.array([[0.9, 0.1]]), np.zeros((1, 2), bool), np.ones((1, 2), bool))
    assert scores.false_alarm_share == 0.5
    found = scores.figures()
    assert all(math.isnan(found[name]) for name in ("f1", "iou", "ap", "recall", "area_ratio", "f1_error"))
    assert math.isnan(ChangeScores().false_alarm_share)


def test_the_error_of_f1_leaves_out_resamplings_without_change() -> None:
    scores, known = ChangeScores(), np.ones((1, 10), bool)
    change = np.arange(10)[None] < 5
    scores.add(0.9 * change, change, known)
    scores.add(np.where(np.arange(10)[None] < 1, 0.9, 0.1), np.zeros_like(change), known)
    assert scores.figures()["f1"] == pytest.approx(10 / 11)
    assert scores.figures()["f1_error"] < 0.1, "F1 of unchanged images alone is not known, and not 0"
