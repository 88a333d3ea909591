"""Cuts through a region follow the edges of the image where there are some."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.events.outlines import image_edges
from changen_cli.events.parcels import OpenGround

SIDE = 200
ROWS, COLS = np.mgrid[:SIDE, :SIDE]


def ground(grey: np.ndarray | None) -> OpenGround:
    edges = None if grey is None else image_edges(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    return OpenGround(np.full((SIDE, SIDE), 2, np.uint8), np.zeros((SIDE, SIDE), dtype=bool), edges)


def cut(grey: np.ndarray | None, shape: str = "patch", number: int = 0, area_px: float = 3000) -> np.ndarray:
    found = ground(grey).cut((100, 100), area_px, (64, 2 * area_px), shape, derive_rng(number, "cut"))
    assert found is not None
    (row0, col0, row1, col1), part = found
    whole = np.zeros((SIDE, SIDE), dtype=bool)
    whole[row0:row1, col0:col1] = part
    return whole


def rim(part: np.ndarray) -> np.ndarray:
    return part & ~ndimage.binary_erosion(part)


def test_a_field_is_cut_out_along_its_border() -> None:
    """A round field, of about the area asked for: its border is found from polygons that know nothing of it."""
    field = np.hypot(ROWS - 100, COLS - 100) < 31
    grey = np.where(field, 90, 120) + derive_rng(0, "noise").normal(0, 3, field.shape)
    near = np.abs(np.hypot(ROWS - 100, COLS - 100) - 31) < 3
    plain, followed = [], []
    for number in range(12):
        for shape in ("parcel", "patch"):
            plain.append(near[rim(cut(None, shape, number))].mean())
            part = cut(grey, shape, number)
            followed.append(near[rim(part)].mean())
            assert part.sum() == pytest.approx(3000, rel=0.3)
            assert ndimage.label(part)[1] == 1 and part[100, 100]
    assert np.mean(followed) > 0.7
    assert np.mean(followed) > 2 * np.mean(plain)


@pytest.mark.parametrize("shape", ["parcel", "patch", "strip"])
def test_without_edges_nothing_moves(shape: str) -> None:
    flat = np.full((SIDE, SIDE), 100) + derive_rng(0, "noise").normal(0, 1, (SIDE, SIDE))
    assert (cut(np.full((SIDE, SIDE), 100), shape) == cut(None, shape)).all()
    assert (cut(flat, shape) != cut(None, shape)).sum() < 0.05 * 3000


def test_strips_and_small_parts_stay() -> None:
    grey = derive_rng(0, "noise").uniform(0, 255, (SIDE, SIDE))
    assert (cut(grey, "strip") == cut(None, "strip")).all()
    assert (cut(grey, "parcel", area_px=200) == cut(None, "parcel", area_px=200)).all()
    assert (cut(grey, "parcel") != cut(None, "parcel")).any()


def test_edges_are_relative_to_the_tile() -> None:
    for height in (20, 200):
        step = image_edges(np.repeat(np.where(COLS < 100, 20, 20 + height)[..., None], 3, 2).astype(np.uint8))
        assert (step[:, 99:101] == 255).all()
        assert not step[:, :97].any() and not step[:, 103:].any()
    assert not image_edges(np.full((9, 3, 3), 77, np.uint8)).any()
    for shape in ((1, 1), (1, 40), (2, 5), (3, 3)):
        assert image_edges(np.zeros((*shape, 3), np.uint8)).shape == shape
