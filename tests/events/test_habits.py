"""How buildings stand is measured to within a few pixels, and new ones are laid the same way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.events import measure_objects
from changen_cli.events.habits import Habits, measure_habits
from changen_cli.events.laying import fold
from changen_cli.events.placement import SiteMap, lay
from changen_cli.events.regions import dilate
from tests.events.test_events import block_exemplar, grid_scene, random_scene


def plain_gap(instances: np.ndarray, number: int) -> float:
    """Free pixels between an object and the nearest other one: the whole tile compared, object by object."""
    own = instances == number
    others = ndimage.distance_transform_edt((instances == 0) | own)
    return float(others[own].min()) - 1


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_gaps_and_roads_are_those_of_the_plain_way(seed: int) -> None:
    scene = random_scene(seed)
    assert scene.mask is not None and scene.instances is not None
    objects = measure_objects(scene.mask, scene.instances, (1,))
    road = scene.mask == 3
    habits = measure_habits(scene.instances, objects, road)
    if len(objects) < 4:
        assert len(habits.gaps_px) == 0
        return
    assume(len(habits.gaps_px) == len(objects))  # one of a pixel may hide behind another
    to_road = ndimage.distance_transform_edt(~road)
    for row, number in enumerate(objects.numbers):
        assert habits.gaps_px[row] == pytest.approx(max(plain_gap(scene.instances, int(number)), 0), abs=6)
        if road.any():
            assert habits.roads_px[row] == pytest.approx(to_road[scene.instances == number].min(), abs=6)
        else:
            assert np.isinf(habits.roads_px[row])


def test_turns_are_against_the_nearest_building() -> None:
    scene = grid_scene(0.3)
    assert scene.mask is not None and scene.instances is not None
    scene.instances[scene.instances == 6] = 0
    scene.instances[70:90, 70:84] = 6  # upright, among others turned by 17 degrees
    scene.mask[:] = scene.instances > 0
    objects = measure_objects(scene.mask, scene.instances, (1,))
    habits = measure_habits(scene.instances, objects, np.zeros_like(scene.mask, dtype=bool))
    turns = dict(zip(objects.numbers.tolist(), habits.turns_rad.tolist(), strict=True))
    assert turns[6] == pytest.approx(-0.3, abs=0.03)
    assert turns[16] == pytest.approx(0, abs=0.03)


def site_map(side: int = 200, road: bool = False) -> tuple[SiteMap, np.ndarray]:
    scene = grid_scene(0.2, 256)
    assert scene.mask is not None and scene.instances is not None
    instances = np.zeros((side, side), dtype=np.int32)
    instances[:96, :96] = scene.instances[:96, :96]  # four buildings in a corner
    objects = measure_objects((instances > 0).astype(np.uint8), instances, (1,))
    roads = np.zeros((side, side), dtype=bool)
    roads[:, 150:156] = road
    return SiteMap(dilate((instances > 0) | roads, 4), instances, objects, roads, 4), instances


@pytest.mark.parametrize(("gap", "turn"), [(6.0, 0.0), (20.0, 0.3), (50.0, -0.6)])
def test_a_new_building_keeps_the_distance_and_direction_asked_for(gap: float, turn: float) -> None:
    sites, instances = site_map()
    habits = Habits(np.full(9, gap), np.full(9, np.inf), np.full(9, turn), 20.0)
    far = ndimage.distance_transform_edt(instances == 0)
    laid = [lay(block_exemplar(12, 18), 1.0, sites, habits, derive_rng(seed)) for seed in range(12)]
    found = [one for one in laid if one is not None]
    assert len(found) == 12
    for one in found:
        rows, cols = np.nonzero(one.footprint)
        assert far[rows + one.box[0], cols + one.box[1]].min() == pytest.approx(gap, abs=9)
        assert abs(fold(one.orientation_rad - 0.2 - turn)) < 0.05


def test_a_new_building_keeps_its_distance_to_the_road() -> None:
    sites, _ = site_map(road=True)
    habits = Habits(np.full(9, 40.0), np.full(9, 8.0), np.zeros(9), 20.0)
    for seed in range(8):
        laid = lay(block_exemplar(10, 10), 1.0, sites, habits, derive_rng(seed))
        assert laid is not None
        away = max(150 - laid.box[3], laid.box[1] - 156)
        assert away == pytest.approx(8, abs=7)


def test_few_buildings_tell_no_habits() -> None:
    habits = measure_habits(np.zeros((32, 32), np.int32), measure_objects(np.zeros((32, 32), np.uint8),
                            np.zeros((32, 32), np.int32), (1,)), np.zeros((32, 32), bool))  # fmt: skip
    gap, road, turn = habits.draw(derive_rng(0))
    assert gap > 0
    assert math.isinf(road)
    assert turn == 0
