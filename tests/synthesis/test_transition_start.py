"""The exemplar start of a transition: pixels of the new class, from the same tile or from another scene."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, MaskSeries, Scene
from changen_cli.events import EventRules, Transitions, collect_exemplars, simulate_series
from changen_cli.synthesis.exemplars import ExemplarStart
from changen_cli.synthesis.textures import best_textures, collect_textures

SCHEMA = ClassSchema(("building", "land", "grass", "water"))
COLOURS = np.array([(200, 60, 50), (190, 170, 140), (60, 130, 60), (30, 60, 110)], dtype=float)


def country(seed: int = 0, *, water: int = 40, name: str = "here") -> Scene:
    """Land and grass side by side, a lake across both, and a few houses on the land."""
    rng = np.random.default_rng(seed)
    mask = np.ones((160, 200), np.uint8)
    mask[:, 100:] = 2
    mask[160 - water :] = 3
    for col in (12, 40, 68):
        mask[12:26, col : col + 16] = 0
    image = COLOURS[mask] + rng.normal(0, 4, (*mask.shape, 3))
    return Scene(name, name, np.clip(image, 0, 255).astype(np.uint8), mask)


def changed(scene: Scene, pairs: list[tuple[int, int]], drawable: tuple[int, ...] = ()) -> MaskSeries:
    rates = np.zeros((256, 256))
    for pair in pairs:
        rates[pair] = 0.2
    return simulate_series(
        scene,
        EventRules(SCHEMA, ("transition",), (0.08, 0.08), transitions=Transitions(rates, 0.5), drawable=drawable),
        steps=1,
        library=collect_exemplars(scene, SCHEMA),
        rng_for_step=lambda t: derive_rng(0, t),
    )


def start(scene: Scene, series: MaskSeries, **given: object) -> tuple[np.ndarray, np.ndarray]:
    return ExemplarStart(**given).start(  # type: ignore[arg-type]
        scene.image, series.masks, series.instances[0], series.events, SCHEMA, scene.id, derive_rng(1)
    )


def test_what_changes_shows_its_new_class_and_the_rest_stays() -> None:
    scene = country()
    series = changed(scene, [(1, 2), (2, 1), (2, 3), (1, 3)])
    assert series.reports[0].met
    canvas, touched = start(scene, series)
    changes = series.masks[0] != series.masks[1]
    assert (touched == changes).all()
    assert (canvas[~touched] == scene.image[~touched]).all()
    distance = np.linalg.norm(canvas[changes][:, None] - COLOURS[None], axis=2)
    assert (distance.argmin(axis=1) == series.masks[1][changes]).mean() > 0.97
    assert canvas[changes].std() > 3, "texture, not a smear"


def test_what_becomes_a_building_is_a_real_one() -> None:
    scene = country()
    series = changed(scene, [(1, 0), (2, 0)])
    assert series.events
    assert all(event.placement is not None and event.instance for event in series.events)
    canvas, _ = start(scene, series)
    new = (series.masks[0] != series.masks[1]) & (series.masks[1] == 0)
    distance = np.linalg.norm(canvas[new][:, None] - COLOURS[None], axis=2)
    assert (distance.argmin(axis=1) == 0).mean() > 0.8


def test_a_building_that_becomes_land_goes_with_its_margin() -> None:
    scene = country()
    series = changed(scene, [(0, 1)])
    assert series.events
    canvas, touched = start(scene, series)
    gone = series.masks[0] != series.masks[1]
    assert touched[gone].all() and touched.sum() > gone.sum()
    assert np.linalg.norm(canvas[gone] - COLOURS[1], axis=1).max() < 60


def test_another_scene_helps_out() -> None:
    dry, wet = country(water=0), country(1, water=80, name="there")
    assert not changed(dry, [(1, 3)]).events, "nothing to draw water from"
    textures = best_textures(texture for scene in (dry, wet) for texture in collect_textures(scene, SCHEMA))
    assert {(texture.scene_id, texture.class_id) for texture in textures} >= {("there", 3), ("here", 1), ("here", 2)}
    assert all((texture.image.shape[:2] == texture.usable.shape) for texture in textures)
    series = changed(dry, [(1, 3)], drawable=(3,))
    assert series.reports[0].met
    canvas, touched = start(dry, series, textures=textures)
    assert np.linalg.norm(canvas[touched] - COLOURS[3], axis=1).mean() < 20
    again, _ = start(dry, series, textures=textures)
    assert (canvas == again).all()


def test_textures_leave_out_the_unknown_and_the_rare() -> None:
    mask = np.full((300, 260), 1, np.uint8)
    mask[:4, :4] = 2
    mask[:, 200:] = 255
    scene = Scene("s", "g", np.zeros((*mask.shape, 3), np.uint8), mask)
    (texture,) = collect_textures(scene, ClassSchema(("unlabelled", "land", "grass")))
    assert texture.class_id == 1
    assert texture.image.shape == (192, 192, 3)
    assert collect_textures(Scene("s", "g", scene.image), SCHEMA) == []


def test_a_building_site_shows_bare_land_on_its_plot_only() -> None:
    scene = country()
    rules = EventRules(SCHEMA, ("grow",), (0.03, 0.03), surfaces=frozenset({2}))  # on grass, which has to be cleared
    library = collect_exemplars(scene, SCHEMA)
    series = simulate_series(scene, rules, steps=1, library=library, rng_for_step=lambda t: derive_rng(1, t))
    plots = [event for event in series.events if event.stage == "cleared"]
    assert plots
    canvas, touched = start(scene, series)
    changes = series.masks[0] != series.masks[1]
    cleared = changes & (series.masks[1] == 1)
    assert (touched | ~cleared).all()
    assert not (touched & ~ndimage.binary_dilation(changes, iterations=20)).any()
    distance = np.linalg.norm(canvas[cleared][:, None] - COLOURS[None], axis=2)
    assert (distance.argmin(axis=1) == 1).mean() > 0.97
    only_plots = [event for event in series.events if event.placement is None]
    alone = ExemplarStart().start(
        scene.image, series.masks, series.instances[0], only_plots, SCHEMA, scene.id, derive_rng(1)
    )[1]
    assert (alone == cleared).all()
