from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from changen_cli.core.types import ClassSchema
from changen_cli.training.areas import draw_change_area, footprints, misfit
from changen_cli.training.tiles import Crops, TilePool, TrainingTile, load_tiles, split_by_place, to_openearthmap


@pytest.fixture
def pool(tmp_path: Path):
    found = TilePool(tmp_path / "spill")
    yield found
    found.close()


def test_classes_are_translated_by_name() -> None:
    schema = ClassSchema(("background", "Building", "low vegetation", "river", "car"))
    mask = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    assert to_openearthmap(mask, (1, 6), schema).tolist() == [[0, 8, 2, 6, 0, 255]]
    assert (to_openearthmap(None, (2, 3), schema) == 255).all()


def test_tiles_are_loaded_from_any_layout(xbd_tree, pairs_tree, tmp_path: Path, pool) -> None:
    assert load_tiles(xbd_tree, None, pool) == (2, [])
    assert set(np.unique(pool.tiles()[0].classes)) == {0, 8}
    (pairs_tree / "images" / "s2.png").write_bytes(b"broken")
    count, skipped = load_tiles(pairs_tree, ("background", "building", "unknown"), pool, max_reduction=1.0)
    assert [skip.path for skip in skipped] == ["images/s2.png"]
    assert count == 2
    tile = pool.tiles()[2]
    assert tile.max_reduction == 1.0
    assert (tile.classes[:3] == 255).all(), "unknown stays unknown"
    assert set(np.unique(tile.classes[3:])) == {0, 8}
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(0, 64)[0]).save(tmp_path / "photos" / "a.png")
    assert load_tiles(tmp_path / "photos", None, pool)[0] == 1
    tile = pool.tiles()[-1]
    assert (tile.classes == 255).all()
    assert len(footprints([tile])) == 2


def test_masks_without_buildings_can_be_learned_from(pairs_tree, pool) -> None:
    assert load_tiles(pairs_tree, ("water", "forest", "unknown"), pool)[0] == 3
    assert set(np.unique(pool.tiles()[1].classes)) <= {5, 6, 255}


def test_what_exceeds_the_budget_is_mapped_from_disk(tiles, tmp_path: Path) -> None:
    size = tiles[0].image.nbytes + tiles[0].classes.nbytes
    pool = TilePool(tmp_path / "new" / "spill", budget=size)
    for tile in tiles:
        pool.add(tile)
    back = pool.tiles()
    assert pool.spilled == 2 * size == pool.spill.stat().st_size
    assert [tile.group for tile in back] == [tile.group for tile in tiles]
    for tile, other in zip(tiles, back, strict=True):
        assert (tile.image == other.image).all() and (tile.classes == other.classes).all()
    drawn = [Crops(found, 32).draw(np.random.default_rng(5)) for found in (tiles, back)]
    assert all((a == b).all() for a, b in zip(*drawn, strict=True))
    pool.close()
    assert not pool.spill.exists()


def test_validation_keeps_whole_places() -> None:
    blank = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
    tiles = [TrainingTile(*blank, f"place {number // 5}") for number in range(50)]
    train, held = split_by_place(tiles, 0.2, 0)
    assert len(train) + len(held) == 50
    assert not {tile.group for tile in train} & {tile.group for tile in held}
    assert 5 <= len(held) <= 15
    assert split_by_place(tiles, 0.2, 0)[1][0].group == held[0].group
    assert len({split_by_place(tiles, 0.1, seed)[1][0].group for seed in range(9)}) > 1
    assert split_by_place(tiles[:5], 0.5, 0)[1] == []
    assert split_by_place(tiles, 0.0, 0)[1] == []


def test_crops_are_reduced_flipped_and_turned(tiles) -> None:
    rng = np.random.default_rng(0)
    plain = Crops(tiles, 32, jitter=False)
    image, classes = plain.draw(rng)
    assert image.shape == (3, 32, 32) and image.dtype == np.float32 and np.abs(image).max() <= 1
    assert classes.shape == (32, 32) and classes.dtype == np.uint8
    assert len({plain.draw(rng)[0].tobytes() for _ in range(8)}) == 8
    assert Crops(tiles, 65).tiles == []


@pytest.mark.parametrize("size", [32, 64])
def test_change_areas_fit_any_crop(size: int) -> None:
    """Shapes far larger than the crop, no objects at all, and every kind of area."""
    rng = np.random.default_rng(0)
    shapes = [np.ones((160, 160), dtype=bool), np.ones((8, 150), dtype=bool)]
    classes = np.zeros((size, size), np.uint8)
    classes[:9] = 6
    shares = [draw_change_area(classes, shapes, rng).mean() for _ in range(80)]
    assert min(shares) > 0
    assert max(shares) == 1
    assert len(set(shares)) > 10


def test_misfit_stays_within_the_change() -> None:
    change = np.zeros((8, 1, 32, 32), np.float32)
    change[..., 4:20, 4:20] = 1
    error = misfit(change, np.random.default_rng(0))
    assert error.shape == (8, 3, 32, 32)
    assert not error[np.broadcast_to(change == 0, error.shape)].any()
    assert 1 <= sum(sample.any() for sample in error) < 8
