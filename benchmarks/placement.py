"""Does placement look planned? New buildings against the real ones they stand in for, and against random placement.

In every tile a third of the real buildings is hidden, and as much area is created again: by chance, as the published
simulator does, and by ours. Compared are the distances to the nearest other building, to the nearest road, and the
difference in direction to it, with those the hidden buildings had: Wasserstein distances (W1) of the pooled
distributions, smaller is closer to the real ones. Pooled by tile, every tile counts as many buildings as it hid; by
building, tiles in which many small ones were placed count more.

Run from the project's root: ``python benchmarks/placement.py [FOLDER:CLASSES ...]``. One core, no model.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import wasserstein_distance

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, Int32Array, Scene
from changen_cli.events import (
    EventRules,
    collect_exemplars,
    measure_objects,
    simulate_step,
    start_series,
    stock_library,
    unlikely_ground,
)
from changen_cli.events.regions import dilate
from changen_cli.sources.folder import open_source

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DEFAULT = (
    f"{DATA / 'dubai-mbrsc-lulc'}:unlabelled,building,land,road,vegetation,water",
    f"{DATA / 'oam-banepa-buildings'}:background,building",
    f"{DATA / 'oam-kampala-buildings'}:background,building",
)
SCENES, ROUNDS, FEWEST, HIDDEN, TRIES = 50, 4, 12, 1 / 3, 50
MIN_AREA_PX = 64


@dataclass
class Sites:
    """What is measured of a set of buildings; one value per building.

    Attributes:
        gap: Distance to the nearest other building's edge, in sizes of a typical building of the tile.
        road: Distance to the nearest road, in the same unit; of tiles with roads.
        turn: Difference in direction to the nearest building, in degrees from 0 to 45.
        barred: Whether any of it lies on road, water or unknown ground.
        weight: What the building counts: every tile counts as many as it hid, however many were placed in it.
    """

    gap: list[float] = field(default_factory=list)
    road: list[float] = field(default_factory=list)
    turn: list[float] = field(default_factory=list)
    barred: list[bool] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    road_weight: list[float] = field(default_factory=list)

    def add(self, other: Sites) -> None:
        """Pool with another set."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)


def scenes(folders: list[str]) -> Iterator[tuple[Scene, ClassSchema]]:
    """Tiles with enough buildings, one folder after the other in turn, so that all are heard."""

    def of(argument: str) -> Iterator[tuple[Scene, ClassSchema]]:
        path, _, classes = argument.rpartition(":")
        source = open_source(Path(path), classes=tuple(classes.split(",")))
        for item in source:
            if isinstance(item, Scene) and item.mask is not None and item.instances is not None:
                areas = np.bincount(item.instances[item.mask == source.schema.building_id])[1:]
                if (areas >= MIN_AREA_PX).sum() >= FEWEST:
                    yield item, source.schema

    yield from (pair for turn in zip_longest(*map(of, folders)) for pair in turn if pair is not None)


def measure(
    numbers: list[int],
    instances: Int32Array,
    before: npt.NDArray[np.uint8],
    schema: ClassSchema,
    unit: float,
    weight: float,
) -> Sites:
    """Describe the buildings of some numbers among all of a tile.

    Args:
        numbers: The buildings to describe.
        instances: Every building.
        before: Semantic mask without the described buildings.
        schema: Its classes.
        unit: Size of a typical building, px.
        weight: What all of them together count.
    """
    sites = Sites()
    table = measure_objects((instances > 0).astype(np.uint8), instances, (1,))
    rows = {int(number): row for row, number in enumerate(table.numbers)}
    roads = [i for i in schema.forbidden_ids if "road" in schema.names[i]]
    road = np.isin(before, roads)
    to_road = ndimage.distance_transform_edt(~road) if road.any() else None
    barred = ~np.isin(before, schema.ground_ids)
    for number in numbers:
        own = instances == number
        distance, where = ndimage.distance_transform_edt((instances == 0) | own, return_indices=True)
        at = np.unravel_index(int(np.where(own, distance, np.inf).argmin()), own.shape)
        neighbour = int(instances[tuple(index[at] for index in where)])
        sites.gap.append(float(distance[at]) / unit)
        angle = table.orientations_rad[rows[number]] - table.orientations_rad[rows[neighbour]]
        sites.turn.append(abs(math.degrees((angle + math.pi / 4) % (math.pi / 2) - math.pi / 4)))
        if to_road is not None:
            sites.road.append(float(to_road[own].min()) / unit)
            sites.road_weight.append(weight / len(numbers))
        sites.barred.append(bool(barred[own].any()))
        sites.weight.append(weight / len(numbers))
    return sites


def placed_at_random(instances: Int32Array, count: int, rng: np.random.Generator) -> Int32Array:
    """The published way: a copy of a building, unturned, at a uniform place where no building is."""
    instances = instances.copy()
    found = [box for box in ndimage.find_objects(instances) if box is not None]
    shapes = [instances[box] == number for number, box in enumerate(ndimage.find_objects(instances), 1) if box]
    shapes = [shape for shape in shapes if shape.sum() >= MIN_AREA_PX]
    assert found
    for index in rng.integers(len(shapes), size=count):
        shape = shapes[index]
        for _ in range(TRIES):
            row, col = (int(rng.integers(0, s - e + 1)) for s, e in zip(instances.shape, shape.shape, strict=True))
            window = instances[row : row + shape.shape[0], col : col + shape.shape[1]]
            if not (window[shape] > 0).any():
                window[shape] = instances.max() + 1
                break
    return instances


def placed_by_us(scene: Scene, schema: ClassSchema, share: float, rng: np.random.Generator) -> Int32Array:
    """Our creations, worth a share of the tile."""
    rules = EventRules(schema, ("create",), (share, share), MIN_AREA_PX)
    state = start_series(scene, schema, unlikely_ground(scene, schema))
    stock = stock_library(collect_exemplars(scene, schema), scene)
    return simulate_step(state, rules, stock, rng)[0].instances


def hide(scene: Scene, schema: ClassSchema, rng: np.random.Generator) -> tuple[Scene, list[int]]:
    """The tile without a third of its buildings, and their numbers."""
    assert scene.mask is not None and scene.instances is not None
    building = schema.building_id
    areas = np.bincount(scene.instances[scene.mask == building], minlength=int(scene.instances.max()) + 1)
    large = np.flatnonzero(areas >= MIN_AREA_PX)
    large = large[large > 0]
    hidden = rng.choice(large, size=max(1, round(HIDDEN * len(large))), replace=False)
    gone = np.isin(scene.instances, hidden)
    counts = np.bincount(scene.mask[dilate(gone, 6) & ~gone], minlength=256)[: len(schema.names)]
    ground = max(schema.ground_ids, key=lambda index: counts[index])
    mask = np.where(gone, np.uint8(ground), scene.mask)
    return replace(scene, mask=mask, instances=np.where(gone, 0, scene.instances), uids=()), hidden.tolist()


def median(values: list[float], weights: list[float]) -> float:
    """Weighted median."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(np.asarray(weights)[order])
    return float(np.asarray(values)[order][np.searchsorted(sums, sums[-1] / 2)])


def compare(tiles: list[tuple[Scene, ClassSchema]], title: str) -> None:
    """Print the table of some tiles."""
    found = {name: Sites() for name in ("real", "random", "ours")}
    for scene, schema in tiles:
        for turn in range(ROUNDS):
            bare, hidden = hide(scene, schema, derive_rng(0, "placement", scene.id, turn))
            assert scene.instances is not None and bare.instances is not None and bare.mask is not None
            areas = np.bincount(scene.instances.ravel())[1:]
            unit = math.sqrt(float(np.median(areas[areas >= MIN_AREA_PX])))
            share = float(np.isin(scene.instances, hidden).mean())
            made = {
                "real": scene.instances,
                "random": placed_at_random(bare.instances, len(hidden), derive_rng(0, "random", scene.id, turn)),
                "ours": placed_by_us(bare, schema, share, derive_rng(0, "ours", scene.id, turn)),
            }
            for name, instances in made.items():
                new = np.unique(instances[(instances > 0) & (bare.instances == 0)]).tolist()
                numbers = hidden if name == "real" else new
                if numbers:
                    found[name].add(measure(numbers, instances, bare.mask, schema, unit, len(hidden)))
    real, random_, ours = found.values()
    counts = f"{len(real.gap)} hidden buildings, {len(random_.gap)} placed at random, {len(ours.gap)} by us"
    print(f"{title}: {len(tiles)} tiles, {ROUNDS} times each; {counts}")
    print(f"{'':>34} {'median':^26} {'W1, by tile':^17} {'W1, by building':^17}")
    print(f"{'':>34} {'real':>8} {'random':>8} {'ours':>8} {'random':>8} {'ours':>8} {'random':>8} {'ours':>8}")
    for name, label in (
        ("gap", "gap to nearest building, sizes"),
        ("road", "gap to nearest road, sizes"),
        ("turn", "turn against it, degrees"),
    ):
        kind = "road_weight" if name == "road" else "weight"
        values = [(getattr(sites, name), getattr(sites, kind)) for sites in (real, random_, ours)]
        medians = "".join(f" {median(*v):>8.2f}" for v in values)
        by_tile = [wasserstein_distance(values[0][0], v[0], values[0][1], v[1]) for v in values[1:]]
        by_building = [wasserstein_distance(values[0][0], v[0]) for v in values[1:]]
        print(f"{label:>34}{medians}" + "".join(f" {far:>8.3f}" for far in (*by_tile, *by_building)))
    shares = "".join(f" {np.average(sites.barred, weights=sites.weight):>8.1%}" for sites in (real, random_, ours))
    print(f"{'on road, water or unknown':>34}{shares}", flush=True)


def main() -> None:
    """Print one table of the first tiles, and one of all others: what was tuned on one set shows on the other."""
    tiles = list(scenes(sys.argv[1:] or list(DEFAULT)))
    compare(tiles[:SCENES], "first")
    if tiles[SCENES:]:
        compare(tiles[SCENES:], "others")


if __name__ == "__main__":
    main()
