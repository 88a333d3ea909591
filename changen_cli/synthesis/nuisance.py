"""Variation without change: how one acquisition differs from the next of the same ground."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import UInt8Array


def reacquire(image: UInt8Array, rng: np.random.Generator) -> tuple[UInt8Array, dict[str, float]]:
    """Pass a whole date through a simulated acquisition: optics, gain and sensor noise.

    Every date of a series goes through it, date 0 too, with its own draw. So no pixel is identical between two dates,
    and no date stands out as the clean or the generated one.

    Args:
        image: uint8 ``[H, W, 3]``.
        rng: Source of all randomness.

    Returns:
        The image as acquired, and the draw: blur sigma in px, noise in grey levels, gain and offset.
    """
    sigma, noise = rng.uniform(0.35, 0.6), rng.uniform(1.0, 2.5)
    gain = np.exp(rng.normal(0, 0.04)) * np.exp(rng.normal(0, 0.015, size=3))
    offset = rng.normal(0, 2.0)
    values = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), truncate=3.0)
    # Haze and illumination vary slowly over a scene.
    coarse = rng.normal(0, 0.015, size=(4, 4)).astype(np.float32)
    rows, cols = (_interpolation(extent) for extent in image.shape[:2])
    values *= (1 + rows @ coarse @ cols.T)[..., None] * gain.astype(np.float32)
    values += rng.standard_normal(values.shape, dtype=np.float32) * np.float32(noise)
    values += np.float32(offset)
    drawn = {"blur_px": sigma, "noise": noise, "gain": float(np.mean(gain)), "offset": offset}
    result = np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)
    return result, {key: round(float(value), 4) for key, value in drawn.items()}


def _interpolation(extent: int) -> npt.NDArray[np.float32]:
    """Weights ``[extent, 4]`` that interpolate four values linearly over ``extent`` pixels."""
    position = np.linspace(0, 3, extent, dtype=np.float32)
    return np.clip(1 - np.abs(position[:, None] - np.arange(4, dtype=np.float32)), 0, 1)
