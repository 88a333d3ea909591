"""Properties of the windows: every changed pixel is denoised once, with its surroundings, and pasted back once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changen_cli.synthesis.windows import Window, crop, full_window, paste, plan_windows, soft_alpha


@st.composite
def areas(draw: st.DrawFn) -> np.ndarray:
    """A change area of up to six rectangles, some a single pixel, some at the rim."""
    height, width = draw(st.integers(3, 150)), draw(st.integers(3, 150))
    area = np.zeros((height, width), dtype=bool)
    for _ in range(draw(st.integers(0, 6))):
        row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        area[row : row + draw(st.integers(1, 60)), col : col + draw(st.integers(1, 60))] = True
    return area


def owned(windows: list[Window], shape: tuple[int, int]) -> np.ndarray:
    """How often each pixel of the tile is owned; pixels of the overhang must not be."""
    count = np.zeros(shape, dtype=int)
    for window in windows:
        row0, col0, row1, col1 = window.box
        assert window.own.shape == (row1 - row0, col1 - col0)
        rows, cols = np.nonzero(window.own)
        rows, cols = rows + row0, cols + col0
        assert ((rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])).all()
        np.add.at(count, (rows, cols), 1)
    return count


@settings(max_examples=60, deadline=None)
@given(areas(), st.sampled_from([16, 32, 64]), st.integers(0, 20))
def test_every_changed_pixel_has_one_window(area: np.ndarray, multiple: int, context: int) -> None:
    windows = plan_windows(area, multiple=multiple, context=context)
    assert (owned(windows, area.shape) == area).all()
    for window in windows:
        row0, col0, row1, col1 = window.box
        assert (row1 - row0) % multiple == 0
        assert (col1 - col0) % multiple == 0
        assert window.own.any()
        rows, cols = np.nonzero(window.own)
        assert row0 <= max(rows.min() + row0 - context, 0)
        assert col0 <= max(cols.min() + col0 - context, 0)
        assert row1 >= min(rows.max() + row0 + 1 + context, area.shape[0])
        assert col1 >= min(cols.max() + col0 + 1 + context, area.shape[1])
        # Only where the tile is smaller than a window does one overhang.
        assert (row0 >= 0 and row1 <= area.shape[0]) or row1 - row0 > area.shape[0]
        assert (col0 >= 0 and col1 <= area.shape[1]) or col1 - col0 > area.shape[1]
    assert [w.box for w in windows] == sorted(w.box for w in windows)


@settings(max_examples=40, deadline=None)
@given(areas(), st.sampled_from([32, 64]))
def test_the_full_window_covers_the_tile(area: np.ndarray, multiple: int) -> None:
    windows = full_window(area, multiple=multiple)
    assert len(windows) == area.any()
    assert (owned(windows, area.shape) == area).all()
    for window in windows:
        row0, col0, row1, col1 = window.box
        assert row0 <= 0 and col0 <= 0 and row1 >= area.shape[0] and col1 >= area.shape[1]
        assert (row1 - row0) % multiple == 0 and (col1 - col0) % multiple == 0


@settings(max_examples=40, deadline=None)
@given(areas())
def test_cropping_and_pasting_gives_the_tile_back(area: np.ndarray) -> None:
    tile = np.random.default_rng(0).uniform(0, 255, (*area.shape, 3)).astype(np.float32)
    canvas = np.where(area[..., None], np.float32(-1), tile)
    for window in plan_windows(area, multiple=32):
        patch = crop(tile, window.box)
        assert patch.shape == (*window.own.shape, 3)
        paste(canvas, patch, window.own.astype(np.float32), window.box)
    assert (canvas == tile).all()


@settings(max_examples=40, deadline=None)
@given(areas(), st.floats(1, 8))
def test_soft_alpha(area: np.ndarray, seam: float) -> None:
    core = area & (np.indices(area.shape).sum(axis=0) % 3 > 0)
    alpha = soft_alpha(area, core, seam_px=seam)
    assert alpha.dtype == np.float32
    assert (alpha[~area] == 0).all()
    assert (alpha[area & core] == 1).all()
    assert ((alpha >= 0) & (alpha <= 1)).all()
    assert (alpha[area] > 0).all(), "no owned pixel keeps the old date in full"


def test_soft_alpha_falls_towards_the_rim() -> None:
    own = np.zeros((30, 30), dtype=bool)
    own[5:25, 5:25] = True
    alpha = soft_alpha(own, np.zeros_like(own), seam_px=3.0)
    np.testing.assert_allclose(alpha[15, 4:10], [0, 0.5 / 3, 0.5, 2.5 / 3, 1, 1], atol=1e-6)


def test_the_core_outside_the_window_is_not_its_own() -> None:
    own = np.zeros((8, 8), dtype=bool)
    own[:, :4] = True
    assert (soft_alpha(own, np.ones_like(own))[:, 4:] == 0).all()


@pytest.mark.parametrize("shape", [(50, 70), (5, 70), (20, 20)])
def test_tiny_tiles_are_mirrored(shape: tuple[int, int]) -> None:
    area = np.zeros(shape, dtype=bool)
    area[1:4, 2:6] = True
    tile = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    (window,) = plan_windows(area, multiple=64, context=12)
    row0, col0, row1, col1 = window.box
    patch = crop(tile, window.box)
    assert patch.shape == (row1 - row0, col1 - col0, 3)
    assert row0 < 0 or row1 > shape[0]
    inside = patch[max(-row0, 0) :, max(-col0, 0) :][: shape[0] - max(row0, 0), : shape[1] - max(col0, 0)]
    assert (inside == tile[max(row0, 0) : row1, max(col0, 0) : col1]).all()
    if row0 < 0:
        assert (patch[-row0 - 1] == patch[-row0]).all(), "the first overhanging row repeats the tile's first"
    assert (crop(area, window.box, fill=0).sum()) == area.sum()


def test_close_changes_share_a_window_and_far_ones_do_not() -> None:
    area = np.zeros((512, 512), dtype=bool)
    area[10:20, 10:20] = area[10:20, 30:40] = True
    assert len(plan_windows(area, multiple=32)) == 1
    area[400:410, 400:410] = True
    windows = plan_windows(area, multiple=32)
    assert len(windows) == 2
    assert sum(window.own.size for window in windows) < 0.05 * area.size


def test_nothing_changed_nothing_to_do() -> None:
    empty = np.zeros((40, 40), dtype=bool)
    assert plan_windows(empty) == []
    assert full_window(empty) == []


def test_an_area_that_fills_the_window_is_replaced_in_full() -> None:
    everything = np.ones((8, 8), dtype=bool)
    assert (soft_alpha(everything, ~everything) == 1).all()
