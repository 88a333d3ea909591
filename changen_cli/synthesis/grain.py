"""Colour grain: drawn pixels must not be noisier in colour than the picture they are pasted into."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray

FloatArray = npt.NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_FINE_PX = 1.0
"""Detail narrower than about twice this is grain, or the edge of something coloured."""
_NEAR_PX = 16.0
"""Over such a distance the surroundings' grain is taken to be the same."""
_HERE_PX = 3.0
"""A start shows the same things at the same place, edges too."""
_TYPICAL = 1.5
_EDGE = 4.0
"""Detail this many times stronger than usual is no grain: the edge of a blue roof stays as it is."""


def match_grain(patch: FloatArray, image: FloatArray, start: FloatArray | None, area: BoolArray) -> FloatArray:
    """Bring the fine colour detail of drawn pixels down to that of real ones.

    How much of it there is, is a trait of sensor and compression (most pictures were stored with colours at half
    resolution), and a denoiser leaves more. Only the colour differences are damped, and never raised; brightness keeps
    every detail.

    Args:
        patch: float32 ``[h, w, 3]``, 0..255, as denoised.
        image: float32 ``[h, w, 3]``, the picture before, whose pixels outside ``area`` are real.
        start: float32 ``[h, w, 3]``, what it was denoised from where that was made of real pixels; None else.
        area: bool ``[h, w]``, the pixels that were drawn.

    Returns:
        The patch, float32 ``[h, w, 3]``; as it was where there is no real pixel to compare with.
    """
    if not area.any():
        return patch
    drawn = _fine_colour(patch)
    strength = np.linalg.norm(drawn, axis=-1)
    gain = np.ones(area.shape, dtype=np.float32)
    if not area.all():
        usual = max(float(np.median(strength[area])), 1e-3)
        # Edges must not pass for grain in the means.
        made, wanted = np.minimum(strength, _TYPICAL * usual), np.minimum(_strength(image), _TYPICAL * usual)
        ratio = np.minimum(_local_mean(wanted, ~area, _NEAR_PX) / (_local_mean(made, area, _NEAR_PX) + 1e-3), 1)
        gain = ratio + (1 - ratio) * np.clip(strength / (_EDGE * usual), 0, 1) ** 2
    if start is not None:
        ratio = _local_mean(_strength(start), area, _HERE_PX) / (_local_mean(strength, area, _HERE_PX) + 1e-3)
        gain = np.minimum(gain, ratio)
    return np.asarray(patch - ((1 - gain) * area)[..., None] * drawn, dtype=np.float32)


def _strength(image: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(_fine_colour(image), axis=-1), dtype=np.float32)


def _fine_colour(image: FloatArray) -> FloatArray:
    """Fine detail of the colour differences ``[h, w, 3]``; it has no luma."""
    colour = image - (image @ _LUMA)[..., None]
    return np.asarray(colour - ndimage.gaussian_filter(colour, (_FINE_PX, _FINE_PX, 0)), dtype=np.float32)


def _local_mean(values: FloatArray, where: BoolArray, sigma: float) -> FloatArray:
    """Mean of the values at ``where`` near every pixel; of all of them where none is near."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma)
    overall = float(values[where].mean())
    # A faint prior keeps the quotient defined where the weight vanishes.
    return np.asarray((total + 1e-3 * overall) / (weight + 1e-3), dtype=np.float32)
