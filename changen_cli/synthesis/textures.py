"""Pieces of scenes that show much of one class: what regions are filled with where their own tile shows none of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from changen_cli.core.types import BoolArray, ClassSchema, Scene, Texture

_SIDE_PX = 192
_BLOCK = 16
_FEWEST_PX = 1024
_PER_CLASS = 6


def collect_textures(scene: Scene, schema: ClassSchema) -> list[Texture]:
    """Cut out, for every class, the window that shows most of it.

    Args:
        scene: A scene; without a mask it yields nothing.
        schema: Its classes.

    Returns:
        At most one texture per class, in the order of the ids; classes with too few pixels have none.
    """
    if scene.mask is None:
        return []
    found = []
    for class_id in range(len(schema.names)):
        of_class = scene.mask == class_id
        if class_id in schema.unknown_ids or of_class.sum() < _FEWEST_PX:
            continue
        row, col = _richest(of_class)
        where = slice(row, row + _SIDE_PX), slice(col, col + _SIDE_PX)
        if of_class[where].sum() >= _FEWEST_PX:
            found.append(Texture(scene.id, class_id, scene.image[where].copy(), of_class[where].copy()))
    return found


def best_textures(textures: Iterable[Texture]) -> list[Texture]:
    """Keep a few of every class, those with most pixels, in a fixed order."""
    ranked = sorted(textures, key=lambda texture: (texture.class_id, -int(texture.usable.sum()), texture.scene_id))
    of_class = [texture.class_id for texture in ranked]
    return [texture for i, texture in enumerate(ranked) if i - of_class.index(texture.class_id) < _PER_CLASS]


def _richest(of_class: BoolArray) -> tuple[int, int]:
    """First row and column of the window that holds most pixels of a class; in steps of a block."""
    rows, cols = (-(-extent // _BLOCK) for extent in of_class.shape)
    short = (rows * _BLOCK - of_class.shape[0], cols * _BLOCK - of_class.shape[1])
    padded = np.pad(of_class, ((0, short[0]), (0, short[1])))
    blocks = padded.reshape(rows, _BLOCK, cols, _BLOCK).sum(axis=(1, 3), dtype=np.float32)
    shares = ndimage.uniform_filter(blocks, _SIDE_PX // _BLOCK, mode="constant")
    middle = np.unravel_index(int(shares.argmax()), shares.shape)
    first = [
        min(max(int(place) * _BLOCK - _SIDE_PX // 2, 0), max(extent - _SIDE_PX, 0))
        for place, extent in zip(middle, of_class.shape, strict=True)
    ]
    return first[0], first[1]
