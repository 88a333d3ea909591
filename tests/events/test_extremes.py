"""Masks at the edge of what there is: tens of thousands of objects, huge tiles, single pixels, and one of nothing."""

from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import load_transitions
from changen_cli.core.types import EventKind, MaskSeries, Scene
from changen_cli.events import Damage, EventRules, collect_exemplars, resolve_transitions, simulate_series
from tests.events.test_events import LAND, block_exemplar

KINDS: tuple[EventKind, ...] = ("create", "remove", "swap", "grow", "alter", "damage", "transition")


def simulated(scene: Scene, kinds: tuple[EventKind, ...], area: float = 0.03, steps: int = 1) -> MaskSeries:
    schema = LAND.with_damage() if "damage" in kinds else LAND
    rules = EventRules(
        schema,
        kinds,
        (area, area),
        transitions=resolve_transitions(load_transitions("openearthmap"), schema) if "transition" in kinds else None,
        damage=Damage("wind") if "damage" in kinds else None,
        drawable=frozenset(range(len(schema.names))),
    )
    library = [*collect_exemplars(scene, schema)[:40], block_exemplar(9, 12), block_exemplar(20, 30)]
    series = simulate_series(
        scene, rules, steps=steps, library=library, rng_for_step=lambda t: derive_rng(0, scene.id, t)
    )
    for t in range(steps):
        changed = series.masks[t] != series.masks[t + 1]
        events = [event for event in series.events if event.time_index == t]
        assert sum(event.area_px for event in events) == changed.sum()
        assert series.reports[t].met or series.reports[t].note
        assert ((series.masks[t] == 255) == (series.masks[t + 1] == 255)).all()
    return series


def grid(side: int, cell: int, house: int, gap_class: int = 2) -> Scene:
    """Houses on a square grid, numbered."""
    count = side // cell
    mask = np.full((side, side), gap_class, dtype=np.uint8)
    instances = np.zeros((side, side), dtype=np.int32)
    numbers = np.arange(1, count**2 + 1, dtype=np.int32).reshape(count, count)
    start = (cell - house) // 2
    for row in range(start, start + house):
        for col in range(start, start + house):
            instances[row::cell, col::cell][:count, :count] = numbers
    mask[instances > 0] = 1
    return Scene(f"grid{side}", "g", np.zeros((side, side, 3), np.uint8), mask, instances)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["remove", "damage"])
def test_sixty_five_thousand_objects(kind: EventKind) -> None:
    scene = grid(3072, 12, 8)
    assert scene.instances is not None
    scene.instances[scene.instances == 65536] = 0  # 65 535 are left
    series = simulated(scene, (kind,))
    assert series.reports[0].met
    assert len(series.events) > 3900


def test_seven_thousand_objects() -> None:
    assert simulated(grid(1024, 12, 8), ("remove",)).reports[0].met


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_on_a_tile_of_4096_px(kind: EventKind) -> None:
    scene = grid(4096, 64, 20)
    assert scene.mask is not None
    scene.mask[:, :40] = 3
    scene.mask[2000:2100] = np.where(scene.mask[2000:2100] == 2, 4, scene.mask[2000:2100])
    assert simulated(scene, (kind,)).events


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (7, 211), (1, 1), (64, 64)])
def test_thin_tiles_and_objects_of_a_pixel(kind: EventKind, shape: tuple[int, int]) -> None:
    mask = np.full(shape, 2, dtype=np.uint8)
    mask.ravel()[::5] = 1  # objects of one pixel
    mask.ravel()[::7] = 255
    scene = Scene("thin", "g", np.zeros((*shape, 3), np.uint8), mask)
    simulated(scene, (kind,), area=0.5, steps=2)


@pytest.mark.parametrize("kind", KINDS)
def test_more_asked_than_there_is_is_told(kind: EventKind) -> None:
    scene = grid(128, 32, 12)
    series = simulated(scene, (kind,), area=1.0, steps=3)
    assert not series.reports[2].met
    assert series.reports[2].note
    assert (series.masks[-1] == series.masks[0]).mean() > 0 or kind == "transition"


def test_all_kinds_together_on_one_tile() -> None:
    series = simulated(grid(512, 64, 20), KINDS, area=0.08, steps=3)
    assert {event.kind for event in series.events} == set(KINDS)
    assert all(report.met for report in series.reports)
