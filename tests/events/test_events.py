"""Properties of event simulation that must hold on any mask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from scipy import ndimage

from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ChangeEvent, ClassSchema, Exemplar, MaskSeries, Scene
from changen_cli.events import (
    EventRules,
    collect_exemplars,
    measure_objects,
    polygon_wkt,
    simulate_series,
    simulate_step,
    start_series,
    stock_library,
)
from changen_cli.events.laying import fold, place, warp_footprint
from changen_cli.events.regions import dilate, oriented_extent

LAND = ClassSchema(("unknown", "building", "land", "road", "vegetation", "water"))
BINARY = ClassSchema()
SHARED = Path(__file__).parents[2].parent / "shared"
MIN_AREA, GAP = 64, 4


def fill(wkt: str, shape: tuple[int, int]) -> np.ndarray:
    """Rasterise a WKT polygon, pixel centres."""
    body = wkt.removeprefix("MULTIPOLYGON ") if wkt.startswith("MULTI") else f"({wkt.removeprefix('POLYGON ')})"
    nested = re.sub(r"(-?\d+) (-?\d+)", r"[\1,\2]", body).replace("(", "[").replace(")", "]")
    geometry = {"type": "MultiPolygon", "coordinates": json.loads(nested)}
    return rasterize([geometry], out_shape=shape, dtype="uint8").astype(bool)


def logged_area(event: ChangeEvent, after: np.ndarray) -> np.ndarray:
    """The pixels of an event's polygon, which its box, areas and class must agree with; bool ``[H, W]``."""
    area = fill(event.polygon, after.shape)
    rows, cols = np.nonzero(area)
    assert event.bbox == (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
    assert event.area_px == area.sum() == sum(event.from_areas_px.values()) >= MIN_AREA
    assert (after[area] == event.to_class).all()
    return area


def random_scene(seed: int, schema: ClassSchema = LAND, *, objects: int | None = None, name: str = "s") -> Scene:
    """A tile with random ground, roads, unknown patches and turned rectangles, some touching or overlapping."""
    rng = derive_rng(seed, "scene")
    height, width = (int(v) for v in rng.integers(48, 200, 2))
    mask = np.full((height, width), 0 if schema is BINARY else 2, dtype=np.uint8)
    rows, cols = np.mgrid[:height, :width]
    if schema is LAND:
        for _ in range(int(rng.integers(0, 4))):
            r, c, h, w = rng.integers(0, [height, width, height, width])
            mask[r : r + h // 2, c : c + w // 2] = rng.choice([2, 3, 4, 5, 255])
        mask[:, int(rng.integers(width)) :][:, :6] = 3
    instances = np.zeros((height, width), dtype=np.int32)
    count = int(rng.integers(0, 14)) if objects is None else objects
    for number in range(1, count + 1):
        row, col = rng.uniform(0, [height, width])
        angle, a, b = rng.uniform(0, np.pi), rng.uniform(0.4, 14), rng.uniform(0.4, 14)
        along = (cols - col) * np.cos(angle) - (rows - row) * np.sin(angle)
        across = (cols - col) * np.sin(angle) + (rows - row) * np.cos(angle)
        inside = (abs(along) <= a) & (abs(across) <= b) & (instances == 0)
        instances[inside] = number
        mask[inside] = 1
    for _ in range(int(rng.integers(0, 3))):  # unknown patches lie over objects too
        r, c = rng.integers(0, [height, width])
        mask[r : r + 9, c : c + 14] = 255
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    uids = tuple(f"uid-{n}" for n in range(1, count + 1)) if seed % 2 else ()
    return Scene(id=name, group="g", image=image, mask=mask, instances=instances, uids=uids)


def block_exemplar(height: int, width: int, scene_id: str = "other", gsd_m: float | None = None) -> Exemplar:
    footprint = np.zeros((height + 8, width + 8), dtype=bool)
    footprint[4:-4, 4:-4] = True
    blank = np.zeros((*footprint.shape, 3), dtype=np.uint8)
    return Exemplar(scene_id, "x", (0, 0, *footprint.shape), blank, footprint, np.zeros_like(footprint), 0.0, gsd_m)


def run(scene: Scene, schema: ClassSchema, seed: int = 0, **options: Any) -> MaskSeries:
    values: dict[str, Any] = {"change_area": (0.01, 0.1), "min_area_px": MIN_AREA, "min_gap_px": GAP}
    values |= {key: options.pop(key) for key in [*options] if key in (*values, "kinds")}
    series: dict[str, Any] = {
        "steps": 3,
        "library": [*collect_exemplars(scene, schema), block_exemplar(9, 12), block_exemplar(20, 30)],
        "rng_for_step": lambda t: derive_rng(seed, scene.id, 0, t, "events"),
    }
    return simulate_series(scene, EventRules(schema, **values), **{**series, **options})


def check(scene: Scene, schema: ClassSchema, series: MaskSeries) -> None:
    """Everything that must hold on any series."""
    building = schema.building_id
    created: dict[int, str] = {}
    touched = np.zeros(series.masks.shape[1:], dtype=bool)
    names: dict[int, str] = {}
    for t, report in enumerate(series.reports):
        before, after = series.masks[t], series.masks[t + 1]
        inst_before, inst_after = series.instances[t], series.instances[t + 1]
        covered = np.zeros(before.shape, dtype=np.int64)
        for event in (e for e in series.events if e.time_index == t):
            area = logged_area(event, after)
            covered += area
            assert event.from_areas_px == {int(c): int((before[area] == c).sum()) for c in np.unique(before[area])}
            assert event.from_areas_px[event.from_class] == max(event.from_areas_px.values())
            assert names.setdefault(event.instance, event.object_id) == event.object_id
            if event.kind == "create":
                assert event.to_class == building
                assert event.placement is not None
                assert not np.isin(before[area], [building, 255, *schema.forbidden_ids]).any()
                assert ((inst_after == event.instance) == area).all()
                others = ((inst_after > 0) & (inst_after != event.instance)) | ((after == building) & ~area)
                assert not (dilate(area, GAP) & others).any()
                assert ndimage.label(area)[1] == 1
                assert not (warp_footprint(event.placement, (0, 0, *area.shape)) < area).any()
                assert event.instance not in created
                assert event.instance > max(scene.instances.max(), len(scene.uids))
                created[event.instance] = event.object_id
            else:
                assert event.instance not in created
                assert (area == ((inst_before == event.instance) & (before == building))).all()
                assert not (inst_after == event.instance).any()
                assert event.to_class not in (building, 255, *schema.forbidden_ids)
                uid = scene.uids[event.instance - 1] if scene.uids else f"obj{event.instance:05d}"
                assert event.object_id == uid
        changed = before != after
        assert covered.max(initial=0) <= 1
        assert ((covered == 1) == changed).all()
        assert not (changed & touched).any()  # no pixel changes twice
        touched |= changed
        assert ((before == 255) == (after == 255)).all()
        assert report.time_index == t
        assert report.reached == pytest.approx(changed.mean())
        assert report.met == (abs(report.reached - report.asked) <= 0.2 * report.asked)
        assert report.met or report.note
        # An object is there as a whole or not at all, and keeps its number.
        for number in np.unique(inst_after[inst_after > 0]):
            if number in created and not (inst_before == number).any():
                continue
            assert ((inst_before == number) == (inst_after == number)).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), binary=st.booleans(), kinds=st.sampled_from(["create", "remove", "both"]))
def test_every_change_is_one_event(seed: int, binary: bool, kinds: str) -> None:
    schema = BINARY if binary else LAND
    scene = random_scene(seed, schema)
    series = run(scene, schema, seed, kinds=("create", "remove") if kinds == "both" else (kinds,))
    check(scene, schema, series)
    assert set(np.unique(series.instances)) - {0} <= set(series.objects)
    assert all(series.objects[event.instance] == event.object_id for event in series.events)
    assert kinds == "both" or {event.kind for event in series.events} <= {kinds}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_same_seed_same_bytes_whatever_ran_before(seed: int) -> None:
    scene = random_scene(seed)
    first = run(scene, LAND, seed)
    np.random.seed(seed % 1000)  # noqa: NPY002
    run(random_scene(seed + 1), LAND, seed + 1)
    np.random.random(3)  # noqa: NPY002
    second = run(scene, LAND, seed)
    assert first.masks.tobytes() == second.masks.tobytes()
    assert first.instances.tobytes() == second.instances.tobytes()
    assert [e.polygon for e in first.events] == [e.polygon for e in second.events]
    assert first.reports == second.reports
    # A shorter series is the beginning of a longer one.
    assert run(scene, LAND, seed, steps=1).masks.tobytes() == first.masks[:2].tobytes()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.2, 0.95))
def test_polygon_fills_exactly_its_pixels(seed: int, share: float) -> None:
    footprint = derive_rng(seed, "blob").random((9, 13)) < share
    footprint[4, 5] = True
    assert (fill(polygon_wkt(footprint, (3, 2)), (14, 17))[3:12, 2:15] == footprint).all()


@settings(max_examples=40, deadline=None)
@given(turn=st.floats(0, np.pi / 2 - 0.02), height=st.integers(14, 30), ratio=st.floats(1.4, 2.5), mirror=st.booleans())
def test_orientation_follows_the_placement(turn: float, height: int, ratio: float, mirror: bool) -> None:
    exemplar = block_exemplar(height, int(height * ratio))
    placement = place(exemplar, np.array([60, 60]), turn, 1.0, mirror)
    laid = warp_footprint(placement, (0, 0, 120, 120))
    # A raster tells directions apart up to a pixel at each end of the object, and its area up to a rim of a third.
    length = int(height * ratio)
    assert abs(fold(oriented_extent(laid)[0] - turn)) < np.arctan(2.5 / length)
    assert abs(int(laid.sum()) - exemplar.area_px) < 2 * (height + length) / 3
    assert np.abs(np.argwhere(laid).mean(axis=0) - 60).max() < 0.6


def test_orientation_is_counter_clockwise() -> None:
    rows, cols = np.mgrid[:80, :80]
    # Direction 30 degrees up to the right: columns grow while rows shrink.
    along = (cols - 40) * np.cos(np.pi / 6) - (rows - 40) * np.sin(np.pi / 6)
    across = (cols - 40) * np.sin(np.pi / 6) + (rows - 40) * np.cos(np.pi / 6)
    angle, long_px, short_px = oriented_extent((abs(along) < 25) & (abs(across) < 10))
    assert np.rad2deg(angle) == pytest.approx(30, abs=2)
    assert (long_px, short_px) == pytest.approx((50, 20), abs=3)


def test_created_objects_align_with_their_neighbours_and_turn_little() -> None:
    scene = grid_scene(angle=0.35)
    series = run(scene, BINARY, kinds=("create",), change_area=(0.03, 0.04), library=[block_exemplar(14, 24)])
    made = [event for event in series.events if event.kind == "create"]
    assert made
    assert all(report.met for report in series.reports)
    for event in made:
        laid = fill(event.polygon, scene.mask.shape)
        assert abs(fold(oriented_extent(laid)[0] - 0.35)) < np.deg2rad(5)
        assert abs(event.placement.rotation_rad) <= np.pi / 4 + 1e-9


def grid_scene(angle: float = 0.0, side: int = 256) -> Scene:
    rows, cols = np.mgrid[:side, :side]
    instances = np.zeros((side, side), dtype=np.int32)
    for n, (r, c) in enumerate(np.ndindex(4, 4), start=1):
        row, col = 32 + 48 * r, 32 + 48 * c
        along = (cols - col) * np.cos(angle) - (rows - row) * np.sin(angle)
        across = (cols - col) * np.sin(angle) + (rows - row) * np.cos(angle)
        instances[(abs(along) < 10) & (abs(across) < 7)] = n
    image = np.zeros((side, side, 3), dtype=np.uint8)
    return Scene("grid", "g", image, (instances > 0).astype(np.uint8), instances)


def test_negative_changes_nothing() -> None:
    scene = random_scene(5)
    series = run(scene, LAND, negative=True)
    assert (series.masks == scene.mask).all()
    assert (series.instances == scene.instances).all()
    assert series.events == ()
    assert all(r.met and r.asked == 0 == r.reached for r in series.reports)


def test_avoided_ground_stays_free_and_gsd_scales() -> None:
    scene = grid_scene()
    avoid = np.zeros(scene.mask.shape, dtype=bool)
    avoid[:, :128] = True
    series = run(scene, BINARY, kinds=("create",), change_area=(0.02, 0.03), avoid=avoid)
    assert series.events
    assert not (series.masks[-1] != series.masks[0])[avoid].any()
    metric = Scene("grid", "g", scene.image, scene.mask, scene.instances, gsd_m=0.5)
    stock = stock_library([block_exemplar(30, 40, gsd_m=0.25)], metric)
    assert stock.areas_px[0] == pytest.approx(300)


def test_buildings_stand_on_the_surfaces_allowed() -> None:
    scene = grid_scene()
    assert scene.mask is not None
    scene.mask[:, 128:] = np.where(scene.mask[:, 128:] == 0, 4, scene.mask[:, 128:])
    scene.mask[:, :128] = np.where(scene.mask[:, :128] == 0, 2, scene.mask[:, :128])
    rules = EventRules(LAND, ("create",), (0.02, 0.02), surfaces=frozenset({4}))
    series = simulate_series(
        scene, rules, steps=2, library=[block_exemplar(9, 12)], rng_for_step=lambda t: derive_rng(0, t)
    )
    assert series.events
    assert {c for event in series.events for c in event.from_areas_px} == {4}


def test_removal_is_capped_and_says_so() -> None:
    series = run(grid_scene(), BINARY, steps=5, kinds=("remove",), change_area=(0.9, 0.9))
    removed = [sum(e.time_index == t for e in series.events) for t in range(5)]
    assert removed == [9, 4, 1, 1, 1]  # at most 60 % of 16, 7, 3, 2 and 1 buildings
    assert not any(r.met for r in series.reports)
    assert "at most 60%" in series.reports[0].note
    assert "no building left" in series.reports[4].note
    assert "the last building was removed" in series.reports[4].note


def test_touching_objects_change_one_by_one() -> None:
    instances = np.zeros((64, 64), dtype=np.int32)
    instances[20:32, 20:30], instances[20:32, 30:40] = 1, 2
    scene = Scene("t", "g", np.zeros((64, 64, 3), np.uint8), (instances > 0).astype(np.uint8), instances)
    series = run(scene, BINARY, steps=1, kinds=("remove",), change_area=(120 / 4096, 120 / 4096))
    assert series.reports[0].met
    assert len(series.events) == 1
    assert (series.masks[1] == 1).sum() == 120


def test_removed_ground_is_the_surrounding_class() -> None:
    mask = np.full((64, 64), 2, dtype=np.uint8)
    mask[10:40, 10:40] = 4  # a garden
    mask[18:20, 10:40] = 3  # and a road beside the house
    mask[20:32, 20:32] = 1
    mask[20:24, 20:24] = 255
    scene = Scene("g", "g", np.zeros((64, 64, 3), np.uint8), mask)
    series = run(scene, LAND, steps=1, kinds=("remove",), change_area=(0.03, 0.03))
    (event,) = series.events
    assert event.to_class == 4
    assert event.area_px == 128
    assert (series.masks[1][20:24, 20:24] == 255).all()


@pytest.mark.parametrize("value", [0, 1, 2, 3, 255])
@pytest.mark.parametrize("library", [[], [block_exemplar(9, 12)]])
def test_one_class_masks_work(value: int, library: list[Exemplar]) -> None:
    scene = Scene("one", "g", np.zeros((50, 70, 3), np.uint8), np.full((50, 70), value, np.uint8))
    series = run(scene, LAND, library=library)
    check(Scene("one", "g", scene.image, scene.mask, np.zeros_like(scene.mask, dtype=np.int32)), LAND, series)


def test_scenes_that_cannot_be_simulated_are_told_apart() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(SceneError, match="no semantic mask"):
        run(Scene("s", "g", image), BINARY, library=[])
    houseless = run(Scene("s", "g", image, np.zeros((40, 40), np.uint8)), ClassSchema(("land", "water")))
    assert not houseless.events
    assert "building" in houseless.reports[0].note
    nowhere = run(Scene("s", "g", image, np.ones((40, 40), np.uint8)), ClassSchema(("water", "building")))
    assert not nowhere.events
    assert not nowhere.reports[0].met
    tiny = np.zeros((40, 40), np.uint8)
    tiny[7, 7] = 1
    series = run(Scene("s", "g", image, tiny), BINARY, kinds=("remove",))
    assert not series.events
    assert (series.masks == tiny).all()
    with pytest.raises(UsageError):
        EventRules(BINARY, kinds=("demolish",))  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        EventRules(BINARY, change_area=(0.2, 0.1))


def test_exemplars_are_whole_buildings() -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[0:20, 30:50] = 1  # touches the border
    mask[40:60, 40:64] = 1  # whole
    mask[80:84, 20:110] = 1  # a wall
    mask[100:106, 20:26] = 1  # below the smallest area
    scene = Scene("e", "g", np.arange(120 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(120, 120, 3), mask)
    (exemplar,) = collect_exemplars(scene, BINARY, margin_px=25)
    assert exemplar.box == (15, 15, 85, 89)
    assert exemplar.area_px == 480
    assert exemplar.orientation_rad == 0
    assert (exemplar.image == scene.image[15:85, 15:89]).all()
    assert (exemplar.others == ((mask[15:85, 15:89] == 1) & ~exemplar.footprint)).all()
    assert exemplar.others.any()


def test_step_leaves_its_state_alone() -> None:
    scene = grid_scene()
    state = start_series(scene, BINARY)
    frozen = state.mask.copy(), state.instances.copy(), state.settled.copy(), len(state.objects)
    stock = stock_library(collect_exemplars(scene, BINARY), scene)
    after, events, _ = simulate_step(state, EventRules(BINARY), stock, derive_rng(1))
    assert events
    assert (after.mask != state.mask).any()
    assert all((a == b).all() for a, b in zip(frozen[:3], (state.mask, state.instances, state.settled), strict=True))
    measured = measure_objects(after.mask, after.instances, (1,))
    assert measured.numbers.tolist() == after.objects.numbers.tolist()
    assert measured.areas_px.tolist() == after.objects.areas_px.tolist()
    assert measured.boxes.tolist() == after.objects.boxes.tolist()


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs the shared sample data")
@pytest.mark.parametrize("stem", ["dubai-mbrsc-lulc/masks/dubai_tile4_003_587_334.png"])
def test_a_real_mask(stem: str) -> None:
    from skimage.io import imread

    mask = imread(SHARED / "data" / stem).astype(np.uint8)
    mask[mask == 0] = 255
    labels, _ = ndimage.label(mask == 1)
    scene = Scene("real", "g", np.zeros((*mask.shape, 3), np.uint8), mask, labels.astype(np.int32))
    series = run(scene, LAND, change_area=(0.02, 0.05))
    check(scene, LAND, series)
    assert series.events
