"""Measures on synthetic input whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.synthesis import measures

RNG = np.random.default_rng(0)


def ground(seed: int, size: int = 96, sigma: float = 1.5) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 60, (size, size, 3)), (sigma, sigma, 0))
    return np.clip(noise + np.array([110, 100, 90]), 0, 255).astype(np.uint8)


def disc(size: int = 96, radius: int = 22) -> np.ndarray:
    rows, cols = np.mgrid[:size, :size] - size // 2
    return np.hypot(rows, cols) < radius


def test_frechet_distance_of_gaussians() -> None:
    # |shift|² + Σ (σa − σb)² for independent axes
    a, b = RNG.normal(0, 1, (40_000, 3)), RNG.normal((1, 0, 0), (1, 2, 1), (40_000, 3))
    assert measures.frechet_distance(a, b) == pytest.approx(1 + 1, abs=0.06)
    assert measures.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert measures.frechet_distance(a, b) == pytest.approx(measures.frechet_distance(b, a))


def test_frechet_distance_sees_correlation() -> None:
    a = RNG.normal(0, 1, (20_000, 2))
    b = a @ np.array([[1, 0.9], [0, np.sqrt(1 - 0.81)]])  # the same variances, correlated
    # tr(2 I) + tr(2 I) − 2 tr(Σb^½), whose eigenvalues are √1.9 and √0.1
    assert measures.frechet_distance(a, b) == pytest.approx(4 - 2 * (np.sqrt(1.9) + np.sqrt(0.1)), abs=0.05)


def test_frechet_distance_with_fewer_vectors_than_dimensions() -> None:
    a = RNG.normal(size=(5, 40))
    assert measures.frechet_distance(a, a + 1) == pytest.approx(40)


def test_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    values = [measures.kernel_distance(RNG.normal(size=(30, 8)), RNG.normal(size=(30, 8))) for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200) + 1e-3
    assert min(values) < 0
    assert measures.kernel_distance(RNG.normal(size=(30, 8)), RNG.normal(1, 1, (30, 8))) > 10 * np.std(values)


@pytest.mark.parametrize("distance", [measures.frechet_distance, measures.kernel_distance])
def test_distances_refuse_what_they_cannot_compare(distance) -> None:
    with pytest.raises(ValueError, match="two sets"):
        distance(np.zeros((1, 4)), np.zeros((5, 4)))
    with pytest.raises(ValueError, match="two sets"):
        distance(np.zeros((5, 4)), np.zeros((5, 3)))


def test_grain_and_sharpness() -> None:
    image, everywhere = ground(1), np.ones((96, 96), bool)
    real = np.stack(measures.texture_patches(image, everywhere))
    assert len(real) == 49
    assert measures.grain(real, real) == 1
    noisy = np.clip(image + np.random.default_rng(2).normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    blurred = ndimage.gaussian_filter(image.astype(float), (1.5, 1.5, 0)).astype(np.uint8)
    assert measures.grain(np.stack(measures.texture_patches(noisy, everywhere)), real) > 1.5
    assert measures.sharpness(np.stack(measures.texture_patches(blurred, everywhere)), real) < 0.7
    assert measures.texture_patches(image, ~everywhere) == []


def test_redrawn_area_has_no_holes() -> None:
    before, area = ground(3), disc()
    after = before.copy()
    after[area] += 1
    after[48, 48] = before[48, 48]
    assert (measures.redrawn_area(before, after) == area).all()
    assert not measures.redrawn_area(before, before).any()


def test_seam_ratio() -> None:
    before, changed = ground(4), disc(radius=14)
    area = disc()
    same = np.where(area[..., None], np.clip(before.astype(int) + 1, 0, 255), before).astype(np.uint8)
    hard = np.where(area[..., None], np.clip(before.astype(int) + 60, 0, 255), before).astype(np.uint8)
    assert measures.seam_ratio(before, same, changed) == pytest.approx(1, abs=0.1)
    assert measures.seam_ratio(before, hard, changed) > 1.5
    assert np.isnan(measures.seam_ratio(before, before, changed))


def test_rim_statistics_name_what_was_planted() -> None:
    area, usable = disc(), np.ones((96, 96), bool)
    index = {name: i for i, name in enumerate(measures.RIM_STATISTICS)}

    def change(alter) -> np.ndarray:
        """Mean change of every figure by an alteration inside the area, over a few images."""
        moved = []
        for seed in range(6):
            image = ground(10 + seed)
            altered = np.clip(alter(image.astype(float), np.random.default_rng(seed)), 0, 255)
            drawn = np.where(area[..., None], altered, image).astype(np.uint8)
            moved.append(measures.rim_statistics(drawn, area, usable) - measures.rim_statistics(image, area, usable))
        return np.mean(moved, axis=0)

    brighter = change(lambda image, rng: image + 40)
    assert brighter[index["luma_step"]] > 0.5
    assert brighter[index["across"]] > 0.3
    assert abs(brighter[index["chroma_step"]]) < 0.1
    reddened = change(lambda image, rng: image + np.array([30, 0, -30]))
    assert reddened[index["chroma_step"]] > 0.5
    smooth = change(lambda image, rng: ndimage.gaussian_filter(image, (2, 2, 0)))
    assert smooth[index["fine_luma"]] < -0.3
    grainy = change(lambda image, rng: image + rng.normal(0, 15, image.shape))
    assert grainy[index["fine_chroma"]] > 0.1
    assert grainy[index["chroma_noise"]] > 0.1


def test_rim_statistics_need_a_rim() -> None:
    assert measures.rim_statistics(ground(5), disc(), np.zeros((96, 96), bool)) is None
    assert measures.rim_statistics(ground(5), np.zeros((96, 96), bool), np.ones((96, 96), bool)) is None


def test_auc() -> None:
    assert measures.auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert measures.auc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
    assert measures.auc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5


def test_probe_finds_nothing_where_there_is_nothing() -> None:
    places = [f"p{i % 10}" for i in range(200)]
    values = [
        measures.probe_auc(RNG.normal(size=(200, 6)), RNG.normal(size=(200, 6)), places, penalty=1.0) for _ in range(10)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=0.04)


def test_probe_finds_what_is_planted_on_places_it_has_not_seen() -> None:
    places = [f"p{i % 10}" for i in range(200)]
    real = RNG.normal(size=(200, 6))
    assert measures.probe_auc(RNG.normal((3, 0, 0, 0, 0, 0), 1, (200, 6)), real, places) > 0.97
    assert measures.probe_auc(RNG.normal((0.5, 0, 0, 0, 0, 0), 1, (200, 6)), real, places) == pytest.approx(
        0.64, abs=0.06
    )


def test_probe_does_not_learn_places_by_heart() -> None:
    # What tells drawn from real differs by place, and in both directions equally often.
    places = [f"p{i // 20}" for i in range(200)]
    sign = np.repeat(np.where(np.arange(10) % 2, 1.0, -1.0), 20)[:, None]
    drawn, real = RNG.normal(size=(200, 3)) + 2 * sign, RNG.normal(size=(200, 3))
    assert measures.probe_auc(drawn, real, places) < 0.65


def test_probe_needs_two_places() -> None:
    assert np.isnan(measures.probe_auc(RNG.normal(size=(20, 3)), RNG.normal(size=(20, 3)), ["here"] * 20))
