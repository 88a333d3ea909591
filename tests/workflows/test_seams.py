"""The seam measure on changes whose rims are known to be flawless or flawed."""

from __future__ import annotations

import numpy as np

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.workflows import measures, seams
from tests.workflows.houses import make_scene

SCHEMA = ClassSchema()
SMOOTH, ROUGH = 40, 80
LIGHT = np.array([90, 60, 50])


def rims(step: float, count: int = 12) -> list[tuple[str, seams.RimSet]]:
    """Rims of flawless changes, or of ones with a step in brightness of what was redrawn.

    Creations are made from buildings of another scene whose ground is twice as rough: where they
    stand must not count as a flaw.
    """
    found = []
    for seed in range(count):
        for kind in ("create", "remove"):
            scene, other = make_scene(seed, contrast=SMOOTH), make_scene(50 + seed, contrast=ROUGH)
            series = simulate_series(
                scene,
                EventRules(SCHEMA, (kind,), (0.02, 0.03)),
                steps=1,
                library=collect_exemplars(other, SCHEMA),
                rng_for_step=lambda index, seed=seed: derive_rng(seed, index),
            )
            # What a perfect generator would draw: the ground that is there, and the light of a roof where one stands.
            masks = (series.masks == 1)[..., None].astype(float)
            truth = scene.image + (masks[1] - masks[0]) * LIGHT
            area = measures.within((masks[0] != masks[1])[..., 0], 6)
            area &= ~measures.within((masks.min(axis=0) == 1)[..., 0], 1)
            after = scene.image.copy()
            after[area] = np.clip(truth + step, 0, 255).astype(np.uint8)[area]
            after[1::3, 1::3, 2] ^= area[1::3, 1::3]  # every pixel was drawn anew, if alike
            events = [event for event in series.events if event.time_index == 0]
            rng = np.random.default_rng(seed)
            scenes = {scene.id: scene, other.id: other}
            sets = seams.rim_sets(scene, after, series.masks, series.instances, events, SCHEMA, scenes, rng)
            found += [(scene.id, rim) for rim in sets]
    return found


def test_seams_are_seen_where_there_are_seams() -> None:
    flawed, kinds = rims(70), ("create", "remove")
    assert {rim.kind for _, rim in flawed} == set(kinds)
    for kind in kinds:
        assert seams.seam_probe(flawed, kind) > 0.9
    assert np.isnan(seams.seam_probe(flawed[:6], "create"))
    assert np.isnan(seams.seam_probe(flawed, "remove", "site", "ground"))


def test_other_ground_is_no_seam() -> None:
    # From a dozen scenes the figure spreads by about 0.1 around 0.55; a flaw gives more than 0.9, see above.
    flawless = rims(0)
    for kind in ("create", "remove"):
        assert seams.seam_probe(flawless, kind) < 0.7
    assert seams.seam_probe(flawless, "create", "site", "ground") < 0.7


def test_nothing_redrawn_has_no_rim() -> None:
    scene = make_scene()
    masks = np.stack([scene.mask, scene.mask])
    instances = np.stack([scene.instances, scene.instances])
    rng = np.random.default_rng(0)
    assert seams.rim_sets(scene, scene.image, masks, instances, [], SCHEMA, {}, rng) == []
