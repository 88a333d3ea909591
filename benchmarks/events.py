"""Time of one simulated step, for every kind of event, against a plain implementation.

Run from the project's root: ``python benchmarks/events.py``. One core, no accelerator. Tiles of 2048 and 4096 px are 4
and 16 times the one of 1024 px, side by side: as many times the pixels, the objects and the regions.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from changen_cli.core.damage import Disaster
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import load_transitions, preset_names
from changen_cli.core.types import ClassSchema, Scene, UInt8Array
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

SIDES = (1024, 2048, 4096)
REPEATS = 5
ROWS, COLUMNS = 15, 20  # 300 buildings
REGIONS = 300
AREAS = {"1 %": (0.01, 0.01), "2-5 %": (0.02, 0.05)}
"""Share of the tile that changes: about every tenth building, and every fourth to second one."""
COVER = ClassSchema(("background", "building", "bareland", "rangeland", "developed", "road", "tree", "water"))
KINDS = (("create",), ("remove",), ("create", "remove"), ("grow",), ("alter",))


def town() -> Scene:
    """1024 px with 300 turned houses on a jittered grid, on 300 random regions of six classes with faint tracks."""
    rng = derive_rng(0, "benchmark")
    side = SIDES[0]
    instances = np.zeros((side, side), dtype=np.int32)
    rows, cols = np.mgrid[:side, :side]
    high, wide = side / ROWS, side / COLUMNS
    for k in range(ROWS * COLUMNS):
        row, col = (np.array(divmod(k, COLUMNS)) + 0.5 + rng.uniform(-0.15, 0.15, 2)) * (high, wide)
        angle = rng.uniform(-0.2, 0.2) + (k % COLUMNS > COLUMNS // 2) * 0.6
        half_a, half_b = rng.uniform(0.12, 0.26, 2) * wide
        where = np.s_[max(int(row - high), 0) : int(row + high), max(int(col - high), 0) : int(col + high)]
        along = (cols[where] - col) * np.cos(angle) - (rows[where] - row) * np.sin(angle)
        across = (cols[where] - col) * np.sin(angle) + (rows[where] - row) * np.cos(angle)
        instances[where][(abs(along) < half_a) & (abs(across) < half_b)] = k + 1
    seeds = np.zeros((side, side), dtype=np.uint8)
    seeds[tuple(rng.integers(0, side, (2, REGIONS)))] = rng.integers(2, 8, REGIONS)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    mask = np.where(instances > 0, np.uint8(1), seeds[tuple(nearest)])
    tracks = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 6) > 0
    grey = (mask * 25 + tracks * 15 + rng.normal(0, 3, (side, side))).clip(0, 255).astype(np.uint8)
    return Scene("town", "town", np.repeat(grey[..., None], 3, axis=2), mask, instances)


def repeated(scene: Scene, times: int) -> Scene:
    """The tile side by side, with new numbers for its objects."""
    assert scene.mask is not None and scene.instances is not None
    numbers = np.arange(times**2, dtype=np.int32).reshape(times, times) * scene.instances.max()
    numbers = np.kron(numbers, np.ones(scene.mask.shape, dtype=np.int32))
    instances = np.tile(scene.instances, (times, times))
    return replace(
        scene,
        image=np.tile(scene.image, (times, times, 1)),
        mask=np.tile(scene.mask, (times, times)),
        instances=np.where(instances > 0, instances + numbers, 0).astype(np.int32),
    )


def plain_removal(mask: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The obvious way: components of the whole tile, each with its pixels, in a random order."""
    mask = mask.copy()
    regions = [region for region in regionprops(label(mask == 1)) if region.area >= 64]
    left = 0.035 * mask.size
    for index in rng.permutation(len(regions)):
        if regions[index].area <= left:
            mask[tuple(regions[index].coords.T)] = 2
            left -= regions[index].area
    return mask


def plain_transition(mask: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """The obvious way: components of the whole tile, class by class, each of which may change as a whole."""
    after = mask.copy()
    for index in range(len(COVER.names)):
        for region in regionprops(label(mask == index)):
            if region.area >= 64 and rng.random() < 0.05:
                after[tuple(region.coords.T)] = rng.integers(1, len(COVER.names))
    return after


def milliseconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median processor time of a call, which other work on the machine does not distort."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append((time.process_time() - start) * 1e3)
    return statistics.median(times)


def processes(area: tuple[float, float]) -> Iterator[tuple[str, EventRules]]:
    """Every kind of event with its rules."""
    for kinds in KINDS:
        yield " + ".join(kinds), EventRules(COVER, kinds, area, drawable=frozenset(range(len(COVER.names))))
    for preset in preset_names():
        matrix = resolve_transitions(load_transitions(preset), COVER)
        yield f"transition, {preset}", EventRules(COVER, ("transition",), area, transitions=matrix)
    for disaster in get_args(Disaster):
        yield f"damage, {disaster}", EventRules(COVER.with_damage(), ("damage",), area, damage=Damage(disaster))


def main() -> None:
    """Print one table per changed area: median processor milliseconds of a step by kind and size of the tile."""
    scenes = {side: repeated(town(), side // SIDES[0]) for side in SIDES}
    stocks = {side: stock_library(collect_exemplars(scene, COVER), scene) for side, scene in scenes.items()}
    print(f"one step; 300 objects and {REGIONS} regions per 1024², median CPU time of {REPEATS}, ms")

    def head(title: str) -> None:
        print(f"{title:>28}" + "".join(f"{f'{side}²':>9}" for side in SIDES) + f"{'x for 16x':>11}{'events':>8}")

    def row(name: str, times: list[float], events: str = "") -> None:
        values = "".join(f"{value:>9.1f}" for value in times)
        print(f"{name:>28}{values}{times[-1] / times[0]:>11.1f}{events:>8}", flush=True)

    for share, area in AREAS.items():
        head(f"{share} of the tile")
        for name, rules in processes(area):
            times, counts = [], []
            for side, scene in scenes.items():
                state = replace(start_series(scene, rules.schema), edges=image_edges(scene.image))
                if {"create", "grow"} & set(rules.kinds):
                    state.habits()  # measured once a series
                draws = iter(range(REPEATS + 1))
                made: list[int] = []

                def step(state=state, stock=stocks[side], rules=rules, draws=draws, made=made):  # type: ignore[no-untyped-def]
                    rng = derive_rng(0, "benchmark", next(draws))
                    made.append(len(simulate_step(state, rules, stock, rng)[1]))

                step()
                times.append(milliseconds(step))
                counts.append(statistics.median(made))
            row(name, times, f"{counts[0]:.0f}")
    head("")

    def start(scene: Scene) -> None:
        start_series(scene, COVER).habits()

    row("start of a series", [milliseconds(lambda: start(scene)) for scene in scenes.values()])  # noqa: B023
    for name, plain in (("plain removal", plain_removal), ("plain transition", plain_transition)):
        masks = [scene.mask for scene in scenes.values() if scene.mask is not None]
        row(name, [milliseconds(lambda: plain(mask, derive_rng(0, "plain")), 2) for mask in masks])  # noqa: B023


if __name__ == "__main__":
    main()
