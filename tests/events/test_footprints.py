"""Exemplars carry no pixels of anything but their own building."""

from __future__ import annotations

import numpy as np

from changen_cli.core.types import ClassSchema, Scene
from changen_cli.events import collect_exemplars


def test_a_second_building_class_is_never_copied() -> None:
    mask = np.zeros((96, 96), dtype=np.uint8)
    mask[30:60, 30:60] = 1
    mask[30:60, 66:80] = 2  # a house beside it, within the margin
    instances = np.zeros(mask.shape, dtype=np.int32)
    instances[mask == 1] = 1
    scene = Scene("s", "s", np.zeros((96, 96, 3), dtype=np.uint8), mask, instances)
    (exemplar,) = collect_exemplars(scene, ClassSchema(("ground", "building", "house")))
    row0, col0, row1, col1 = exemplar.box
    assert (exemplar.others == (mask[row0:row1, col0:col1] == 2)).all()
    assert exemplar.others.any()
