from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import ndimage

from changen_cli.core.proposals import PROPOSALS, SMALLEST_PX, object_sizes_px
from changen_cli.core.types import IGNORE, Scene
from changen_cli.sources.folder import open_source
from changen_cli.sources.merge_tree import build_tree
from changen_cli.sources.pseudo_masks import propose_regions, with_proposals


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    """Best intersection over union of any region with one object."""
    numbers = np.unique(found[wanted])
    return max(((found == n) & wanted).sum() / ((found == n) | wanted).sum() for n in numbers[numbers > 0])


def roofs(size: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """Textured ground with roofs of several colours and sizes, and their numbers."""
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(0, 30, (size, size, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    numbers = np.zeros((size, size), np.int32)
    corners = [(20, 20, 24, 24), (20, 80, 30, 20), (80, 30, 36, 36), (90, 110, 20, 40), (150, 60, 24, 30)]
    colours = [(200, 190, 180), (170, 60, 50), (30, 30, 40), (220, 220, 230), (60, 80, 160)]
    for number, ((top, left, height, width), colour) in enumerate(zip(corners, colours, strict=True), start=1):
        where = np.s_[top : top + height, left : left + width]
        image[where] = colour + rng.normal(0, 4, (height, width, 3))
        numbers[where] = number
    return np.clip(image, 0, 255).astype(np.uint8), numbers


def test_known_objects_are_found_whole() -> None:
    image, numbers = roofs()
    found = propose_regions(image)
    assert found.dtype == np.int32 and found.shape == numbers.shape
    for number in range(1, 6):
        assert overlap(found, numbers == number) > 0.7
    assert np.array_equal(found, propose_regions(image)), "the same image, the same regions"


def test_sizes_are_those_on_the_ground_where_they_are_known() -> None:
    image, numbers = roofs()
    found = propose_regions(image, 0.5)
    for number in range(1, 6):
        assert overlap(found, numbers == number) > 0.7, "roofs of 10 to 18 m"
    assert not propose_regions(image, 0.01).any(), "nothing in the picture is 3 m wide"
    assert not propose_regions(image, 3.0).any(), "nothing in the picture is less than 60 m wide"
    assert object_sizes_px(1000, None) == (64, 50)
    assert object_sizes_px(10**6, 0.1) == (pytest.approx(900), 250_000)


@pytest.mark.parametrize("gsd_m", [None, 0.3])
def test_the_scene_tells_its_resolution(gsd_m: float | None) -> None:
    told = []

    def propose(image: np.ndarray, gsd: float | None) -> np.ndarray:
        told.append(gsd)
        return np.zeros(image.shape[:2], np.int32)

    blank = np.zeros((8, 8), np.uint8)
    with_proposals(Scene("a", "a", np.zeros((8, 8, 3), np.uint8), mask=blank, gsd_m=gsd_m), propose)
    assert told == [gsd_m]


def test_regions_are_numbered_without_gaps_and_of_one_piece() -> None:
    found = propose_regions(roofs()[0])
    sizes = np.bincount(found.ravel())[1:]
    assert len(sizes) and sizes.min() >= SMALLEST_PX
    assert all(ndimage.label(found == number)[1] == 1 for number in range(1, len(sizes) + 1))


@pytest.mark.parametrize("shape", [(96, 96), (1, 1), (1, 40), (7, 5)])
def test_an_image_of_one_colour_has_no_objects(shape: tuple[int, int]) -> None:
    assert not propose_regions(np.full((*shape, 3), 120, np.uint8)).any()


@examples(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 40))
def test_a_merged_region_has_the_measures_of_its_pixels(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3)), np.ones((8, 8, 1)))[:height, :width]
    tree = build_tree(image.astype(np.uint8))
    count = len(tree.area_px) - len(tree.parts)
    assert len(tree.parts) == count - 1, "merged until there is one region"
    assert tree.area_px[-1] == height * width
    assert np.isclose(tree.fill[-1], 1), "the whole image is a rectangle"
    assert np.isclose(tree.compactness[-1], 2 * (height * width) ** 0.5 / (height + width))
    for region in range(count, len(tree.area_px)):
        assert tree.paint([region]).sum() == tree.area_px[region]
    assert (tree.contrast > -1e-6).all()


def test_unknown_pixels_stay_unknown() -> None:
    image, numbers = roofs()
    mask = np.zeros(numbers.shape, np.uint8)
    mask[:, 95:] = IGNORE
    scene = with_proposals(Scene("a", "a", image, mask=mask), propose_regions)
    assert scene.mask is not None and scene.instances is not None
    assert np.array_equal(scene.mask == IGNORE, mask == IGNORE)
    assert np.array_equal(scene.mask == 1, scene.instances > 0)
    assert scene.notes["proposals"] == scene.instances.max() >= 2
    assert set(np.unique(scene.instances)) == set(range(scene.instances.max() + 1)), "no number is left without pixels"


def test_every_tile_of_an_unlabelled_source_gets_its_own_proposals(photos) -> None:
    source = open_source(photos, res=64).proposing(propose_regions)
    assert source.schema == PROPOSALS
    assert "class-agnostic" in source.describe()
    tiles = [scene for scene in source if isinstance(scene, Scene)]
    assert len(tiles) == 8
    for tile in tiles:
        assert tile.mask is not None and np.array_equal(tile.mask > 0, propose_regions(tile.image) > 0)
    assert all(scene.mask is None for scene in open_source(photos)), "the source itself stays without"
