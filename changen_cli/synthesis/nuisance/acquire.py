"""Variation without change: how one acquisition differs from the next of the same ground."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.synthesis.nuisance.acquisition import Acquisition
from changen_cli.synthesis.nuisance.colour import recolour
from changen_cli.synthesis.nuisance.geometry import Offsets, lean_image
from changen_cli.synthesis.nuisance.light import add_clouds, relight, vary_gain
from changen_cli.synthesis.nuisance.sensor import compress, sense

_LEAST_NODATA_PX = 64


def acquire(
    image: UInt8Array, drawn: Acquisition, offsets: Offsets | None = None, built: BoolArray | None = None
) -> UInt8Array:
    """Pass a whole date through one acquisition: view, season, light, atmosphere, sensor, product.

    Every date of a series goes through it, date 0 too, with its own draw. So no pixel is identical between two dates,
    and no date stands out as the clean or the generated one.

    Args:
        image: uint8 ``[H, W, 3]``.
        drawn: The date; a default one gives the image back.
        offsets: What leans, of :func:`~changen_cli.synthesis.nuisance.geometry.lean_offsets`.
        built: bool ``[H, W]``, buildings; no shadow of the ground falls on them.

    Returns:
        uint8 ``[H, W, 3]``. Pixels without data, black in the source, stay black.
    """
    if drawn == Acquisition():
        return image
    empty = without_data(image)
    scene = image if empty is None else _filled(image, empty)
    scene = lean_image(scene, offsets, drawn)
    values = recolour(scene, drawn)
    relight(values, scene, built, drawn)
    vary_gain(values, drawn)
    add_clouds(values, drawn)
    result = compress(sense(values, drawn), drawn.jpeg)
    if empty is not None:
        result = result.copy()
        result[empty] = 0
    return result


def without_data(image: UInt8Array) -> BoolArray | None:
    """Pixels without data, bool ``[H, W]``: black areas of 64 px and more; None where there are none."""
    black = (image[..., 0] | image[..., 1] | image[..., 2]) == 0
    if black.sum() < _LEAST_NODATA_PX:
        return None
    regions, _ = ndimage.label(black)
    areas = np.bincount(regions.ravel())
    areas[0] = 0
    empty = np.asarray((areas >= _LEAST_NODATA_PX)[regions])
    return empty if empty.any() else None


def _filled(image: UInt8Array, empty: BoolArray) -> UInt8Array:
    """The image with the nearest colour where it has no data: black must not bleed into its surroundings."""
    if empty.all():
        return image
    _, (rows, cols) = ndimage.distance_transform_edt(empty, return_indices=True)
    return np.asarray(image[rows, cols])
