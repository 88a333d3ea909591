"""Colour grain on pictures whose grain is known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from changen_cli.synthesis.grain import match_grain

LUMA = np.array([0.299, 0.587, 0.114])
AREA = np.zeros((96, 96), bool)
AREA[24:72, 24:72] = True


def picture(colour_grain: float, seed: int = 0) -> np.ndarray:
    """Grey noise all over, and noise in the colours; one half of the middle is a blue roof."""
    rng = np.random.default_rng(seed)
    image = 120 + rng.normal(0, 6, (96, 96, 1)) + rng.normal(0, colour_grain, (96, 96, 3))
    image[24:72, 48:72] += np.array([-60, -20, 70])
    return image.astype(np.float32)


def grain(image: np.ndarray, where: np.ndarray) -> float:
    colour = image - (image @ LUMA)[..., None]
    fine = colour - ndimage.gaussian_filter(colour, (1, 1, 0))
    return float(np.linalg.norm(fine, axis=-1)[where].mean())


def test_grain_comes_down_to_that_of_the_surroundings() -> None:
    image, patch = picture(1), picture(5, seed=1)
    inner = ndimage.binary_erosion(AREA, iterations=5) & (np.abs(np.arange(96) - 48) > 4)  # off the roof's edges
    matched = match_grain(patch, image, None, AREA)
    assert grain(patch, inner) > 3 * grain(image, inner)
    assert grain(matched, inner) < grain(patch, inner) / 2
    assert (matched[~AREA] == patch[~AREA]).all()
    # Brightness has all its detail still, and the roof its edge.
    np.testing.assert_allclose(matched @ LUMA, patch @ LUMA, atol=1e-3)
    step = matched[30:66, 50].mean(axis=0) - matched[30:66, 45].mean(axis=0)
    np.testing.assert_allclose(step, [-60, -20, 70], atol=6)


def test_grain_comes_down_to_that_of_the_start() -> None:
    everything = np.ones_like(AREA)
    start, patch = picture(1), picture(5, seed=1)
    assert (match_grain(patch, patch, None, everything) == patch).all()  # nothing real to compare with
    matched = match_grain(patch, patch, start, everything)
    off_edges = ndimage.binary_erosion(AREA, iterations=5) & (np.abs(np.arange(96) - 48) > 4)
    assert grain(matched, off_edges) < grain(patch, off_edges) / 2


def test_grain_is_never_added() -> None:
    plain = picture(0.2)
    assert grain(match_grain(plain, picture(4, seed=1), picture(4, seed=2), AREA), AREA) <= grain(plain, AREA)
    nothing = np.zeros_like(AREA)
    assert (match_grain(plain, plain, None, nothing) == plain).all()
