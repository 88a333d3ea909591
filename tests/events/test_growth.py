"""Neighbourhoods grow in rows, site by site and stage by stage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ChangeEvent, ClassSchema, MaskSeries, Scene
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.events.laying import fold
from changen_cli.events.regions import dilate, oriented_extent
from tests.events.test_events import BINARY, LAND, block_exemplar, grid_scene, logged_area, random_scene

COVER = ClassSchema(("background", "building", "bareland", "developed", "tree", "road", "water"))


def grown(scene: Scene, schema: ClassSchema, seed: int = 0, area: float = 0.03, **options: Any) -> MaskSeries:
    series: dict[str, Any] = {
        "steps": 4,
        "library": [*collect_exemplars(scene, schema), block_exemplar(9, 12), block_exemplar(16, 20)],
        "rng_for_step": lambda t: derive_rng(seed, scene.id, t),
    }
    return simulate_series(
        scene, EventRules(schema, ("grow",), (area, area), drawable=frozenset(range(9))), **{**series, **options}
    )


def forest(seed: int = 0) -> Scene:
    """A few houses in a wood with a road."""
    scene = grid_scene(0.1 * (seed % 5))
    assert scene.mask is not None
    mask = np.where(scene.mask == 1, np.uint8(1), np.uint8(4))
    mask[:, 240:246] = 5
    mask[scene.mask.shape[0] - 30 :, :] = 4
    return Scene(f"forest{seed}", "g", scene.image, mask, scene.instances)


def stages_of(series: MaskSeries) -> dict[str, list[ChangeEvent]]:
    found: dict[str, list[ChangeEvent]] = {}
    for event in series.events:
        found.setdefault(event.object_id, []).append(event)
    return found


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), land=st.booleans())
def test_every_change_is_one_event_of_a_site(seed: int, land: bool) -> None:
    schema = LAND if land else BINARY
    scene = random_scene(seed, schema)
    series = grown(scene, schema, seed)
    owner: dict[tuple[int, int], str] = {}
    for t in range(4):
        before, after = series.masks[t], series.masks[t + 1]
        covered = np.zeros(before.shape, dtype=np.int64)
        for event in (e for e in series.events if e.time_index == t):
            area = logged_area(event, after)
            covered += area
            assert event.kind == "grow"
            assert event.stage in ("cleared", "foundation", "roof")
            assert not np.isin(before[area], [1, 255, *schema.forbidden_ids]).any()
            # A pixel changes again only as part of the same site.
            for pixel in zip(*np.nonzero(area), strict=True):
                assert owner.setdefault(pixel, event.object_id) == event.object_id
            if event.stage == "roof":
                assert event.placement is not None
                assert ((series.instances[t + 1] == event.instance) == area).all()
                others = (series.instances[t + 1] > 0) & ~area
                assert not (dilate(area, 4) & others).any()
        assert ((covered == 1) == (before != after)).all()
        assert covered.max(initial=0) <= 1


def test_a_site_is_cleared_then_founded_then_roofed() -> None:
    series = grown(forest(), COVER)
    order = {"cleared": 0, "foundation": 1, "roof": 2}
    seen = set()
    for events in stages_of(series).values():
        steps = [event.time_index for event in events]
        names = [order[event.stage] for event in events]
        assert steps == sorted(set(steps))  # one stage per step, never two
        assert names == sorted(set(names))
        assert len({event.instance for event in events} - {0}) <= 1
        for event in events:
            assert event.to_class == {"cleared": 2, "foundation": 3, "roof": 1}[event.stage]
        if len(events) > 1:
            cleared, later = (logged_area(e, series.masks[e.time_index + 1]) for e in (events[0], events[-1]))
            assert (later <= cleared).all()  # the building stands on its plot
        seen.add(tuple(event.stage for event in events))
    assert ("cleared", "foundation", "roof") in seen
    assert ("roof",) in seen  # built within one step


def test_stages_the_masks_cannot_show_are_passed_over() -> None:
    series = grown(random_scene(3, BINARY), BINARY, 3)
    assert series.events
    assert {event.stage for event in series.events} == {"roof"}
    on_land = grown(forest(), ClassSchema(("background", "building", "bareland", "x", "tree", "road", "y")))
    assert {event.stage for event in on_land.events} == {"cleared", "roof"}


def test_rows_follow_the_direction_and_stay_near_roads() -> None:
    scene = forest(2)  # turned by 0.2
    series = grown(scene, COVER, steps=4, area=0.04)
    assert scene.mask is not None
    to_road = ndimage.distance_transform_edt(scene.mask != 5)
    farthest = max(to_road[scene.instances == number].min() for number in range(1, 17))
    roofs = [event for event in series.events if event.stage == "roof"]
    assert len(roofs) >= 8
    for event in roofs:
        area = logged_area(event, series.masks[event.time_index + 1])
        assert abs(fold(oriented_extent(area)[0] - 0.2)) < 0.2
        assert to_road[area].min() <= farthest + 2 * math.sqrt(event.area_px)


@pytest.mark.parametrize("value", [0, 1, 2, 255])
def test_one_class_masks_work(value: int) -> None:
    scene = Scene("one", "g", np.zeros((60, 90, 3), np.uint8), np.full((60, 90), value, np.uint8))
    series = grown(scene, LAND)
    assert (series.masks[0] == value).all()
    assert bool(series.events) == (value == 2)
    assert all(report.met or report.note for report in series.reports)


def test_same_seed_same_bytes_and_a_shorter_series_is_the_beginning() -> None:
    first, second = grown(forest(), COVER), grown(forest(), COVER)
    assert first.masks.tobytes() == second.masks.tobytes()
    assert grown(forest(), COVER, steps=2).masks.tobytes() == first.masks[:3].tobytes()
