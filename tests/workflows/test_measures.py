"""Measures of drawn dates on simulated ones whose quality is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, Scene
from changen_cli.events import collect_exemplars, simulate_series
from changen_cli.workflows import measures

SCHEMA = ClassSchema()


def box(size: int, *corners: int) -> np.ndarray:
    area = np.zeros((size, size), bool)
    area[corners[0] : corners[1], corners[2] : corners[3]] = True
    return area


def test_label_agreement_counts_what_is_near() -> None:
    wanted = box(100, 20, 40, 20, 40) | box(100, 80, 95, 80, 95)  # the second is far from any change
    created, nothing = box(100, 20, 40, 20, 40), np.zeros((100, 100), bool)
    agreement = measures.LabelAgreement()
    agreement.add(box(100, 20, 40, 20, 30), wanted, created, nothing)
    figures = agreement.figures()
    assert figures["iou_create"] == figures["iou_all"] == pytest.approx(0.5)
    assert np.isnan(figures["iou_remove"]) and np.isnan(figures["still_building"])
    agreement.add(wanted, wanted, created, nothing)  # pooled over dates: (200 + 400) / (400 + 400)
    assert agreement.figures()["iou_create"] == pytest.approx(0.75)


def test_label_agreement_of_removals() -> None:
    removed, neighbour = box(100, 20, 40, 20, 40), box(100, 20, 40, 50, 60)
    nothing = np.zeros((100, 100), bool)
    agreement = measures.LabelAgreement()
    agreement.add(neighbour | box(100, 20, 25, 20, 40), neighbour, nothing, removed)
    figures = agreement.figures()
    assert figures["still_building"] == pytest.approx(0.25)
    assert figures["iou_remove"] == 0  # the neighbour starts 11 px away
    near = 6 * 20  # of the neighbour within 16 px; its upper and lower ends are within the circle too
    assert figures["iou_remove_ring"] == pytest.approx(near / (near + 100), abs=0.06)


def test_windows() -> None:
    image = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8)
    assert (measures.centred_window(image, 50, 40) == image[18:82, 8:72]).all()
    assert (measures.centred_window(image, 0, 79) == image[:64, 16:]).all()
    with pytest.raises(ValueError, match="no window"):
        measures.centred_window(image[:50], 10, 10)


def make_scene(seed: int = 0, size: int = 192) -> Scene:
    """Textured ground with bright buildings on a grid, every third place free."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, 60, (size, size, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    instances = np.zeros((size, size), np.int32)
    for index in range(16):
        row, col = divmod(index, 4)
        if index % 3 == 1:
            continue
        top, left = row * 46 + int(rng.integers(8, 16)), col * 46 + int(rng.integers(8, 16))
        instances[top : top + rng.integers(13, 19), left : left + rng.integers(13, 19)] = index + 1
    instances = np.searchsorted(np.unique(instances), instances).astype(np.int32)
    ground[instances > 0] += (90, 60, 50)
    image = np.clip(ground, 0, 255).astype(np.uint8)
    return Scene(f"s{seed}", f"s{seed}", image, (instances > 0).astype(np.uint8), instances)


def test_real_windows_show_their_kind() -> None:
    scenes = [make_scene(seed) for seed in range(3)]
    # An image that is its own mask tells what the windows show.
    shown = [replace(s, image=np.repeat(s.mask[..., None] * 255, 3, axis=2)) for s in scenes]
    rng = np.random.default_rng(0)
    buildings = measures.real_windows(shown, SCHEMA, "create", 12, rng)
    grounds = measures.real_windows(shown, SCHEMA, "remove", 12, rng)
    assert len(buildings) == len(grounds) == 12
    assert np.mean([window[30:34, 30:34].mean() for window in buildings]) > 150  # windows at the edge are shifted
    assert np.mean([window[30:34, 30:34].mean() for window in grounds]) < 60
    assert measures.real_windows([], SCHEMA, "create", 5, rng) == []
    assert len(measures.real_windows(scenes, SCHEMA, "create", 10_000, rng)) < 40


def rims(step: float, count: int = 8) -> list[tuple[str, measures.RimSet]]:
    """Rims of flawless changes, or of ones with a step in brightness of what was redrawn."""
    found = []
    for seed in range(count):
        scene = make_scene(seed)
        library = collect_exemplars(scene, SCHEMA)
        for kind in ("create", "remove"):
            series = simulate_series(
                scene, SCHEMA, steps=1, kinds=(kind,), change_area=(0.02, 0.03), negative=False, library=library,
                rng_for_step=lambda index, seed=seed: derive_rng(seed, index),
            )  # fmt: skip
            # Textures of the same kind, drawn afresh: what a perfect generator would do.
            after = scene.image.copy()
            changed = series.masks[0] != series.masks[1]
            area = measures.within(changed, 6) & ~measures.within((series.masks[1] == 1) & ~changed, 1)
            fresh = make_scene(100 + seed)
            noise = fresh.image.astype(float) - 70 * (fresh.mask == 1)[..., None]
            noise += np.array([90, 60, 50]) * (series.masks[1] == 1)[..., None] + step
            after[area] = np.clip(noise, 0, 255).astype(np.uint8)[area]
            events = [event for event in series.events if event.time_index == 0]
            rng = np.random.default_rng(seed)
            sets = measures.rim_sets(
                scene, after, series.masks, series.instances, events, SCHEMA, {scene.id: scene}, rng
            )
            found += [(scene.id, rim) for rim in sets]
    return found


def test_seams_are_seen_where_there_are_seams() -> None:
    flawed, kinds = rims(70), ("create", "remove")
    assert {rim.kind for _, rim in flawed} == set(kinds)
    for kind in kinds:
        assert measures.seam_probe(flawed, kind) > 0.9
    assert measures.seam_probe(flawed, "remove", "ground", "real") == pytest.approx(0.5)
    assert np.isnan(measures.seam_probe(flawed[:6], "create"))


def test_nothing_redrawn_has_no_rim() -> None:
    scene = make_scene()
    masks = np.stack([scene.mask, scene.mask])
    instances = np.stack([scene.instances, scene.instances])
    rng = np.random.default_rng(0)
    assert measures.rim_sets(scene, scene.image, masks, instances, [], SCHEMA, {}, rng) == []
