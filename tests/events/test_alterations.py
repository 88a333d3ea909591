"""Buildings are extended and partly torn down; what splits and merges is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.events.regions import dilate
from tests.events.test_events import BINARY, LAND, block_exemplar, grid_scene, logged_area, random_scene


def altered(
    scene: Scene, schema: ClassSchema = BINARY, seed: int = 0, steps: int = 3, area: float = 0.02
) -> MaskSeries:
    return simulate_series(
        scene,
        EventRules(schema, ("alter",), (area, area)),
        steps=steps,
        library=[*collect_exemplars(scene, schema), block_exemplar(9, 12), block_exemplar(14, 9)],
        rng_for_step=lambda t: derive_rng(seed, scene.id, t),
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), land=st.booleans())
def test_every_change_is_one_event_and_every_object_is_accounted_for(seed: int, land: bool) -> None:
    schema = LAND if land else BINARY
    scene = random_scene(seed, schema)
    series = altered(scene, schema, seed)
    alive = {int(n): None for n in np.unique(series.instances[0]) if n}
    touched = np.zeros(series.masks.shape[1:], dtype=bool)
    for t in range(3):
        before, after = series.masks[t], series.masks[t + 1]
        old, new = series.instances[t], series.instances[t + 1]
        covered = np.zeros(before.shape, dtype=np.int64)
        for event in (e for e in series.events if e.time_index == t):
            area = logged_area(event, after)
            covered += area
            own = new == event.instance
            if event.stage == "torn":
                assert (old[area] == event.instance).all()
                assert event.to_class in schema.ground_ids
                pieces = ndimage.label((old == event.instance) & (before == 1) & ~area)[1]
                assert len(event.split_into) == pieces - 1
                assert own.any()
            else:
                assert event.stage == "extended"
                assert event.placement is not None
                assert own[area].all()
                assert (dilate(area, 1) & (old == event.instance)).any()
                assert not np.isin(before[area], [1, 255, *schema.forbidden_ids]).any()
                others = (new > 0) & ~own
                assert not (dilate(area, 4) & others).any()
                joined = np.unique(old[own & (old > 0) & (old != event.instance)])
                assert len(joined) == len(event.merged_from)
                for number in joined:
                    assert not (new == number).any()
                    alive.pop(int(number))
        assert ((covered == 1) == (before != after)).all()
        assert covered.max(initial=0) <= 1
        assert not ((before != after) & touched).any()
        touched |= before != after
        split = sum(len(e.split_into) for e in series.events if e.time_index == t)
        now = {int(n) for n in np.unique(new) if n}
        assert len(now - set(alive)) == split
        assert set(alive) <= now
        alive = dict.fromkeys(now)
    assert set(np.unique(series.instances)) - {0} <= set(series.objects)
    assert len(set(series.objects.values())) == len(series.objects)
    assert {name for event in series.events for name in event.split_into} <= set(series.objects.values())


def bars(gap: int, length: int = 60) -> Scene:
    """Two long houses end to end."""
    instances = np.zeros((96, 2 * length + gap + 40), dtype=np.int32)
    instances[40:54, 20 : 20 + length] = 1
    instances[40:54, 20 + length + gap : 20 + 2 * length + gap] = 2
    image = np.zeros((*instances.shape, 3), dtype=np.uint8)
    return Scene("bars", "g", image, (instances > 0).astype(np.uint8), instances)


def test_a_house_torn_in_the_middle_becomes_two() -> None:
    events = [e for seed in range(30) for e in altered(bars(40), seed=seed, steps=1).events if e.split_into]
    assert events
    for event in events:
        assert event.split_into == (f"{event.object_id}/0-1",)


def test_a_gap_that_is_closed_makes_one_house_of_two() -> None:
    found = [e for seed in range(200) for e in altered(bars(10), seed=seed, steps=1, area=0.01).events if e.merged_from]
    assert found
    assert {(e.object_id, *e.merged_from) for e in found} <= {("obj00001", "obj00002"), ("obj00002", "obj00001")}


@pytest.mark.parametrize("value", [0, 1, 2, 255])
def test_one_class_masks_work(value: int) -> None:
    scene = Scene("one", "g", np.zeros((60, 90, 3), np.uint8), np.full((60, 90), value, np.uint8))
    series = altered(scene, LAND)
    assert all(report.met or report.note for report in series.reports)


def test_a_grid_of_houses_meets_its_area() -> None:
    series = [altered(grid_scene(0.2), seed=seed, steps=1, area=0.01) for seed in range(4)]
    assert all(report.met for one in series for report in one.reports)
    assert {event.stage for one in series for event in one.events} == {"torn", "extended"}
