from __future__ import annotations

import numpy as np
import pytest

from changen_cli.core.seeding import derive_rng
from changen_cli.synthesis.nuisance import reacquire


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (60, 90, 3)).astype(np.uint8)


def test_the_same_seed_gives_the_same_bytes(image) -> None:
    first, drawn = reacquire(image, derive_rng(1, "a"))
    second, again = reacquire(image, derive_rng(1, "a"))
    other, _ = reacquire(image, derive_rng(1, "b"))
    assert (first == second).all()
    assert drawn == again
    assert (first != other).any()
    assert first.dtype == np.uint8 and first.shape == image.shape
    assert all(isinstance(value, float) for value in drawn.values())


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3)])
def test_any_shape(shape) -> None:
    out, _ = reacquire(np.full(shape, 90, np.uint8), derive_rng(0))
    assert out.shape == shape


def test_the_input_is_left_alone(image) -> None:
    before = image.copy()
    reacquire(image, derive_rng(0))
    assert (image == before).all()


def test_values_at_the_ends_do_not_wrap_round() -> None:
    black, _ = reacquire(np.zeros((40, 40, 3), np.uint8), derive_rng(3))
    white, _ = reacquire(np.full((40, 40, 3), 255, np.uint8), derive_rng(3))
    assert black.max() < 40
    assert white.min() > 180


def test_no_date_stands_out(image) -> None:
    """Sharpness, level and noise of date 0 over date 1 lie on both sides of one: neither is always the clean one."""
    sharper, brighter, noisier = [], [], []
    flat = np.full((64, 64, 3), 120, np.uint8)
    for seed in range(40):
        first, second = (reacquire(image, derive_rng(seed, date))[0].astype(float) for date in (0, 1))
        sharper.append(np.abs(np.diff(first, axis=0)).mean() > np.abs(np.diff(second, axis=0)).mean())
        brighter.append(first.mean() > second.mean())
        plain = [np.diff(reacquire(flat, derive_rng(seed, date))[0].astype(float), axis=0).std() for date in (0, 1)]
        noisier.append(plain[0] > plain[1])
    for tally in (sharper, brighter, noisier):
        assert 8 <= sum(tally) <= 32


def test_hardly_a_pixel_is_identical_between_dates(image) -> None:
    first, second = (reacquire(image, derive_rng(0, date))[0] for date in (0, 1))
    assert (first == second).all(axis=-1).mean() < 0.05
