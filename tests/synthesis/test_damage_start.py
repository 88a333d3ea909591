"""How damage is drawn: as a model knows it, or as what is no longer present."""

from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import Damage, EventRules, simulate_series
from changen_cli.synthesis.exemplars import ExemplarStart
from changen_cli.synthesis.synthesiser import label_planes

SCHEMA = ClassSchema(("land", "building", "grass")).with_damage()
COLOURS = np.array([(190, 170, 140), (200, 60, 50), (60, 130, 60)], dtype=float)


def village() -> Scene:
    """Houses on land, on grass, and two that touch."""
    mask = np.zeros((128, 160), np.uint8)
    mask[:, 80:] = 2
    instances = np.zeros(mask.shape, np.int32)
    for number, (row, col) in enumerate([(12, 12), (12, 26), (50, 20), (90, 40), (20, 110), (80, 120)], start=1):
        instances[row : row + 14, col : col + 14] = number
    mask[instances > 0] = 1
    image = COLOURS[mask] + np.random.default_rng(0).normal(0, 4, (*mask.shape, 3))
    return Scene("here", "here", np.clip(image, 0, 255).astype(np.uint8), mask, instances)


def hit(scene: Scene, plan: Damage, steps: int = 1, share: float = 0.03) -> MaskSeries:
    rules = EventRules(SCHEMA, ("damage",), (share, share), damage=plan)
    return simulate_series(scene, rules, steps=steps, library=[], rng_for_step=lambda t: derive_rng(3, t))


def start(image: np.ndarray, series: MaskSeries, step: int = 0, **given: bool) -> tuple[np.ndarray, np.ndarray]:
    events = [event for event in series.events if event.time_index == step]
    masks, instances = series.masks[step : step + 2], series.instances[step]
    return ExemplarStart(**given).start(image, masks, instances, events, SCHEMA, "here", derive_rng(1))


def test_a_destroyed_building_gives_way_to_the_ground_around_it() -> None:
    scene = village()
    series = hit(scene, Damage("fire", label_safe=True))
    gone = series.masks[1] == SCHEMA.damage_ids[3]
    assert gone.any()
    canvas, touched = start(scene.image, series)
    assert touched[gone].all()
    assert not touched[series.masks[1] == 1].any(), "the house that touches it stays"
    below = np.where(np.arange(160) < 80, 0, 2)[None].repeat(128, 0)
    distance = np.linalg.norm(canvas[gone][:, None] - COLOURS[None], axis=2)
    assert (distance.argmin(axis=1) == below[gone]).mean() > 0.97
    assert (canvas[~touched] == scene.image[~touched]).all()


def test_a_rebuilt_building_shows_its_own_pixels_again() -> None:
    scene = village()
    series = hit(scene, Damage("fire", rebuild=1.0, label_safe=True), steps=2, share=0.06)
    back = (series.masks[1] == SCHEMA.damage_ids[3]) & (series.masks[2] == 1)
    assert back.any()
    first, _ = start(scene.image, series)
    second, touched = start(first.astype(np.uint8), series, step=1)
    assert np.abs(first[back] - scene.image[back]).mean() > 30, "it was gone"
    assert touched[back].mean() > 0.9
    assert np.abs(second[back] - scene.image[back]).mean() < 2


def test_a_model_that_knows_damage_starts_from_what_stood_there() -> None:
    scene = village()
    series = hit(scene, Damage("earthquake"))
    assert len({event.to_class for event in series.events}) > 1
    canvas, touched = start(scene.image, series, draws_damage=True)
    assert (canvas == scene.image).all()
    assert not touched.any()


STATES = [[0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        # Roofs that are still there are buildings to a model that knows no states; what is destroyed is not.
        (("building", "rangeland"), [[0, 1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 1, 0]]),
        (("building", "minor-damage", "major-damage", "destroyed"), [*STATES, [1, 0, 1, 0, 0, 0, 0]]),
        (("no-damage", "minor-damage", "major-damage", "destroyed"), [*STATES, [1, 0, 1, 0, 0, 0, 0]]),
    ],
)
def test_label_planes_of_damaged_buildings(classes, expected) -> None:
    values = np.array([[0, 1, 2, 3, 4, 5, 255]], np.uint8)  # land, building, grass, minor, major, destroyed, unknown
    planes = label_planes(values, SCHEMA, {"classes": classes, "unknown_plane": True})
    assert planes[:, 0].tolist() == expected
