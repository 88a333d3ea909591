"""Masks for images without labels: class-agnostic region proposals, what might be an object.

Changen2 (Zheng et al., TPAMI 2025) learns from unlabelled images by taking object regions for the mask and their
removal for the change. Proposals are no ground truth: a region may be half a roof, a lawn or a lorry, and not every
object has one. What they do give is a rim that follows an edge of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from changen_cli.core.proposals import PROPOSALS, object_sizes_px
from changen_cli.core.types import BoolArray, Int32Array, Scene, UInt8Array
from changen_cli.sources.merge_tree import RegionTree, build_tree

Proposer = Callable[[UInt8Array, float | None], Int32Array]
"""From an image uint8 ``[H, W, 3]`` and its metres per pixel, None where they are not known, to object numbers int32
``[H, W]``: 0 where none, else 1..N."""

WEIGHTS = (-38.2, 5.35, -0.323, 0.934, 9.01, 1.47, -0.0684)
"""Of :func:`features`, in the log-odds of a region being a building: a logistic fit to 61 tiles of Dubai
(``benchmarks/proposals.py --fit``)."""
FITTED_GSD_M = 0.15
"""At this ground sampling distance the sizes the weights expect, in pixels, are those of buildings elsewhere."""
THRESHOLD = 0.015
"""Least probability of a proposal. Low, because most objects are no buildings and most regions no objects."""
_SIZE_POWER = 0.25
"""How much more a larger region counts: a little, or every roof would be taken in pieces."""


def features(tree: RegionTree, gsd_m: float | None = None) -> npt.NDArray[np.float64]:
    """What tells objects from other regions; float64 ``[N, 7]``: constant, size, shape and contrast at the rim.

    Size is that on the ground where the ground sampling distance is known. Contrast counts half as it is and half
    relative to that of the image's other rims: hazy images have objects too, and glaring ones do not have so many more.
    """
    leaves = slice(len(tree.area_px) - len(tree.parts))
    usual = np.average(tree.contrast[leaves], weights=np.sqrt(tree.area_px[leaves]))
    contrast = tree.contrast / np.sqrt(max(usual, 1.0))
    size = np.log(tree.area_px * (gsd_m / FITTED_GSD_M) ** 2) if gsd_m else np.log(tree.area_px)
    shape = np.minimum(tree.fill, 1.05), tree.compactness
    return np.stack([np.ones_like(size), size, size**2, *shape, contrast, contrast**2], axis=1)


def eligible(tree: RegionTree, gsd_m: float | None = None) -> BoolArray:
    """Regions of a size objects have; bool ``[N]``."""
    least_px, most_px = object_sizes_px(tree.leaves.size, gsd_m)
    return (tree.area_px >= least_px) & (tree.area_px <= most_px)


def propose_regions(image: UInt8Array, gsd_m: float | None = None) -> Int32Array:
    """Find regions that look like objects: compact, homogeneous, of a building's size, with contrast at the rim.

    Of all regions of all scales those are taken that do not overlap and whose probabilities of being an object, as far
    as they exceed a threshold and weighted a little by size, have the largest sum.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.
        gsd_m: Metres per pixel; None where it is not known.

    Returns:
        int32 ``[H, W]``: 0 where nothing was found, else the region's number 1..N. The same for the same image, always.
    """
    tree = build_tree(image)
    probability = 1 / (1 + np.exp(-(features(tree, gsd_m) @ np.asarray(WEIGHTS))))
    gain = np.where(eligible(tree, gsd_m), (probability - THRESHOLD) * tree.area_px**_SIZE_POWER, 0.0)
    return tree.paint(_choose(gain, tree))


def with_proposals(scene: Scene, propose: Proposer) -> Scene:
    """Give a scene the mask of its proposals.

    Args:
        scene: A scene whose mask is 0, and 255 where the image shows nothing.
        propose: How objects are found.

    Returns:
        The scene with mask, instances and their number in its notes; unknown pixels stay unknown and belong to no
        object.
    """
    from changen_cli.sources.tiling import compact_instances

    assert scene.mask is not None
    unknown = scene.mask == PROPOSALS.ignore_index
    instances, _ = compact_instances(np.where(unknown, np.int32(0), propose(scene.image, scene.gsd_m)))
    mask = np.where(unknown, scene.mask, instances > 0).astype(np.uint8)
    notes = {**scene.notes, "proposals": int(instances.max(initial=0))}
    return replace(scene, mask=mask, instances=instances, notes=notes)


def _choose(gain: npt.NDArray[np.float64], tree: RegionTree) -> list[int]:
    """Choose regions that do not overlap and have the largest sum of gains.

    Exactly: from the leaves up, a region is taken where it gains more than the best choice within it.
    """
    count = len(gain) - len(tree.parts)
    best = np.maximum(gain, 0.0).tolist()
    taken = (gain > 0).tolist()
    for region, (first, second) in enumerate(tree.parts.tolist(), start=count):
        within = best[first] + best[second]
        if within >= best[region]:
            best[region], taken[region] = within, False
    chosen, open_ = [], [len(gain) - 1]
    while open_:
        region = open_.pop()
        if taken[region]:
            chosen.append(region)
        elif region >= count:
            open_ += tree.parts[region - count].tolist()
    return sorted(chosen)
