"""Contours of objects, the condition of a model that knows no classes: Changen2's self-supervised mode."""

from __future__ import annotations

import numpy as np

from changen_cli.core.types import BoolArray, Int32Array

CONTOUR = "contour"
"""The class of a model whose plane holds contours instead of the pixels of a class."""


def contours(objects: Int32Array) -> BoolArray:
    """Draw the rims of all objects, one pixel wide, inside them.

    Between two objects that touch, the rim is that of the higher number. Turned and mirrored numbers give turned and
    mirrored contours.

    Args:
        objects: int32 ``[H, W]``, object numbers, 0 where none.

    Returns:
        bool ``[H, W]``; the border of the image is no rim.
    """
    rim = np.zeros(objects.shape, dtype=bool)
    rim[1:] |= objects[1:] > objects[:-1]
    rim[:-1] |= objects[:-1] > objects[1:]
    rim[:, 1:] |= objects[:, 1:] > objects[:, :-1]
    rim[:, :-1] |= objects[:, :-1] > objects[:, 1:]
    return rim
