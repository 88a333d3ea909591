"""Scenes of bright buildings on textured ground, of which it is known what a perfect generator would draw."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from changen_cli.core.types import Scene


def make_scene(seed: int = 0, size: int = 192, contrast: float = 60) -> Scene:
    """Textured ground with bright buildings on a grid, every third place free."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, contrast, (size, size, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    instances = np.zeros((size, size), np.int32)
    for index in range(16):
        row, col = divmod(index, 4)
        if index % 3 == 1:
            continue
        top, left = row * 46 + int(rng.integers(8, 16)), col * 46 + int(rng.integers(8, 16))
        instances[top : top + rng.integers(13, 19), left : left + rng.integers(13, 19)] = index + 1
    instances = np.searchsorted(np.unique(instances), instances).astype(np.int32)
    ground[instances > 0] += (90, 60, 50)
    image = np.clip(ground, 0, 255).astype(np.uint8)
    return Scene(f"s{seed}", f"s{seed}", image, (instances > 0).astype(np.uint8), instances)
