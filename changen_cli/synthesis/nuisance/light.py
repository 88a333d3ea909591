"""Light that varies over a tile: shadows that move and deepen, slow gain, thin cloud and its shadow."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.synthesis.nuisance.acquisition import Acquisition
from changen_cli.synthesis.nuisance.colour import greenness
from changen_cli.synthesis.nuisance.fields import FloatArray, child_rng, fractal_field, smooth_field

_AROUND_PX = 24
_DEPTH = np.array([0.95, 0.85, 0.70], dtype=np.float32)
"""Log ratio of sunlit to shaded ground in red, green and blue: shadows are lit by the blue sky."""
_MOST = 0.8
_FIELD_CELLS, _CLOUD_CELLS, _CLOUD_OCTAVES = 4, 3, 5
_CLOUD = np.array([236.0, 238.0, 242.0], dtype=np.float32)
_FIELD, _CLOUDS = 3, 4


def find_shadows(image: UInt8Array) -> FloatArray:
    """How much of a cast shadow every pixel is: dark for its surroundings, and no plant.

    Args:
        image: uint8 ``[h, w, 3]``.

    Returns:
        float32 ``[h, w]`` in [0, 1].
    """
    values = image.astype(np.float32) / np.float32(255)
    luma = values.mean(axis=-1)
    around = ndimage.uniform_filter(luma, 2 * _AROUND_PX + 1, mode="reflect")
    dark = np.clip((0.66 * around - luma) / (0.22 * around + 0.02), 0, 1)
    return dark * (1 - greenness(values))


def relight(values: FloatArray, image: UInt8Array, built: BoolArray | None, drawn: Acquisition) -> None:
    """Let shadows move and deepen, in place: the source's are lifted, and cast again where they now fall.

    Args:
        values: float32 ``[H, W, 3]``, 0 to 255.
        image: uint8 ``[H, W, 3]``, where shadows are looked for.
        built: bool ``[H, W]``, what stands above the ground, and above the shadows on it; None where nobody knows.
        drawn: The date.
    """
    if drawn.shadow_depth == 1 and not any(drawn.shadow_shift):
        return
    height, width = image.shape[:2]
    small = np.asarray(Image.fromarray(image).reduce(2))
    shaded = find_shadows(small)
    ground = 1.0 if built is None else ~built[::2, ::2]
    moved = ndimage.shift(shaded, [value / 2 for value in drawn.shadow_shift], order=1, mode="nearest")
    less = np.clip((shaded - np.float32(drawn.shadow_depth) * moved) * ground, -_MOST, _MOST)
    less = np.asarray(Image.fromarray(less).resize((width, height), Image.Resampling.BILINEAR))
    for channel, depth in enumerate(_DEPTH):
        values[..., channel] *= np.exp(depth * less)


def vary_gain(values: FloatArray, drawn: Acquisition) -> None:
    """Apply a gain that varies slowly over the tile, in place; ``values`` float32 ``[H, W, 3]``."""
    if drawn.field:
        place = smooth_field(values.shape[:2], _FIELD_CELLS, child_rng(drawn.seed, _FIELD))
        values *= np.exp(np.float32(drawn.field) * place)[..., None]


def add_clouds(values: FloatArray, drawn: Acquisition) -> None:
    """Draw thin cloud and, beside it, its shadow, in place; ``values`` float32 ``[H, W, 3]``, 0 to 255."""
    if not drawn.cloud:
        return
    height, width = values.shape[:2]
    away = [round(value) for value in drawn.cloud_shadow]
    rows, cols = abs(away[0]), abs(away[1])
    whole = fractal_field((height + rows, width + cols), _CLOUD_CELLS, _CLOUD_OCTAVES, child_rng(drawn.seed, _CLOUDS))
    opacity = np.float32(drawn.cloud) * np.clip((whole - 0.2) / 1.6, 0, 1)
    row, col = max(away[0], 0), max(away[1], 0)
    above = opacity[row : row + height, col : col + width]
    beside = opacity[row - away[0] : row - away[0] + height, col - away[1] : col - away[1] + width]
    values *= (1 - np.float32(0.6) * beside)[..., None]
    values += above[..., None] * (_CLOUD - values)
