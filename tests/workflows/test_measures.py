"""Measures of drawn dates on simulated ones whose quality is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from changen_cli.core.types import ClassSchema
from changen_cli.workflows import measures
from tests.workflows.houses import make_scene

SCHEMA = ClassSchema()


def box(size: int, *corners: int) -> np.ndarray:
    area = np.zeros((size, size), bool)
    area[corners[0] : corners[1], corners[2] : corners[3]] = True
    return area


def test_label_agreement_counts_what_is_near() -> None:
    wanted = box(100, 20, 40, 20, 40) | box(100, 80, 95, 80, 95)  # the second is far from any change
    created, nothing = box(100, 20, 40, 20, 40), np.zeros((100, 100), bool)
    agreement = measures.LabelAgreement()
    agreement.add(box(100, 20, 40, 20, 30), wanted, created, nothing)
    figures = agreement.figures()
    assert figures["iou_create"] == figures["iou_all"] == pytest.approx(0.5)
    assert np.isnan(figures["iou_remove"]) and np.isnan(figures["still_building"])
    agreement.add(wanted, wanted, created, nothing)  # pooled over dates: (200 + 400) / (400 + 400)
    assert agreement.figures()["iou_create"] == pytest.approx(0.75)


def test_label_agreement_of_removals() -> None:
    removed, neighbour = box(100, 20, 40, 20, 40), box(100, 20, 40, 50, 60)
    nothing = np.zeros((100, 100), bool)
    agreement = measures.LabelAgreement()
    agreement.add(neighbour | box(100, 20, 25, 20, 40), neighbour, nothing, removed)
    figures = agreement.figures()
    assert figures["still_building"] == pytest.approx(0.25)
    assert figures["iou_remove"] == 0  # the neighbour starts 11 px away
    near = 6 * 20  # of the neighbour within 16 px; its upper and lower ends are within the circle too
    assert figures["iou_remove_ring"] == pytest.approx(near / (near + 100), abs=0.06)


def test_windows() -> None:
    image = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8)
    assert (measures.centred_window(image, 50, 40) == image[18:82, 8:72]).all()
    assert (measures.centred_window(image, 0, 79) == image[:64, 16:]).all()
    with pytest.raises(ValueError, match="no window"):
        measures.centred_window(image[:50], 10, 10)


def test_real_windows_show_their_kind() -> None:
    scenes = [make_scene(seed) for seed in range(3)]
    # An image that is its own mask tells what the windows show.
    shown = [replace(s, image=np.repeat(s.mask[..., None] * 255, 3, axis=2)) for s in scenes]
    rng = np.random.default_rng(0)
    buildings = measures.real_windows(shown, SCHEMA, "create", 12, rng)
    grounds = measures.real_windows(shown, SCHEMA, "remove", 12, rng)
    assert len(buildings) == len(grounds) == 12
    assert np.mean([window[30:34, 30:34].mean() for window in buildings]) > 150  # windows at the edge are shifted
    assert np.mean([window[30:34, 30:34].mean() for window in grounds]) < 60
    assert measures.real_windows([], SCHEMA, "create", 5, rng) == []
    assert len(measures.real_windows(scenes, SCHEMA, "create", 10_000, rng)) < 40
