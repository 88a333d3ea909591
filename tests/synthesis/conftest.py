"""Scenes with simulated events, for the tests of starts and of the synthesiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ChangeEvent, ClassSchema, MaskSeries, Scene
from changen_cli.events import EventRules, collect_exemplars, simulate_series

SCHEMA = ClassSchema()


def scene(seed: int = 0, size: int = 128, name: str = "s", building: tuple[int, int, int] = (110, 70, 60)) -> Scene:
    """Textured ground with bright buildings, some free ground in the middle."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, 60, (size, size, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    instances = np.zeros((size, size), np.int32)
    step = size // 3
    for index in (0, 1, 2, 3, 5, 6, 8):
        row, col = divmod(index, 3)
        top, left = row * step + int(rng.integers(6, 12)), col * step + int(rng.integers(6, 12))
        height, width = rng.integers(12, 20, 2)
        instances[top : top + height, left : left + width] = instances.max() + 1
    ground[instances > 0] += building
    image = np.clip(ground, 0, 255).astype(np.uint8)
    return Scene(name, name, image, (instances > 0).astype(np.uint8), instances)


@pytest.fixture
def simulated() -> Callable[..., tuple[Scene, MaskSeries, list[Any]]]:
    """Return ``make(seed=0, kinds=..., steps=1, negative=False)``: scene, series and exemplar library."""

    def make(
        seed: int = 0,
        kinds: tuple[str, ...] = ("create", "remove"),
        steps: int = 1,
        negative: bool = False,
        **rest: Any,
    ) -> tuple[Scene, MaskSeries, list[Any]]:
        made = scene(seed, name=f"s{seed}", **rest)
        library = collect_exemplars(made, SCHEMA)
        series = simulate_series(
            made,
            EventRules(SCHEMA, kinds, (0.03, 0.05)),
            steps=steps,
            library=library,
            rng_for_step=lambda step: derive_rng(seed, step),
            negative=negative,
        )
        if not negative:
            assert series.events
        return made, series, library

    return make


def removal(instances: np.ndarray, number: int) -> ChangeEvent:
    """The event that removes one whole object."""
    rows, cols = np.nonzero(instances == number)
    box = (int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1)
    return ChangeEvent(
        object_id=str(number), instance=number, time_index=0, kind="remove", from_class=1, to_class=0, bbox=box,
        area_px=len(rows), polygon="", from_areas_px={1: len(rows)},
    )  # fmt: skip
