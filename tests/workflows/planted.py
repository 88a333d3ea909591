"""Pairs of dates with shortcuts planted in them, and without any."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image
from scipy import ndimage

from changen_cli.core.types import TimeSeries
from tests.hub.datasets import make_sample

SIDE = 128


def ground(rng: np.random.Generator) -> np.ndarray:
    """Float ``[128, 128, 3]``, texture at several scales."""
    planes = [ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE, 3)), (s, s, 0)) * s for s in (1, 3, 8)]
    return 110 + 60 * sum(planes)


def pair(kind: str, number: int, change: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two dates uint8 ``[128, 128, 3]`` and what changed, bool ``[128, 128]``, three rectangles if not given.

    ``identical``: unchanged pixels are the same bits. ``blurred``: the later date is soft, as a codec leaves it.
    ``coded``: the later date went through JPEG. ``soft``: every date has its noise, but drawn pixels are smooth.
    ``independent``: every date has its own noise, and the change is far weaker than that.
    """
    rng = np.random.default_rng((7, number))
    if change is None:
        change = np.zeros((SIDE, SIDE), bool)
        for row, col in rng.integers(8, SIDE - 48, (3, 2)):
            change[row : row + 40, col : col + 30] = True
    before = ground(rng)
    after = np.where(change[..., None], ground(rng), before)
    if kind == "independent":
        after = before + 2 * change[..., None]
    if kind == "soft":
        after = np.where(change[..., None], ndimage.gaussian_filter(before, (3, 3, 0)), before)
    noise = {"identical": 0, "independent": 25, "soft": 6}.get(kind, 8)
    before, after = (image + rng.normal(0, noise, image.shape) for image in (before, after))
    if kind == "identical":
        after = np.where(change[..., None], after, before)
    if kind == "blurred":
        after = ndimage.gaussian_filter(after, (0.8, 0.8, 0))
    before, after = (np.clip(image, 0, 255).astype(np.uint8) for image in (before, after))
    if kind == "coded":
        file = io.BytesIO()
        Image.fromarray(after).save(file, "JPEG", quality=40)
        after = np.asarray(Image.open(file))
    return before, after, change


def planted_sample(number: int, kind: str) -> TimeSeries:
    """A series with the change where a building is made, and a planted pair of images."""
    sample = make_sample(number, side=SIDE)
    before, after, _ = pair(kind, number, sample.masks[0] != sample.masks[1])
    masks, instances = sample.masks.copy(), sample.instances.copy()
    left = 60 + number
    masks[:, 90:120, left : left + 30], instances[:, 90:120, left : left + 30] = 1, 9  # one that stays
    return replace(
        sample, images=np.stack([before, after]), masks=masks, instances=instances, objects=sample.objects | {9: "old"},
        scene=replace(sample.scene, image=before, mask=masks[0]),
    )  # fmt: skip
