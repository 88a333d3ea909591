"""Figures of change masks, asked and made."""

from __future__ import annotations

import math

import numpy as np
import pytest

from changen_cli.workflows.change_statistics import Asked, ChangeStatistics, clark_evans


def test_clark_evans_tells_clusters_from_grids() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(5, 100, 10), np.arange(5, 100, 10)), -1).reshape(-1, 2)
    cluster = rng.normal(50, 4, (100, 2))
    strewn = np.mean([clark_evans(rng.uniform(0, 100, (40, 2)), (100, 100)) for _ in range(40)])
    assert clark_evans(grid, (100, 100)) > 1.8 and clark_evans(cluster, (100, 100)) < 0.3
    assert strewn == pytest.approx(1, abs=0.05), "edges of the field are corrected for"
    assert math.isnan(clark_evans(grid[:4], (100, 100)))


def test_objects_are_connected_regions() -> None:
    statistics, known = ChangeStatistics(), np.ones((50, 40), bool)
    change = np.zeros_like(known)
    change[2:6, 2:6] = change[20:30, 5:15] = True
    known[40:] = False
    statistics.add(change, known)
    statistics.add(np.zeros_like(change), known)
    found = statistics.figures()
    assert found["changed_share"] == pytest.approx((16 + 100) / 1600 / 2)
    assert found["objects_per_pair"] == 1 and found["object_px_50"] == 58 and math.isnan(found["clark_evans"])
    assert math.isnan(ChangeStatistics().figures()["object_px_50"])


def test_asked_and_made() -> None:
    asked = Asked()
    event = {"from_name": "land", "to_name": "building", "area_px": 30}
    asked.add({"changed_fraction": [0.1, 0.3], "asked": [0.2, 0.3], "met": [False, True]}, [event, event])
    asked.add({"changed_fraction": [0.0, 0.0], "asked": [0.0, 0.0], "met": [True, True], "negative": True}, [])
    assert asked.figures() == {"asked_share": 0.25, "made_share": 0.2, "met_share": 0.5, "events_per_step": 1.0}
    recorded = [
        {"from_class": 0, "to_class": 1, "asked": 70, "reached": 60},
        {"from_class": 1, "to_class": 0, "asked": 5},
    ]
    assert asked.transitions(recorded, ("land", "building")) == [
        {"from": "land", "to": "building", "events": 2, "px": 60, "share": 1.0, "asked_px": 70},
        {"from": "building", "to": "land", "events": 0, "px": 0, "share": 0.0, "asked_px": 5},
    ]
    assert "asked_px" not in asked.transitions([], ())[0]
