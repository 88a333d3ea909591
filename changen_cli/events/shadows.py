"""Where the shadows of a tile fall, as far as its picture tells."""

from __future__ import annotations

import math

import numpy as np

from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.events.regions import dilate

_DIRECTIONS = 16
_REACH = 3  # thinned pixels beyond an object's edge where its shadow is looked for
_FEWEST = 100
_CONTRAST = 8.0  # grey levels between the sunny and the shady side, ...
_CLEAR = 1.4  # ... and how many times more than the rest of the variation around objects


def shadow_direction(image: UInt8Array, objects: BoolArray) -> float | None:
    """Find the direction in which ground beside objects is darkest.

    The mean brightness of the ground just beyond the objects is taken in 16 directions; a shadow shows as one dark and
    one bright side, a cosine over the directions.

    Args:
        image: uint8 ``[H, W, 3]``.
        objects: bool ``[H, W]``, what casts shadows.

    Returns:
        Angle in (-pi, pi], counter-clockwise in (col, -row) axes; None when no side is clearly darker.
    """
    luma = image[::2, ::2].mean(axis=-1, dtype=np.float32)
    built = objects[::2, ::2]
    ground = ~dilate(built, 1)
    angles = np.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
    means = np.zeros(_DIRECTIONS)
    for index, angle in enumerate(angles):
        row, col = round(-_REACH * math.sin(angle)), round(_REACH * math.cos(angle))
        beyond = np.zeros_like(built)
        height, width = built.shape
        beyond[max(row, 0) : height + min(row, 0), max(col, 0) : width + min(col, 0)] = built[
            max(-row, 0) : height + min(-row, 0), max(-col, 0) : width + min(-col, 0)
        ]
        beyond &= ground
        if beyond.sum() < _FEWEST:
            return None
        means[index] = luma[beyond].mean()
    wave = 2 * np.mean(means * np.exp(-1j * angles))
    rest = means - means.mean() - np.real(wave * np.exp(1j * angles))
    if 2 * abs(wave) < _CONTRAST or abs(wave) < _CLEAR * rest.std():
        return None
    return float(np.angle(-np.conj(wave)))
