"""Ground nobody builds on, learned from the image where the mask does not name it.

Binary masks know buildings and nothing else: rivers, pools and wide roads count as free ground. But buildings stand on
what lies around other buildings. Colours that are common in a tile and rare beside its buildings are left alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, ClassSchema, Scene, UInt8Array

_BLOCK = 8
_NEAR_BLOCKS = 3
_RARE = 0.4  # of the share of free ground that lies beside a building
_FEWEST_BLOCKS = 60


def unlikely_ground(scene: Scene, schema: ClassSchema) -> BoolArray | None:
    """Find ground whose colour is rarely seen beside the scene's buildings.

    Args:
        scene: A scene with a mask.
        schema: Its classes.

    Returns:
        bool ``[H, W]``; None when the mask names roads or water itself, or the scene tells too little: hardly any
        building, or hardly any ground away from them.
    """
    if scene.mask is None or schema.building_id is None or schema.forbidden_ids:
        return None
    height, width = (extent // _BLOCK * _BLOCK for extent in scene.mask.shape)
    if not height or not width:
        return None
    colours = _block_mean(scene.image[:height, :width])
    taken = _block_mean(np.isin(scene.mask[:height, :width], schema.object_ids)[..., None])[..., 0] > 0
    unknown = _block_mean((scene.mask[:height, :width] == schema.ignore_index)[..., None])[..., 0] > 0
    free = ~taken & ~unknown
    beside = free & ndimage.binary_dilation(taken, iterations=_NEAR_BLOCKS)
    if beside.sum() < _FEWEST_BLOCKS or (free & ~beside).sum() < _FEWEST_BLOCKS:
        return None
    bins = _colour_bins(colours)
    everywhere = _histogram(bins[free])
    share = _histogram(bins[beside]) / np.maximum(everywhere, 1e-3)
    rare = share[tuple(np.moveaxis(bins, -1, 0))] < _RARE * beside.sum() / free.sum()
    # A single odd block is a car or a shadow, not a river.
    rare = free & (ndimage.median_filter(rare.astype(np.uint8), 5) > 0)
    found = np.zeros(scene.mask.shape, dtype=bool)
    found[:height, :width] = rare.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
    return found


def _block_mean(values: UInt8Array | BoolArray) -> npt.NDArray[np.float64]:
    """Mean over blocks: ``[H, W, C]`` to ``[H/8, W/8, C]``."""
    rows, cols, bands = values.shape[0] // _BLOCK, values.shape[1] // _BLOCK, values.shape[2]
    # Sums of small integers along rows first: exact, and eight times faster than the mean of both axes.
    lines = values.reshape(rows, _BLOCK, cols * _BLOCK * bands).sum(axis=1, dtype=np.uint16)
    sums = lines.reshape(rows, cols, _BLOCK, bands).sum(axis=2, dtype=np.uint16)
    return np.asarray(sums / _BLOCK**2)


def _colour_bins(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Brightness and two colour differences in coarse steps: int64 ``[..., 3]``."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    luma = (red + 2 * green + blue) / 4
    steps = np.stack([luma / 12, (red - green) / 6 + 12, (blue - green) / 6 + 12], axis=-1)
    return np.asarray(np.clip(steps, 0, 23), dtype=np.int64)


def _histogram(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Counts per colour, smoothed over neighbouring ones; float64 ``[24, 24, 24]``."""
    counts = np.zeros((24, 24, 24))
    np.add.at(counts, tuple(bins.T), 1.0)
    return np.asarray(ndimage.gaussian_filter(counts, 0.8, mode="nearest"))
