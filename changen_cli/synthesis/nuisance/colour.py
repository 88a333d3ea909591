"""What depends on the colour of a pixel alone: season, materials, sensor response and haze, as one table of colours."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from changen_cli.core.types import UInt8Array
from changen_cli.synthesis.nuisance.acquisition import Acquisition
from changen_cli.synthesis.nuisance.fields import FloatArray, child_rng, smooth_field

_GRID = 17
_SPARSE = 8
_PIVOT = 0.45
"""Brightness that the tone curve leaves as it is: exposure is the gain's."""
_KINDS = 5
"""Values per axis of the random answer of materials: neighbouring colours answer alike."""
VEIL = np.array([0.76, 0.81, 0.87], dtype=np.float32)
_DRY = np.array([1.28, 1.08, 0.80], dtype=np.float32)
_LUSH = np.array([0.78, 0.97, 0.74], dtype=np.float32)
_LOCAL_CELLS = (4, 24)
"""Neighbouring surfaces share their history over such a distance."""
_LOCAL, _MATERIALS = 2, (1, 6)


def _step(value: FloatArray, low: float, high: float) -> FloatArray:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def greenness(colours: FloatArray) -> FloatArray:
    """How much of a plant colours are, by their excess of green (Woebbecke et al., 1995).

    Args:
        colours: float32 ``[..., 3]`` in [0, 1].

    Returns:
        float32 ``[...]`` in [0, 1].
    """
    total = colours.sum(axis=-1) + 1e-3
    return _step((3 * colours[..., 1] - total) / total, 0.0, 0.16)


def with_season(colours: FloatArray, state: float) -> FloatArray:
    """Colours float32 ``[..., 3]`` in [0, 1] with their plants drier (``state`` < 0) or more lush (> 0)."""
    plants = greenness(colours)[..., None]
    target = colours.mean(axis=-1, keepdims=True) * 0.6 + colours * 0.4 if state < 0 else colours
    tinted = target * (_DRY if state < 0 else _LUSH)
    return colours + abs(state) * plants * (tinted - colours)


def with_materials(colours: FloatArray, spread: float, seen: UInt8Array, rng: np.random.Generator) -> FloatArray:
    """Colours of a table with a random gain that varies smoothly with the colour.

    Args:
        colours: float32 ``[n, n, n, 3]`` in [0, 1], by blue, green and red.
        spread: Standard deviation of the log gain.
        seen: uint8 ``[N, 3]``, colours of the tile: over them the log gain is 0 on average. Exposure is none of this.
        rng: Source of all randomness.
    """
    grey = rng.standard_normal((_KINDS,) * 3, dtype=np.float32)[..., None]
    tint = rng.standard_normal((*(_KINDS,) * 3, 3), dtype=np.float32)
    answer = spread * (grey + 0.12 * tint)
    place = np.linspace(0, _KINDS - 1, colours.shape[0], dtype=np.float32)
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(_KINDS, dtype=np.float32)), 0, 1)
    for axis in range(3):
        answer = np.moveaxis(np.tensordot(weights, answer, (1, axis)), 0, axis)
    red, green, blue = (seen.astype(np.intp) * (colours.shape[0] - 1) // 255).T
    return colours * np.exp(answer - answer[blue, green, red].mean())


def with_sensor(colours: FloatArray, drawn: Acquisition) -> FloatArray:
    """Colours float32 ``[..., 3]`` in [0, 1] through saturation, haze, gain and tone curve."""
    grey = colours.mean(axis=-1, keepdims=True)
    seen = grey + drawn.saturation * (colours - grey)
    seen = (seen + drawn.haze * (VEIL - seen)) * np.asarray(drawn.gain, dtype=np.float32)
    # The knee keeps bright roofs from burning out together: sensors compress highlights, too.
    seen = np.where(seen > 0.85, 0.85 + 0.15 * np.tanh((seen - 0.85) / 0.15), np.maximum(seen, 0))
    return _PIVOT * (seen / _PIVOT) ** drawn.gamma


def colour_table(drawn: Acquisition, side: int, seen: UInt8Array) -> ImageFilter.Color3DLUT:
    """The whole of it, for one of the two states between which a tile of colours ``seen`` varies."""
    axis = np.linspace(0, 1, _GRID, dtype=np.float32)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    colours = with_season(np.stack([red, green, blue], axis=-1), drawn.season[side])
    if drawn.materials:
        colours = with_materials(colours, drawn.materials, seen, child_rng(drawn.seed, _MATERIALS[side]))
    values = np.clip(with_sensor(colours, drawn), 0, 1)
    return ImageFilter.Color3DLUT(_GRID, values.reshape(-1).tolist())


def recolour(image: UInt8Array, drawn: Acquisition) -> FloatArray:
    """Apply everything that depends on colour; plants and materials vary over the tile between two states.

    Args:
        image: uint8 ``[H, W, 3]``.
        drawn: The date.

    Returns:
        float32 ``[H, W, 3]``, 0 to 255.
    """
    picture, seen = Image.fromarray(image), image[::_SPARSE, ::_SPARSE].reshape(-1, 3)
    first = picture.filter(colour_table(drawn, 0, seen))
    if drawn.materials or drawn.season[0] != drawn.season[1]:
        cells = int(np.clip(max(image.shape[:2]) / drawn.local, *_LOCAL_CELLS))
        place = smooth_field(image.shape[:2], cells, child_rng(drawn.seed, _LOCAL))
        share = np.clip(128 + 128 * place, 0, 255).astype(np.uint8)
        first = Image.composite(picture.filter(colour_table(drawn, 1, seen)), first, Image.fromarray(share))
    return np.asarray(first).astype(np.float32)
