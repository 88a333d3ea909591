"""Edges that move: connected to their class, no farther than asked, in metres."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.errors import UsageError
from changen_cli.core.transitions import load_transitions
from changen_cli.core.types import ClassSchema, MaskSeries
from changen_cli.events import Transitions, resolve_transitions

from .test_events import LAND, fill
from .test_transitions import check, land, run

RISE = {"class": "water", "distance_m": [3, 10], "over": ["land", "vegetation"]}
CLEAR = {"class": "vegetation", "distance_m": [3, 10], "retreat_to": "land"}


def moves(*given: dict[str, Any], rates: dict[str, dict[str, float]] | None = None) -> Transitions:
    return resolve_transitions(load_transitions({"rates": rates or {}, "moves": list(given)}), LAND)


def shore() -> np.ndarray:
    """A wavy shore between land and water, with woods on the land."""
    rows, cols = np.mgrid[:240, :200]
    mask = np.where(cols < 60 + 15 * np.sin(rows / 25), 5, 2)
    mask[(mask == 2) & (rows > 120)] = 4
    return mask


def changed(series: MaskSeries, step: int = 0) -> np.ndarray:
    return series.masks[step] != series.masks[step + 1]


def test_water_rises_over_land_and_nothing_else() -> None:
    transitions = moves(RISE)
    for seed in range(10):
        scene = replace(land(shore()), gsd_m=0.5)
        series = run(scene, transitions, seed, steps=2, change_area=(0.03, 0.05))
        check(scene, series, transitions)
        assert all(report.met for report in series.reports)
        assert {event.to_class for event in series.events} == {5}
        for step in range(2):
            water = series.masks[step] == 5
            assert ndimage.distance_transform_edt(~water)[changed(series, step)].max() <= 20 * 1.09
            # Every flooded piece lies at the water: nothing of it is left when the water's own piece is filled.
            pieces, count = ndimage.label(changed(series, step))
            beside = ndimage.binary_dilation(water)
            assert all((beside & (pieces == number)).any() for number in range(1, count + 1))


def test_forest_gives_way_along_its_rim() -> None:
    transitions = moves(CLEAR)
    scene = replace(land(shore()), gsd_m=0.5)
    series = run(scene, transitions, steps=1, change_area=(0.05, 0.05))
    check(scene, series, transitions)
    assert series.reports[0].met
    assert {(event.from_class, event.to_class) for event in series.events} == {(4, 2)}
    inside = ndimage.distance_transform_edt(series.masks[0] == 4)
    assert inside[changed(series)].max() <= 20 * 1.09


@pytest.mark.parametrize(("gsd_m", "share"), [(0.25, 0.02), (1.0, 0.01), (None, 0.02)])
def test_distances_are_metres(gsd_m: float | None, share: float) -> None:
    """A straight shore rises by exactly four metres, whatever a pixel is."""
    mask = np.full((160, 160), 2)
    mask[:, :60] = 5
    transitions = moves({**RISE, "distance_m": 4})
    scene = replace(land(mask), gsd_m=gsd_m)
    series = run(scene, transitions, steps=1, change_area=(share, share))
    assert changed(series).any(axis=0).sum() == round(4 / (gsd_m or 0.5))
    assert series.reports[0].met
    told = "no ground sampling distance: a pixel was taken for 0.5 m"
    assert series.reports[0].note == ("" if gsd_m else told)


def test_a_pond_grows_all_around() -> None:
    rows, cols = np.mgrid[:200, :200]
    mask = np.where(np.hypot(rows - 90, cols - 110) < 20, 5, 2)
    series = run(land(mask), moves({**RISE, "distance_m": 3}), steps=1, change_area=(0.3, 0.3))
    (event,) = series.events
    ring = fill(event.polygon, mask.shape)
    assert (ndimage.binary_fill_holes(ring) == (ring | (mask == 5))).all()
    assert event.area_px == pytest.approx(np.pi * (26**2 - 20**2), rel=0.1)
    assert not series.reports[0].met and "no region left" in series.reports[0].note


def test_a_road_holds_the_water_back() -> None:
    mask = np.full((200, 200), 2)
    mask[:, :60], mask[:, 64:67] = 5, 3
    series = run(land(mask), moves({**RISE, "distance_m": [5, 15]}), steps=3, change_area=(0.01, 0.05))
    assert series.events
    assert (series.masks[:, :, 64:] == mask[:, 64:]).all()


def test_unknown_and_instances_stay() -> None:
    mask = shore()
    mask[30:60, 60:90] = 255
    instances = np.zeros(mask.shape, np.int32)
    instances[150:170, 70:100] = 1
    mask[instances > 0] = 1
    mask[155:160, 75:80] = 4  # a tree above the house
    scene = land(mask, instances)
    for number, given in enumerate((RISE, CLEAR)):
        series = run(scene, moves(given), number, change_area=(0.05, 0.1))
        assert series.events
        check(scene, series, moves(given))
        assert (series.masks[:, instances > 0] == mask[instances > 0]).all()


def test_moves_take_their_share_and_rates_the_rest() -> None:
    mask = shore()
    transitions = moves({**RISE, "share": 0.4, "over": ["land"]}, rates={"vegetation": {"land": 0.2}})
    areas = np.zeros(2)
    for seed in range(20):
        series = run(land(mask), transitions, seed, steps=1, change_area=(0.06, 0.06))
        assert series.reports[0].met
        for pair in series.reports[0].transitions:
            areas[int(pair.to_class == 5)] += pair.reached_px
            assert pair.from_class == {5: 2, 2: 4}[pair.to_class]
            if pair.to_class == 5:
                assert pair.asked_px == pytest.approx(0.4 * 0.06 * mask.size, rel=1e-3)
    assert areas[1] / areas.sum() == pytest.approx(0.4, abs=0.06)


def test_names_of_moves_are_matched_and_buildings_refused() -> None:
    schema = ClassSchema(("building", "river", "lake", "soil", "meadow"))
    table = load_transitions(
        {"moves": [{"class": "water", "distance_m": 5, "over": ["bareland", "rangeland", "tree"]}]}
    )
    found = resolve_transitions(table, schema).moves
    assert [(move.edge, move.over, move.to, move.share) for move in found] == [
        (1, (3, 4), 1, 0.15),
        (2, (3, 4), 2, 0.15),
    ]
    with pytest.raises(UsageError, match="none of them is between"):
        resolve_transitions(table, ClassSchema(("building", "meadow")))
    for bad in ({"class": "building", "over": ["land"]}, {"class": "land", "retreat_to": "building"}):
        with pytest.raises(UsageError, match="buildings have no edge that moves"):
            moves({"distance_m": 3, **bad})
    with pytest.raises(UsageError, match=r"unknown class watr \(did you mean water\?\)"):
        moves({**RISE, "class": "watr"})


def test_no_stretch_where_nothing_is_open() -> None:
    for value in (2, 5, 255):
        series = run(land(np.full((60, 80), value)), moves(RISE, CLEAR))
        assert not series.events
        assert all(report.note for report in series.reports)
