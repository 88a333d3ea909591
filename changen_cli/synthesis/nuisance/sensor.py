"""What the sensor and the product do: optics, sampling, noise, compression."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageFilter

from changen_cli.core.types import UInt8Array
from changen_cli.synthesis.nuisance.acquisition import Acquisition
from changen_cli.synthesis.nuisance.fields import FloatArray, child_rng
from changen_cli.synthesis.nuisance.geometry import sample

_NOISE = 5
_WIDEST_TAPS = 0.8
_SHOT = 0.5
"""Share of the noise's variance, at mid grey, that grows with the signal."""


def sense(values: FloatArray, drawn: Acquisition) -> UInt8Array:
    """Blur, sample the displaced content at the sensor's distance, add noise there, and sample back.

    Args:
        values: float32 ``[H, W, 3]``, 0 to 255; used up.
        drawn: The date.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    height, width = values.shape[:2]
    grid = max(1, round(width / drawn.resample)), max(1, round(height / drawn.resample))
    # Sampling is an optics of its own: a pixel of the sensor averages its footprint.
    sigma = math.hypot(drawn.blur, 0.3 * math.sqrt(drawn.resample**2 - 1))
    picture = blur(Image.fromarray(_as_uint8(values)), sigma)
    picture = sample(picture, drawn, grid)
    if drawn.noise:
        picture = Image.fromarray(_with_noise(np.asarray(picture), drawn))
    if grid != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def blur(picture: Image.Image, sigma: float) -> Image.Image:
    """Blur by a point spread of ``sigma`` pixels; a narrow one by three taps of the same variance."""
    if sigma > _WIDEST_TAPS:
        return picture.filter(ImageFilter.GaussianBlur(sigma))
    if not sigma or min(picture.size) < 3:
        return picture
    line = np.array([sigma**2 / 2, 1 - sigma**2, sigma**2 / 2])
    return picture.filter(ImageFilter.Kernel((3, 3), np.outer(line, line).ravel().tolist(), scale=1))


def _with_noise(image: UInt8Array, drawn: Acquisition) -> UInt8Array:
    """Add noise that grows with the signal; two thirds of its variance are common to the channels."""
    grain = child_rng(drawn.seed, _NOISE).standard_normal(image.shape[:2], dtype=np.float32)
    spread = np.sqrt(1 - _SHOT + _SHOT * np.arange(256, dtype=np.float32) / 128) * np.float32(drawn.noise)
    grain *= spread[image[..., 1]]
    noisy = image.astype(np.float32)
    for channel in range(3):
        # Far away in a field of independent values, there is another one.
        noisy[..., channel] += 0.82 * grain + 0.57 * np.roll(grain, (17 + 31 * channel, 23 + 13 * channel), (0, 1))
    return _as_uint8(noisy)


def compress(image: UInt8Array, quality: int) -> UInt8Array:
    """Pass an image through JPEG at full colour resolution; 100 leaves it as it is."""
    if quality >= 100:
        return image
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality, subsampling=0)
    return np.asarray(Image.open(stored, formats=("JPEG",)))


def _as_uint8(values: FloatArray) -> UInt8Array:
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)
