"""Figures of drawn events: planted faults show in the figure that is made for them, and good drawings in none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis.gate import EventFigures, LabelCheck, Piece, measure_step
from changen_cli.synthesis.hub import BUNDLED, SEGMENTER
from changen_cli.synthesis.segmenter import load_segmenter

SIDE = 96
BOX = (36, 34, 62, 64)
INSIDE = (slice(BOX[0], BOX[2]), slice(BOX[1], BOX[3]))
SHAPE = np.ones((BOX[2] - BOX[0], BOX[3] - BOX[1]), bool)


def ground(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(0, 60, (SIDE, SIDE, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    return np.clip(texture, 0, 255).astype(np.uint8)


def figures(after: np.ndarray, before: np.ndarray | None = None, to_class: int = 0) -> EventFigures:
    """Of a building that went and left ground, so that nothing in the masks explains an edge; or of one that came."""
    if before is None:
        before = ground(0)
        before[INSIDE] = np.clip(before[INSIDE].astype(int) + np.array((110, 70, 60)), 0, 255)
    masks = np.zeros((2, SIDE, SIDE), np.uint8)
    masks[to_class][INSIDE] = 1
    objects = np.where(masks[1] > 0, 1, 0).astype(np.int32)
    (found,) = measure_step(before, after, masks, objects, [Piece(BOX, SHAPE, to_class)])
    assert found is not None
    return found


def with_patch(patch: np.ndarray | int) -> np.ndarray:
    after = ground(0)
    after[INSIDE] = patch
    return after


def test_good_ground_is_unremarkable() -> None:
    after, other = ground(0), ground(5)
    alpha = np.clip(ndimage.gaussian_filter(with_patch(255)[..., 0] == 255, 0) * 1.0, 0, 1)
    alpha = ndimage.gaussian_filter(alpha, 2)[..., None]
    blended = (after * (1 - alpha) + other * alpha).astype(np.uint8)
    found = figures(blended)
    assert found.seam is not None and found.sharpness is not None and found.colour is not None
    assert found.seam < 1.5 and 0.5 < found.sharpness < 1.5 and found.colour < 5
    assert found.saturated == 0 and found.visible > 20 and found.agreement is None
    assert set(found.record()) == {"seam", "saturated", "sharpness", "grain", "colour", "visible"}


@pytest.mark.parametrize(
    ("fault", "name"),
    [("seam", "seam"), ("flat", "sharpness"), ("noise", "sharpness"), ("coloured noise", "grain"), ("white", "saturated"), ("black", "saturated"),
     ("magenta", "colour"), ("same", "visible")],
)  # fmt: skip
def test_a_planted_fault_shows_in_its_figure(fault: str, name: str) -> None:
    rng = np.random.default_rng(1)
    texture = ground(5)[INSIDE].astype(int)
    patches = {
        "seam": np.clip(texture + 60, 0, 255),
        "flat": np.full(texture.shape, (90, 110, 80)),
        "noise": rng.integers(0, 2, (*texture.shape[:2], 1)) * 200 + 20,
        "coloured noise": rng.integers(0, 255, texture.shape),
        "white": np.full(texture.shape, 255),
        "black": np.full(texture.shape, 0),
        "magenta": np.clip(texture * (1.0, 0.2, 1.0) + (120, 0, 150), 0, 255),
    }
    after = with_patch(patches[fault]) if fault in patches else ground(0)
    found = figures(after, before=after if fault == "same" else None)
    limits = {
        "seam": (0, 3.0),
        "sharpness": (1 / 8, 8),
        "grain": (0, 3.0),
        "saturated": (0, 0.5),
        "colour": (0, 90),
        "visible": (12, 999),
    }
    value = getattr(found, name)
    assert value is not None and not limits[name][0] <= value <= limits[name][1], value


def test_an_edge_of_the_mask_is_no_seam() -> None:
    """A new roof has an edge all around, where the labels have one, too."""
    before = ground(0)
    after = with_patch(np.clip(ground(5)[INSIDE].astype(int) + np.array((110, 70, 60)), 0, 255))
    assert figures(after, before, to_class=1).seam is None, "no rim is left to look at"
    margin = after.copy()
    margin[BOX[0] - 8 : BOX[0] - 3, BOX[1] - 8 : BOX[3] + 8] = np.clip(before[28:33, 26:72].astype(int) + 70, 0, 255)
    found = figures(margin, before, to_class=1).seam
    assert found is not None and found > 3, "what was redrawn beyond it has a rim to look at"


def test_white_roofs_among_white_roofs_are_not_saturated() -> None:
    before, after = ground(0), with_patch(255)
    for image in (before, after):
        image[:20, :60] = 255
    masks = np.zeros((2, SIDE, SIDE), np.uint8)
    masks[:, :20, :60] = 1
    masks[1][INSIDE] = 1
    (found,) = measure_step(before, after, masks, masks[1].astype(np.int32), [Piece(BOX, SHAPE, 1)])
    assert found is not None and found.saturated == 0


def test_small_events_are_left_out() -> None:
    masks = np.zeros((2, SIDE, SIDE), np.uint8)
    masks[1, 10:15, 10:16] = 1
    piece = Piece((10, 10, 15, 16), np.ones((5, 6), bool), 1)
    assert measure_step(ground(0), ground(0), masks, masks[1].astype(np.int32), [piece]) == [None]


def test_the_bundled_segmenter_misses_a_building_that_is_not_there() -> None:
    """On the bundled sample: a real building passes for a new one, bare ground does not."""
    from changen_cli.core.types import Scene
    from changen_cli.sources.folder import open_source

    source = open_source(BUNDLED.parent / "sample", res=512)
    scene = next(item for item in source if isinstance(item, Scene))
    assert scene.mask is not None and scene.instances is not None
    sizes = np.bincount(scene.instances.ravel())
    number = int(np.argsort(-sizes[1:])[5]) + 1
    (rows, cols) = ndimage.find_objects(scene.instances)[number - 1]
    shape = scene.instances[rows, cols] == number
    building = Piece((rows.start, cols.start, rows.stop, cols.stop), shape, 1)
    free = ndimage.distance_transform_edt(scene.mask == 0)
    row, col = np.unravel_index(int(free[40:-40, 40:-40].argmax()), free[40:-40, 40:-40].shape)
    low, high = int(row) + 30, int(col) + 30
    bare = Piece((low, high, low + 20, high + 20), np.ones((20, 20), bool), 1)
    after = np.where(scene.mask == 1, 1, 0).astype(np.uint8)
    before = after.copy()
    before[rows, cols][shape] = 0
    after[low : low + 20, high : high + 20] = 1
    check = LabelCheck(
        load_segmenter(BUNDLED / f"{SEGMENTER}.safetensors").predict, {1: ((OPENEARTHMAP.index("building"),), True)}
    )
    there, missing = check.agreement(scene.image, np.stack([before, after]), [building, bare])
    assert there is not None and missing is not None
    assert there > 0.5 and missing < 0.15
