"""Damage: states only worsen, every change is one event, disasters have a shape, rebuilding restores date 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changen_cli.core.damage import Disaster
from changen_cli.core.errors import UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import TransitionTable
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import Damage, EventRules, collect_exemplars, resolve_transitions, simulate_series
from changen_cli.events.laying import warp_footprint

from .test_events import BINARY, GAP, LAND, MIN_AREA, block_exemplar, logged_area, random_scene

DISASTERS: tuple[Disaster, ...] = get_args(Disaster)
XBD, LAND_DAMAGE = BINARY.with_damage(), LAND.with_damage()


def run(
    scene: Scene, schema: ClassSchema = XBD, seed: int = 0, plan: Damage | None = None, **options: Any
) -> MaskSeries:
    values: dict[str, Any] = {
        "kinds": ("damage",),
        "change_area": (0.02, 0.1),
        "min_area_px": MIN_AREA,
        "min_gap_px": GAP,
        "damage": plan or Damage(),
        "transitions": None,
        "drawable": frozenset(range(1, 6)),
    }
    values |= {key: options.pop(key) for key in [*options] if key in values}
    builds = {"create", "transition"} & set(values["kinds"])
    series: dict[str, Any] = {
        "steps": 3,
        "library": [*collect_exemplars(scene, schema), block_exemplar(9, 12)] if builds else [],
        "rng_for_step": lambda t: derive_rng(seed, scene.id, 0, t, "events"),
    }
    return simulate_series(scene, EventRules(schema, **values), **{**series, **options})


def levels_of(mask: np.ndarray, schema: ClassSchema) -> np.ndarray:
    """-1 no building, 0 no damage to 3 destroyed."""
    table = np.full(256, -1)
    table[list(schema.damage_ids)] = range(4)
    return table[mask]


def check(scene: Scene, schema: ClassSchema, series: MaskSeries, plan: Damage) -> None:
    """Everything that must hold on any series with damage."""
    changed_by = np.zeros(scene.mask.shape, dtype=np.int64)
    names: dict[int, str] = {}
    rebuilt: set[int] = set()
    created: set[int] = set()
    for t, report in enumerate(series.reports):
        before, after = series.masks[t], series.masks[t + 1]
        worse = levels_of(after, schema) - levels_of(before, schema)
        covered = np.zeros(before.shape, dtype=np.int64)
        for event in (e for e in series.events if e.time_index == t):
            area = logged_area(event, after)
            covered += area
            # A pixel that changes again changes with the object it belongs to.
            assert np.isin(changed_by[area], (0, event.instance)).all()
            changed_by[area] = event.instance or -1
            if event.instance:
                assert names.setdefault(event.instance, event.object_id) == event.object_id
            if event.kind != "damage":
                created |= {event.instance} if event.kind == "create" else set()
                continue
            assert event.instance not in created | rebuilt
            assert (area == ((series.instances[t] == event.instance) & (levels_of(before, schema) >= 0))).all()
            assert ((series.instances[t + 1] == event.instance) == (series.instances[t] == event.instance)).all()
            if event.to_class == schema.building_id:
                assert plan.rebuild and event.placement is not None
                assert (levels_of(series.masks[0], schema)[area] == 0).all()
                assert (warp_footprint(event.placement, (0, 0, *area.shape)) == area).all()
                rebuilt.add(event.instance)
            else:
                assert (worse[area] > 0).all()
                assert not plan.label_safe or event.to_class == schema.damage_ids[3]
        changed = before != after
        assert (covered == changed).all()
        assert ((before == 255) == (after == 255)).all()
        assert report.reached == pytest.approx(changed.mean())
        assert report.met == (abs(report.reached - report.asked) <= 0.2 * report.asked)
        assert report.met or report.note


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    binary=st.booleans(),
    disaster=st.sampled_from(DISASTERS),
    label_safe=st.booleans(),
    rebuild=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
    more=st.sampled_from([(), (), ("remove",), ("create", "remove"), ("transition",), ("create", "transition")]),
)
def test_every_change_is_one_event(
    seed: int, binary: bool, disaster: Disaster, label_safe: bool, rebuild: float, more: tuple[str, ...]
) -> None:
    schema = XBD if binary else LAND_DAMAGE
    scene = random_scene(seed, BINARY if binary else LAND)
    plan = Damage(disaster, rebuild, label_safe)
    rates = {"background": {"building": 0.1}} if binary else {"building": {"land": 0.1}, "destroyed": {"land": 0.2}}
    table = resolve_transitions(TransitionTable(name="t", rates=rates), schema) if "transition" in more else None
    series = run(scene, schema, seed, plan, kinds=("damage", *more), transitions=table)
    check(scene, schema, series, plan)
    assert {event.kind for event in series.events} <= {"damage", *more}
    pairs = {(event.from_class, event.to_class) for event in series.events if event.kind == "transition"}
    assert table is None or all(table.rates[pair] for pair in pairs)
    if not more and not rebuild:
        assert (np.diff(levels_of(series.masks, schema), axis=0) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), disaster=st.sampled_from(DISASTERS))
def test_same_seed_same_bytes_and_a_shorter_series_is_its_beginning(seed: int, disaster: Disaster) -> None:
    scene, plan = random_scene(seed), Damage(disaster, 0.3)
    first = run(scene, LAND_DAMAGE, seed, plan)
    np.random.seed(seed % 1000)  # noqa: NPY002
    run(random_scene(seed + 1), LAND_DAMAGE, seed + 1, plan)
    second = run(scene, LAND_DAMAGE, seed, plan)
    assert first.masks.tobytes() == second.masks.tobytes()
    assert [e.polygon for e in first.events] == [e.polygon for e in second.events]
    assert first.reports == second.reports
    assert run(scene, LAND_DAMAGE, seed, plan, steps=1).masks.tobytes() == first.masks[:2].tobytes()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), label_safe=st.booleans())
def test_states_the_source_shows_only_worsen(seed: int, label_safe: bool) -> None:
    """Masks that hold all states at date 0, even several in one instance."""
    scene = random_scene(seed, BINARY)
    rng = derive_rng(seed, "states")
    mask = np.where(scene.mask == 1, rng.integers(1, 5, 1 + scene.instances.max())[scene.instances], scene.mask)
    mask[:, ::17] = np.where(mask[:, ::17] == 1, 3, mask[:, ::17])
    scene = replace(scene, mask=mask.astype(np.uint8))
    plan = Damage("earthquake", 1.0, label_safe)
    series = run(scene, XBD, seed, plan)
    check(scene, XBD, series, plan)


def town(count: int = 16, cell: int = 20, kept: float = 1.0) -> Scene:
    """``count`` x ``count`` equal buildings of 100 px, some left out."""
    instances = np.zeros((count * cell, count * cell), dtype=np.int32)
    rng = derive_rng(0, "town")
    for number, (row, col) in enumerate(np.ndindex(count, count), start=1):
        if rng.random() < kept:
            top, left = cell * row + 5, cell * col + 5
            instances[top : top + 10, left : left + 10] = number
    image = np.zeros((*instances.shape, 3), dtype=np.uint8)
    return Scene("town", "g", image, (instances > 0).astype(np.uint8), instances)


def states(series: MaskSeries, date: int, count: int = 16, cell: int = 20) -> np.ndarray:
    """The states of all buildings of the town, ``[count, count]``."""
    return levels_of(series.masks[date], XBD)[10::cell, 10::cell].reshape(count, count)


def morans_i(values: np.ndarray) -> float:
    """Spatial autocorrelation between neighbours along rows and columns; about 0 for shuffled values."""
    deviation = values - values.mean()
    pairs = (deviation[1:] * deviation[:-1]).mean() + (deviation[:, 1:] * deviation[:, :-1]).mean()
    return float(pairs / 2 / (deviation**2).mean())


@pytest.mark.parametrize("disaster", DISASTERS)
def test_neighbours_share_their_fate(disaster: Disaster) -> None:
    found, shuffled = [], []
    rng = derive_rng(0, "shuffle")
    for seed in range(12):
        values = states(run(town(), seed=seed, plan=Damage(disaster), steps=1, change_area=(0.06, 0.06)), 1)
        found.append(morans_i(values))
        shuffled += [morans_i(rng.permutation(values.ravel()).reshape(values.shape)) for _ in range(40)]
    assert np.mean(found) > 0.35
    assert np.min(found) > np.quantile(shuffled, 0.95)


def test_disasters_leave_their_own_mixture() -> None:
    shares = {}
    for disaster in DISASTERS:
        counts = np.zeros(4)
        for seed in range(8):
            values = states(run(town(), seed=seed, plan=Damage(disaster), steps=2, change_area=(0.05, 0.05)), 2)
            counts += np.bincount(values.ravel(), minlength=4)
        shares[disaster] = counts[1:] / counts[1:].sum()
    assert shares["fire"][2] > 0.7
    assert shares["flood"][2] < 0.2
    for disaster in ("wind", "earthquake"):
        assert (shares[disaster] > 0.1).all()


def test_a_flood_comes_from_the_water_and_a_storm_keeps_to_its_track() -> None:
    schema = ClassSchema(("land", "building", "water")).with_damage()
    scene = town()
    scene.mask[:, :4] = 2
    for seed in range(8):
        series = run(scene, schema, seed, Damage("flood"), change_area=(0.05, 0.05))
        for date in (1, 2, 3):
            hit = levels_of(series.masks[date], schema)[10::20, 10::20] > 0
            cols = np.nonzero(hit)[1]
            assert cols.mean() < np.nonzero(~hit)[1].mean() - 2
    ratios = []
    for seed in range(8):
        hit = np.argwhere(states(run(town(), seed=seed, steps=1, change_area=(0.04, 0.04)), 1) > 0)
        spread = np.linalg.eigvalsh(np.cov(hit.T))
        ratios.append(spread[1] / spread[0])
    assert np.median(ratios) > 3, "longer than wide"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), disaster=st.sampled_from(DISASTERS), label_safe=st.booleans())
def test_the_area_is_met_where_buildings_suffice(seed: int, disaster: Disaster, label_safe: bool) -> None:
    """Buildings of 100 px cover a quarter of the tile; three steps take 15 % at most."""
    series = run(town(), seed=seed, plan=Damage(disaster, 0.0, label_safe), change_area=(0.01, 0.05))
    assert all(report.met for report in series.reports)
    assert np.mean([report.reached / report.asked for report in series.reports]) == pytest.approx(1, abs=0.1)


def test_what_cannot_be_met_is_told() -> None:
    (report,) = run(town(), steps=1, change_area=(1e-4, 1e-4)).reports
    assert (report.reached, report.met) == (0.0, False)
    assert report.note == "none of the 256 buildings left to damage fits the area asked for"
    reports = run(town(4), steps=2, plan=Damage(label_safe=True), change_area=(0.5, 0.5)).reports
    assert reports[0].reached == 0.25, "all of them, destroyed"
    assert (reports[1].reached, reports[1].note) == (0.0, "no building left to damage (16 present)")
    small = replace(town(), mask=np.where(np.arange(320)[:, None] % 20 < 8, town().mask, 0).astype(np.uint8))
    assert not run(small).events, "no event is smaller than 64 px"


@pytest.mark.parametrize("value", [0, 1, 2, 3, 5, 255])
@pytest.mark.parametrize("disaster", DISASTERS)
def test_one_class_masks_work(value: int, disaster: Disaster) -> None:
    scene = Scene("one", "g", np.zeros((50, 70, 3), np.uint8), np.full((50, 70), value, np.uint8))
    series = run(scene, LAND_DAMAGE, plan=Damage(disaster, 0.5))
    check(scene, LAND_DAMAGE, series, Damage(disaster, 0.5))


def test_a_rebuilt_building_is_that_of_date_0_and_is_not_hit_again() -> None:
    scene = town(8)
    scene.image[...] = derive_rng(0, "image").integers(0, 256, scene.image.shape)
    plan = Damage("fire", 1.0, label_safe=True)
    series = run(scene, plan=plan, steps=6, change_area=(0.05, 0.05))
    check(scene, XBD, series, plan)
    back = [event for event in series.events if event.to_class == 1]
    assert len(back) > 8
    for event in back:
        exemplar = event.placement.exemplar
        rows, cols = slice(exemplar.box[0], exemplar.box[2]), slice(exemplar.box[1], exemplar.box[3])
        assert (exemplar.image == scene.image[rows, cols]).all()
        assert (exemplar.footprint == (scene.instances[rows, cols] == event.instance)).all()
        assert (exemplar.others == ((scene.mask[rows, cols] == 1) & ~exemplar.footprint)).all()


def test_damaged_buildings_are_built_around_and_may_be_cleared() -> None:
    series = run(town(10), kinds=("damage", "create", "remove"), steps=6, change_area=(0.1, 0.1))
    removed = [event for event in series.events if event.kind == "remove"]
    assert {event.from_class for event in removed} > {1}, "damaged ones, too"
    assert all(event.to_class == 1 for event in series.events if event.kind == "create")


def test_requests_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="with_damage"):
        EventRules(BINARY, ("damage",), damage=Damage())
    with pytest.raises(UsageError, match="no disaster"):
        EventRules(XBD, ("damage",))
    table = TransitionTable(name="t", rates={"background": {"destroyed": 0.1}})
    with pytest.raises(UsageError, match="nothing becomes destroyed by a rate"):
        resolve_transitions(table, XBD)
    houses = resolve_transitions(TransitionTable(name="t", rates={"building": {"background": 0.1}}), XBD)
    assert np.argwhere(houses.rates).tolist() == [[1, 0]], "a building without damage is meant"
