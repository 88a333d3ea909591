"""Swaps: an object and free ground exchange places, and the masks say all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from changen_cli.core.proposals import PROPOSALS
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import collect_exemplars
from changen_cli.events.regions import dilate

from .test_events import BINARY, GAP, LAND, block_exemplar, grid_scene, logged_area, random_scene, run
from .test_extremes import grid, simulated


def swapped(scene: Scene, schema: ClassSchema, seed: int = 0, **options: Any) -> MaskSeries:
    return run(scene, schema, seed, **({"kinds": ("swap",)} | options))


def check(scene: Scene, schema: ClassSchema, series: MaskSeries) -> None:
    """Everything that must hold on any series with swaps, whatever else happens in it."""
    building = schema.building_id
    touched = np.zeros(series.masks.shape[1:], dtype=bool)
    for t, report in enumerate(series.reports):
        before, after = series.masks[t], series.masks[t + 1]
        inst_before, inst_after = series.instances[t], series.instances[t + 1]
        covered = np.zeros(before.shape, dtype=np.int64)
        events = [event for event in series.events if event.time_index == t]
        for event in events:
            covered += logged_area(event, after)
        changed = before != after
        assert np.array_equal(covered, changed), "every changed pixel is in one event, and no other is in any"
        assert not (changed & touched).any(), "no pixel changes twice"
        touched |= changed
        assert ((before == 255) == (after == 255)).all()
        assert report.met or report.note
        swaps = [event for event in events if event.kind == "swap"]
        left, right = swaps[::2], swaps[1::2]
        assert [event.object_id for event in left] == [event.object_id for event in right]
        assert len({event.object_id for event in left}) == len(left)
        for gone, here in zip(left, right, strict=True):
            old, new = logged_area(gone, after), logged_area(here, after)
            assert not (old & new).any()
            assert gone.from_class == building == here.to_class and gone.placement is None
            assert gone.to_class in schema.ground_ids
            assert (old == ((inst_before == gone.instance) & (before == building))).all(), "the whole object leaves"
            assert not (inst_after == gone.instance).any()
            assert ((inst_after == here.instance) == new).all()
            assert series.objects[gone.instance] == series.objects[here.instance] == gone.object_id
            assert not np.isin(before[new], [building, 255, *schema.forbidden_ids]).any(), "only free ground is covered"
            others = ((inst_before > 0) & ~new) | ((inst_after > 0) & (inst_after != here.instance))
            assert not (dilate(new, GAP) & others).any()
            assert ndimage.label(new)[1] == 1
            assert here.placement is not None
            assert here.placement.exemplar.object_id == gone.object_id
            assert here.placement.exemplar.scene_id == scene.id
            assert here.placement.scale == 1
            # A turned raster has a rim of other pixels.
            assert abs(here.area_px - gone.area_px) <= 4 * gone.area_px**0.5


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), schema=st.sampled_from([BINARY, LAND, PROPOSALS]), mixed=st.booleans())
def test_every_swap_is_two_events_and_every_change_one(seed: int, schema: ClassSchema, mixed: bool) -> None:
    scene = random_scene(seed, BINARY if schema is PROPOSALS else schema)
    series = swapped(scene, schema, seed, kinds=("create", "remove", "swap") if mixed else ("swap",))
    check(scene, schema, series)
    assert mixed or {event.kind for event in series.events} <= {"swap"}
    again = swapped(scene, schema, seed, kinds=("create", "remove", "swap") if mixed else ("swap",))
    assert again.masks.tobytes() == series.masks.tobytes()
    assert [event.polygon for event in again.events] == [event.polygon for event in series.events]


def test_the_target_is_met_and_nothing_is_lost() -> None:
    scene = grid_scene()
    series = swapped(scene, BINARY, steps=3, change_area=(0.03, 0.04))
    check(scene, BINARY, series)
    assert all(report.met for report in series.reports)
    assert all(len(np.unique(instances)) == 17 for instances in series.instances), "sixteen buildings at every date"
    moved = [event.object_id for event in series.events[::2]]
    assert len(moved) == len(set(moved)) >= 5, "none moves twice: its new place would change again"


def test_swaps_take_turns_with_other_kinds() -> None:
    series = swapped(grid_scene(), BINARY, kinds=("remove", "swap"), steps=1, change_area=(0.05, 0.05))
    assert {event.kind for event in series.events} == {"remove", "swap"}
    assert series.reports[0].met


def test_what_is_damaged_stays() -> None:
    series = simulated(grid(256, 32, 12), ("damage", "swap"), area=0.1, steps=4)
    swaps = [event for event in series.events if event.kind == "swap"]
    hit = {event.object_id: event.time_index for event in series.events if event.kind == "damage"}
    assert hit and swaps
    assert all(event.from_class == 1 for event in swaps[::2])
    assert not [event for event in swaps if hit.get(event.object_id, 99) < event.time_index]


def test_uids_stay_with_the_object() -> None:
    scene = grid_scene()
    named = Scene("n", "g", scene.image, scene.mask, scene.instances, uids=tuple(f"uid-{n}" for n in range(1, 17)))
    series = swapped(named, BINARY)
    assert series.events and all(event.object_id.startswith("uid-") for event in series.events)


@pytest.mark.parametrize(
    ("library", "share", "says"),
    [
        ([], 0.05, "no whole building left to move"),
        ([block_exemplar(9, 12)], 0.05, "no whole building left to move"),
        (None, 0.0005, "fits the area asked for"),
    ],
)
def test_what_is_missing_is_said(library: list | None, share: float, says: str) -> None:
    scene = grid_scene()
    library = collect_exemplars(scene, BINARY) if library is None else library
    series = swapped(scene, BINARY, steps=1, library=library, change_area=(share, share))
    assert not series.events and says in series.reports[0].note


def test_without_free_ground_nothing_moves() -> None:
    scene = grid_scene()
    crowded = np.ones(scene.mask.shape, bool)
    series = swapped(scene, BINARY, steps=1, avoid=crowded)
    assert not series.events and "no free ground to move another building to" in series.reports[0].note


@pytest.mark.parametrize("value", [0, 1, 2, 255])
def test_one_class_masks_work(value: int) -> None:
    scene = Scene("one", "g", np.zeros((50, 70, 3), np.uint8), np.full((50, 70), value, np.uint8))
    assert not swapped(scene, LAND).events
