"""Time of event simulation per step, against a plain implementation.

Run from the project's root: ``python benchmarks/events.py``. One core, no accelerator.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from changen_cli.core.damage import Disaster
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import load_transitions, preset_names
from changen_cli.core.types import ClassSchema, Int32Array, Scene
from changen_cli.events import (
    Damage,
    EventRules,
    collect_exemplars,
    resolve_transitions,
    simulate_step,
    start_series,
    stock_library,
)
from changen_cli.events.outlines import image_edges

OBJECTS = 100
REPEATS = 7
SCHEMA = ClassSchema()
COVER = ClassSchema(("background", "building", "bareland", "rangeland", "developed", "road", "tree", "water"))
REGIONS = 300


def town(side: int, per_row: int = 10) -> Scene:
    """A square tile with turned rectangles on a jittered square grid; sizes grow with the tile."""
    rng = derive_rng(0, "benchmark", side)
    instances = np.zeros((side, side), dtype=np.int32)
    rows, cols = np.mgrid[:side, :side]
    cell = side / per_row
    for k in range(per_row**2):
        row, col = (np.array(divmod(k, per_row)) + 0.5 + rng.uniform(-0.15, 0.15, 2)) * cell
        angle = rng.uniform(-0.2, 0.2) + (k % per_row > 4) * 0.6
        half_a, half_b = rng.uniform(0.1, 0.22, 2) * cell
        along = (cols - col) * np.cos(angle) - (rows - row) * np.sin(angle)
        across = (cols - col) * np.sin(angle) + (rows - row) * np.cos(angle)
        instances[(abs(along) < half_a) & (abs(across) < half_b)] = k + 1
    mask = (instances > 0).astype(np.uint8)
    image = np.zeros((side, side, 3), dtype=np.uint8)
    return Scene(id=f"town-{side}", group="town", image=image, mask=mask, instances=instances)


def country(side: int) -> Scene:
    """The town on 300 random regions of six classes, each of its own grey with faint tracks across."""
    rng = derive_rng(0, "benchmark", "country", side)
    scene = town(side)
    seeds = np.zeros((side, side), dtype=np.uint8)
    seeds[tuple(rng.integers(0, side, (2, REGIONS)))] = rng.integers(2, 8, REGIONS)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    mask = np.where(scene.mask == 1, np.uint8(1), seeds[tuple(nearest)])
    tracks = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 6) > 0
    grey = (mask * 25 + tracks * 15 + rng.normal(0, 3, (side, side))).clip(0, 255).astype(np.uint8)
    return replace(scene, mask=mask, image=np.repeat(grey[..., None], 3, axis=2))


def plain_step(instances: Int32Array, share: float, rng: np.random.Generator) -> Int32Array:
    """The obvious way: whole-tile comparisons per object, whole-tile shifts and distance checks per try."""
    instances = instances.copy()
    labels, count = ndimage.label(instances > 0)
    target, removed, created = share * instances.size, 0, 0
    for number in rng.permutation(count) + 1:
        region = labels == number
        if removed + region.sum() <= target / 2:
            instances[region] = 0
            removed += int(region.sum())
    for _ in range(200):
        if created >= target / 2:
            break
        region = labels == rng.integers(1, count + 1)
        shift = tuple(rng.integers(-s // 2, s // 2) for s in instances.shape)
        moved = ndimage.shift(region.astype(np.uint8), shift, order=0).astype(bool)
        grown = ndimage.binary_dilation(moved, iterations=4)
        if moved.sum() == region.sum() and not (grown & ((labels > 0) | (instances > 0))).any():
            instances[moved] = instances.max() + 1
            created += int(moved.sum())
    return instances


def milliseconds(call: object) -> float:
    """Processor time of one call, which other work on the machine does not distort."""
    start = time.process_time()
    call()  # type: ignore[operator]
    return (time.process_time() - start) * 1e3


def main() -> None:
    """Print one table: median processor milliseconds per step by tile size."""
    print(f"event simulation, {OBJECTS} objects, create + remove, 2-5 % of the tile, median CPU time of {REPEATS}")
    print(f"{'tile':>6} {'series start ms':>16} {'step ms':>9} {'events':>7} {'plain step ms':>14} {'ratio':>7}")
    for side in (512, 1024, 2048):
        scene = town(side)
        rules = EventRules(SCHEMA, change_area=(0.02, 0.05))
        stock = stock_library(collect_exemplars(scene, SCHEMA), scene)
        state = start_series(scene, SCHEMA)
        simulate_step(state, rules, stock, derive_rng(0, "warm-up"))
        start = statistics.median(milliseconds(lambda: start_series(scene, SCHEMA)) for _ in range(REPEATS))  # noqa: B023
        times, events = [], []
        for k in range(REPEATS):
            rng = derive_rng(0, "benchmark", k)
            times.append(milliseconds(lambda: events.append(len(simulate_step(state, rules, stock, rng)[1]))))  # noqa: B023
        instances = state.instances
        repeats = REPEATS if side < 2048 else 3
        plain = statistics.median(
            milliseconds(lambda: plain_step(instances, 0.035, derive_rng(0, k)))  # noqa: B023
            for k in range(repeats)
        )
        step = statistics.median(times)
        count, ratio = statistics.median(events), plain / step
        print(f"{side:>5}² {start:>16.1f} {step:>9.1f} {count:>7.0f} {plain:>14.0f} {ratio:>6.0f}x")
    print(f"\ntransitions, {REGIONS} regions and {OBJECTS} buildings, 2-5 % of the tile, median CPU time of {REPEATS}")
    print(f"{'tile':>6} {'step ms by preset':>18}")
    for side in (512, 1024, 2048):
        scene = country(side)
        state = replace(start_series(scene, COVER), edges=image_edges(scene.image))
        stock = stock_library(collect_exemplars(scene, COVER), scene)
        texts = []
        for preset in preset_names():
            matrix = resolve_transitions(load_transitions(preset), COVER)
            rules = EventRules(COVER, ("transition",), (0.02, 0.05), transitions=matrix)
            times = [
                milliseconds(lambda: simulate_step(state, rules, stock, derive_rng(0, "benchmark", k)))  # noqa: B023
                for k in range(REPEATS)
            ]
            texts.append(f"{preset} {statistics.median(times):.1f}")
        print(f"{side:>5}² {', '.join(texts)}")
    states = SCHEMA.with_damage()
    print(f"\ndamage, 324 buildings, first step, 2-5 % of the tile, median CPU time of {REPEATS}")
    for side in (512, 1024, 2048):
        scene = town(side, 18)
        state, stock = start_series(scene, states), stock_library([], scene)
        texts = []
        for disaster in get_args(Disaster):
            rules = EventRules(states, ("damage",), (0.02, 0.05), damage=Damage(disaster))
            times = [
                milliseconds(lambda: simulate_step(state, rules, stock, derive_rng(0, "benchmark", k)))  # noqa: B023
                for k in range(REPEATS)
            ]
            texts.append(f"{disaster} {statistics.median(times):.1f}")
        print(f"{side:>5}² {', '.join(texts)}")


if __name__ == "__main__":
    main()
