"""Class transitions: every changed pixel is one event, the matrix is followed, unknown ground is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from changen_cli.core.errors import UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import TransitionTable, load_transitions, preset_names
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import EventRules, Transitions, collect_exemplars, resolve_transitions, simulate_series
from changen_cli.events.parcels import OpenGround
from changen_cli.events.regions import dilate

from .test_events import GAP, LAND, MIN_AREA, block_exemplar, fill, logged_area, random_scene

EVERY = frozenset(range(1, 6))
"""All classes of LAND but the unknown one: as if other scenes showed them."""


def matrix(rates: dict[str, dict[str, float]], schema: ClassSchema = LAND, growth: float = 0.5) -> Transitions:
    return resolve_transitions(TransitionTable(name="test", rates=rates, growth=growth), schema)


def run(scene: Scene, transitions: Transitions | None, seed: int = 0, **options: Any) -> MaskSeries:
    values: dict[str, Any] = {
        "schema": LAND,
        "kinds": ("transition",),
        "change_area": (0.02, 0.1),
        "min_area_px": MIN_AREA,
        "min_gap_px": GAP,
        "transitions": transitions,
        "drawable": EVERY,
    }
    rules = EventRules(**{**values, **{key: options.pop(key) for key in [*options] if key in values}})
    series: dict[str, Any] = {
        "steps": 3,
        "library": [*collect_exemplars(scene, LAND), block_exemplar(9, 12), block_exemplar(20, 30)],
        "rng_for_step": lambda t: derive_rng(seed, scene.id, 0, t, "events"),
    }
    return simulate_series(scene, rules, **{**series, **options})


def land(mask: np.ndarray, instances: np.ndarray | None = None) -> Scene:
    return Scene("s", "g", np.zeros((*mask.shape, 3), np.uint8), mask.astype(np.uint8), instances)


def check(scene: Scene, series: MaskSeries, transitions: Transitions, schema: ClassSchema = LAND) -> None:
    """Everything that must hold on any series with transitions."""
    touched = np.zeros(series.masks.shape[1:], dtype=bool)
    edges = {(of, move.to) for move in transitions.moves for of in move.over}
    ids = [event.object_id for event in series.events if event.kind == "transition"]
    assert len(ids) == len(set(ids))
    for t, report in enumerate(series.reports):
        before, after = series.masks[t], series.masks[t + 1]
        covered = np.zeros(before.shape, dtype=np.int64)
        reached: dict[tuple[int, int], int] = {}
        for event in (e for e in series.events if e.time_index == t):
            area = logged_area(event, after)
            covered += area
            if event.kind != "transition":
                continue
            pair = event.from_class, event.to_class
            reached[pair] = reached.get(pair, 0) + event.area_px
            assert transitions.rates[pair] > 0 or pair in edges
            assert event.from_areas_px == {event.from_class: event.area_px}
            if event.from_class == schema.building_id:
                assert (area == ((series.instances[t] == event.instance) & (before == event.from_class))).all()
            else:
                assert ndimage.label(area)[1] == 1
                assert not series.instances[t][area].any()
            if event.to_class == schema.building_id:
                assert ((series.instances[t + 1] == event.instance) == area).all()
                others = (before == event.to_class) | (after == event.to_class)
                assert not (dilate(area, GAP) & others & ~area).any()
        changed = before != after
        assert (covered == changed).all()
        assert not (changed & touched).any()  # no pixel changes twice
        touched |= changed
        assert ((before == 255) == (after == 255)).all()
        assert not (changed & np.isin(before, schema.unknown_ids)).any()
        assert not (changed & np.isin(after, schema.unknown_ids)).any()
        assert report.reached == pytest.approx(changed.mean())
        assert report.met == (abs(report.reached - report.asked) <= 0.2 * report.asked)
        assert report.met or report.note
        told = {(r.from_class, r.to_class): r.reached_px for r in report.transitions if r.reached_px}
        assert told == reached


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    preset=st.sampled_from(preset_names()),
    kinds=st.sampled_from([("transition",), ("create", "transition"), ("create", "remove", "transition")]),
)
def test_every_change_is_one_event(seed: int, preset: str, kinds: tuple[str, ...]) -> None:
    schema = (
        LAND if preset != "deforestation" else ClassSchema(("unknown", "building", "land", "road", "tree", "water"))
    )
    scene = random_scene(seed, LAND)
    scene.mask[:7, :20] = 0  # a class named unknown that the source did not rewrite
    transitions = resolve_transitions(load_transitions(preset), schema)
    series = run(scene, transitions, seed, kinds=kinds, schema=schema)
    check(scene, series, transitions, schema)
    assert {event.kind for event in series.events} <= set(kinds)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_same_seed_same_bytes_whatever_ran_before(seed: int) -> None:
    scene, transitions = random_scene(seed), resolve_transitions(load_transitions("openearthmap"), LAND)
    first = run(scene, transitions, seed)
    np.random.seed(seed % 1000)  # noqa: NPY002
    run(random_scene(seed + 1), transitions, seed + 1)
    second = run(scene, transitions, seed)
    assert first.masks.tobytes() == second.masks.tobytes()
    assert [e.polygon for e in first.events] == [e.polygon for e in second.events]
    assert first.reports == second.reports
    assert run(scene, transitions, seed, steps=1).masks.tobytes() == first.masks[:2].tobytes()


def test_rows_are_followed() -> None:
    """Equal squares, one of which changes per draw: pairs happen as often as the matrix says."""
    mask = np.full((200, 200), 255)
    for index, (row, col) in enumerate(np.ndindex(10, 10)):
        mask[20 * row : 20 * row + 12, 20 * col : 20 * col + 12] = (2, 4)[index % 2]
    rates = {"land": {"vegetation": 0.35, "water": 0.25}, "vegetation": {"land": 0.3, "water": 0.1}}
    transitions = matrix(rates)
    counts: dict[tuple[int, int], int] = {}
    draws = 1500
    share = 144 / mask.size
    for seed in range(draws):
        series = run(land(mask), transitions, seed, steps=1, change_area=(share, share), min_area_px=100)
        (event,) = series.events
        assert event.area_px >= 100
        counts[event.from_class, event.to_class] = counts.get((event.from_class, event.to_class), 0) + 1
    pairs = [(2, 4), (2, 5), (4, 2), (4, 5)]
    expected = np.array([0.35, 0.25, 0.3, 0.1]) * draws
    assert stats.chisquare([counts.get(pair, 0) for pair in pairs], expected).pvalue > 1e-3


def test_areas_come_near_the_matrix() -> None:
    mask = np.full((200, 200), 2)
    mask[:, 100:] = 4
    mask[:30, :30] = 5
    transitions = matrix({"land": {"vegetation": 0.2, "water": 0.1}, "vegetation": {"land": 0.1}})
    asked, reached = np.zeros(3), np.zeros(3)
    for seed in range(40):
        (report,) = run(land(mask), transitions, seed, steps=1, change_area=(0.2, 0.2)).reports
        assert report.met
        asked += [pair.asked_px for pair in report.transitions]
        reached += [pair.reached_px for pair in report.transitions]
    assert reached == pytest.approx(asked, rel=0.12)


def test_rare_classes_are_asked_for_more_when_boosted() -> None:
    """A lake of 4 % of the tile: of equal rates it gets its share of the area, or as much as the meadow."""
    mask = np.full((200, 200), 2)
    mask[:, 100:] = 4
    mask[:40, :40] = 5
    rates = {"land": {"vegetation": 0.1}, "vegetation": {"land": 0.1}, "water": {"land": 0.1}}
    asked, reached = {}, {}
    for boost in (0.0, 0.5, 1.0):
        transitions = resolve_transitions(load_transitions({"rates": rates, "boost": boost}), LAND)
        asked[boost], reached[boost] = 0.0, 0.0
        for seed in range(20):
            (report,) = run(land(mask), transitions, seed, steps=1, change_area=(0.05, 0.05)).reports
            assert report.met
            assert sum(pair.asked_px for pair in report.transitions) == pytest.approx(0.05 * mask.size, rel=1e-3)
            (lake,) = [pair for pair in report.transitions if pair.from_class == 5]
            asked[boost] += lake.asked_px / (20 * 0.05 * mask.size)
            reached[boost] += lake.reached_px / (20 * 0.05 * mask.size)
    sizes = {2: 20000 - 1600, 4: 20000, 5: 1600}
    for boost, share in asked.items():
        # Land and vegetation are raised by the rarer of the two, land; the lake by itself.
        weights = (sizes[2] + sizes[4]) * sizes[2] ** -boost, sizes[5] * sizes[5] ** -boost
        assert share == pytest.approx(weights[1] / sum(weights), rel=1e-3)
    assert reached[0.0] < 0.12 < reached[0.5] < reached[1.0]


def test_rate_zero_changes_nothing_and_255_is_never_touched() -> None:
    mask = np.full((100, 100), 2)
    mask[:50] = 4
    mask[40:60, 40:60] = 255
    series = run(land(mask), matrix({"land": {"vegetation": 0.5, "water": 0.0}, "vegetation": {"land": 0.0}}))
    assert {(e.from_class, e.to_class) for e in series.events} == {(2, 4)}
    with pytest.raises(UsageError, match="none of them"):
        matrix({"land": {"vegetation": 0.0}})


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 5, 255])
def test_one_class_masks_work(value: int) -> None:
    scene = land(np.full((50, 70), value))
    transitions = resolve_transitions(load_transitions("openearthmap"), LAND)
    series = run(scene, transitions)
    check(scene, series, transitions)
    if value in (0, 255):
        assert not series.events
        assert not any(report.met for report in series.reports)


def test_the_area_is_met_where_it_can_be() -> None:
    """Thirty-two tiles of ordinary ground, one to ten per cent: all steps are met, by events of many sizes."""
    transitions = resolve_transitions(load_transitions("openearthmap"), LAND)
    reports, areas = [], []
    for seed in range(32):
        scene = random_scene(seed)
        if min(scene.mask.shape) < 100 or np.isin(scene.mask, (2, 4)).mean() < 0.6:
            continue
        series = run(scene, transitions, seed)
        reports += series.reports
        areas += [event.area_px for event in series.events]
    assert len(reports) > 20
    assert np.mean([report.met for report in reports]) > 0.9
    assert max(areas) > 4 * MIN_AREA


def test_small_regions_go_as_a_whole_and_large_ones_in_part() -> None:
    mask = np.full((300, 300), 3)
    mask[100:110, 100:110] = 4  # a garden
    series = run(land(mask), matrix({"vegetation": {"land": 0.5}}), steps=1, change_area=(0.01, 0.01))
    (event,) = series.events
    assert event.area_px == 100
    mask[:] = 4
    series = run(land(mask), matrix({"vegetation": {"land": 0.5}}, growth=0.0), steps=1, change_area=(0.02, 0.02))
    assert series.reports[0].met
    assert len(series.events) > 2


@pytest.mark.parametrize("gsd_m", [0.5, 1.0, None])
def test_parts_have_the_sizes_of_the_matrix(gsd_m: float | None) -> None:
    """Sizes in square metres are followed at any resolution, and the target is met by as many parts as it takes."""
    table = {"rates": {"vegetation": {"land": 0.1}}, "growth": 0, "sizes_m2": {"median": 60, "spread": 1.3}}
    transitions = resolve_transitions(load_transitions(table), LAND)
    scene = replace(land(np.full((300, 300), 4)), gsd_m=gsd_m)
    areas = [
        event.area_px * (gsd_m or 0.5) ** 2
        for seed in range(4)
        for event in run(scene, transitions, seed, steps=1, change_area=(0.04, 0.04), min_area_px=20).events
    ]
    assert len(areas) > 40
    assert np.median(areas) == pytest.approx(60, rel=0.12)
    assert np.exp(np.std(np.log(areas))) == pytest.approx(1.3, rel=0.15)
    report = run(scene, transitions, steps=1, change_area=(0.04, 0.04)).reports[0]
    assert report.met and ("0.5 m" in report.note) == (gsd_m is None)


def test_growth_begins_at_the_border() -> None:
    mask = np.full((200, 200), 2)
    mask[:, :40] = 5
    water = mask == 5
    for growth, beside in ((1.0, True), (0.0, False)):
        transitions = matrix({"land": {"water": 0.3}}, growth=growth)
        series = run(land(mask), transitions, steps=1, change_area=(0.02, 0.02))
        touching = [(dilate(fill(e.polygon, mask.shape), 1) & water).any() for e in series.events]
        assert all(touching) if beside else not all(touching)


def test_parts_have_the_area_asked_for() -> None:
    ground = OpenGround(np.full((200, 200), 2, np.uint8), np.zeros((200, 200), dtype=bool))
    for shape in ("parcel", "patch", "strip"):
        box, part = ground.cut((100, 100), 900, (64, 2000), shape, derive_rng(0, shape))
        assert part.sum() == pytest.approx(900, rel=0.06)
        assert ndimage.label(part)[1] == 1
        assert part[100 - box[0], 100 - box[1]]
        long, short = sorted(part.shape)[::-1]
        assert shape == "strip" or long < 3 * short


def test_classes_nobody_shows_are_no_target() -> None:
    transitions = matrix({"land": {"water": 0.5, "vegetation": 0.5}})
    mask = np.full((200, 200), 2)
    mask[:40, :40] = 4
    series = run(land(mask), transitions, drawable=())
    assert {event.to_class for event in series.events} == {4}
    dry = run(land(np.full((200, 200), 2)), transitions, drawable=())
    assert not dry.events
    assert "nothing shows vegetation, water to draw it from" in dry.reports[0].note


def test_instances_change_as_a_whole() -> None:
    instances = np.zeros((120, 120), dtype=np.int32)
    instances[20:32, 20:30], instances[20:32, 30:40], instances[60:80, 60:80] = 1, 2, 3
    mask = np.where(instances > 0, 1, 2)
    mask[66:70, 66:70] = 4  # a tree above the third building
    scene = land(mask, instances)
    transitions = matrix({"building": {"land": 0.5}, "vegetation": {"land": 0.5}})
    series = run(scene, transitions, steps=1, change_area=(0.05, 0.05))
    check(scene, series, transitions)
    assert series.events
    assert {event.instance for event in series.events} <= {1, 2, 3}
    assert (series.masks[1][66:70, 66:70] == 4).all()


def test_names_are_matched_by_what_they_mean() -> None:
    schema = ClassSchema(("Houses", "bare soil", "sand", "forest", "unlabelled", "snow"))
    found = matrix({"tree": {"bareland": 0.2, "building": 0.1}, "bareland": {"snow": 0.3}}, schema)
    assert {(int(a), int(b)): float(found.rates[a, b]) for a, b in np.argwhere(found.rates)} == pytest.approx(
        {(3, 1): 0.1, (3, 2): 0.1, (3, 0): 0.1, (1, 5): 0.3, (2, 5): 0.3}
    )
    assert matrix({"forest": {"soil": 0.2}}, ClassSchema(("tree", "bareland"))).rates[0, 1] == 0.2
    with pytest.raises(UsageError, match=r"unknown class vegetaton \(did you mean vegetation\?\)"):
        matrix({"vegetaton": {"land": 0.1}})
    with pytest.raises(UsageError, match="none of them is between classes"):
        matrix({"tree": {"agriculture": 0.1}}, ClassSchema(("water", "building")))


def test_seeds_with_room() -> None:
    mask = np.full((90, 120), 4, np.uint8)
    mask[30:71, 40:81] = 2
    mask[2, 2] = 2
    ground = OpenGround(mask, np.zeros(mask.shape, dtype=bool))
    for number in range(20):
        row, col = ground.seed(2, None, derive_rng(number, "roomy"), room_px=15)
        assert 45 <= row <= 55 and 55 <= col <= 65
    assert ground.seed(2, None, derive_rng(0, "none"), room_px=25) is None
