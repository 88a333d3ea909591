"""The exemplar start of a swap: ground where the object was, the object itself where it is."""

from __future__ import annotations

import numpy as np

from changen_cli.core.proposals import PROPOSALS
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import Scene
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.synthesis.exemplars import ExemplarStart

GROUND, ROOF = (120, 140, 90), (200, 60, 50)


def test_the_object_is_gone_from_one_place_and_stands_at_the_other() -> None:
    mask = np.zeros((160, 160), np.uint8)
    for col in (12, 62, 112):
        mask[20:40, col : col + 26] = 1
    colours = np.where(mask[..., None] == 1, ROOF, GROUND)
    image = np.clip(colours + np.random.default_rng(0).normal(0, 4, (160, 160, 3)), 0, 255).astype(np.uint8)
    scene = Scene("s", "s", image, mask)
    series = simulate_series(
        scene,
        EventRules(PROPOSALS, ("swap",), (0.08, 0.08)),
        steps=1,
        library=collect_exemplars(scene, PROPOSALS),
        rng_for_step=lambda t: derive_rng(0, t),
    )
    assert len(series.events) >= 2 and series.reports[0].met
    canvas, touched = ExemplarStart().start(
        image, series.masks, series.instances[0], series.events, PROPOSALS, "s", derive_rng(1)
    )
    changed = series.masks[0] != series.masks[1]
    assert (canvas[~touched] == image[~touched]).all()
    assert touched[changed].mean() > 0.99
    rooflike = np.abs(canvas - ROOF).max(axis=-1) < np.abs(canvas - GROUND).max(axis=-1)
    assert (rooflike == (series.masks[1] == 1))[changed].mean() > 0.95, "the mask of the later date is what it shows"
