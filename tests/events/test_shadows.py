"""The direction of shadows is found where they show, and new buildings keep to it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from changen_cli.core.seeding import derive_rng
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.events.shadows import shadow_direction
from tests.events.test_events import BINARY, grid_scene


def lit(angle: float, depth: float = 60.0) -> np.ndarray:
    """The grid of houses with a shadow of 8 px in a direction."""
    scene = grid_scene(0.2)
    assert scene.mask is not None
    built = scene.mask == 1
    shade = np.zeros(built.shape, dtype=bool)
    for px in range(1, 9):
        shade |= np.roll(built, (round(-px * math.sin(angle)), round(px * math.cos(angle))), (0, 1))
    image = 140 + derive_rng(0, "ground").normal(0, 8, (*built.shape, 3))
    image[shade & ~built] -= depth
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("degrees", [0, 30, 100, 135, -45, -160])
def test_the_darker_side_is_found(degrees: int) -> None:
    built = np.asarray(grid_scene(0.2).mask == 1)
    found = shadow_direction(lit(math.radians(degrees)), built)
    assert found is not None
    assert math.cos(found - math.radians(degrees)) > math.cos(math.radians(25))


def test_nothing_is_found_where_nothing_shows() -> None:
    built = np.asarray(grid_scene(0.2).mask == 1)
    assert shadow_direction(lit(0.0, depth=2.0), built) is None
    assert shadow_direction(lit(0.0), np.zeros_like(built)) is None
    assert shadow_direction(lit(0.0), np.ones_like(built)) is None


@pytest.mark.parametrize("degrees", [30, -120])
def test_buildings_of_another_scene_are_turned_until_their_shadow_fits(degrees: int) -> None:
    there, here = math.radians(130), math.radians(degrees)
    library = collect_exemplars(replace(grid_scene(0.2), id="other", image=lit(there)), BINARY)
    scene = replace(grid_scene(0.2), image=lit(here))
    falls = shadow_direction(scene.image, np.asarray(scene.mask == 1))
    assert falls is not None
    series = simulate_series(
        scene,
        EventRules(BINARY, ("create",), (0.05, 0.05)),
        steps=1,
        library=library,
        rng_for_step=lambda t: derive_rng(t),
    )
    assert len(series.events) > 5
    for event in series.events:
        placement = event.placement
        assert placement is not None and placement.exemplar.shadow_rad is not None
        own = placement.exemplar.shadow_rad
        laid = (math.pi - own if placement.mirrored else own) + placement.rotation_rad
        assert math.cos(laid - falls) > math.cos(math.radians(50))
