from __future__ import annotations

from dataclasses import replace
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


def test_objects_come_along_where_contours_are_learned(xbd_tree, photos, pool) -> None:
    def one_box(image: np.ndarray, gsd_m: float | None) -> np.ndarray:
        objects = np.zeros(image.shape[:2], np.int32)
        objects[10:30, 10:40] = 1
        return objects

    load_tiles(xbd_tree, None, pool, propose=one_box)
    load_tiles(photos, None, pool, propose=one_box)
    labelled, proposed = pool.tiles()[0], pool.tiles()[-1]
    assert labelled.objects.max() == 8, "masks know their objects"
    assert np.array_equal(labelled.objects > 0, labelled.classes == 8)
    assert (proposed.classes == 255).all(), "a proposal says nothing of what it is"
    assert proposed.objects.sum() == 600
    assert [shape.shape for shape in footprints([proposed])] == [(20, 30)]
    areas = [draw_change_area(proposed.classes, footprints([proposed]), np.random.default_rng(s), proposed.objects)
             for s in range(40)]  # fmt: skip
    alone = [area for area in areas if area[10:30, 10:40].all() and area.sum() < 3000]
    assert alone, "objects go with a margin"


def test_objects_are_cut_and_turned_with_the_image() -> None:
    rng = np.random.default_rng(0)
    objects = np.kron(rng.integers(0, 70000, (12, 12)), np.ones((8, 8), int)).astype(np.int32)
    image = np.stack([objects % 256, objects // 256 % 256, objects // 65536], axis=2).astype(np.uint8)
    tile = TrainingTile(image, np.full((96, 96), 255, np.uint8), max_reduction=1.0, objects=objects)
    for _ in range(8):
        crop = Crops([tile], 32, jitter=False).draw(rng)
        shown = np.rint((crop.image + 1) * 127.5).astype(np.int64)
        assert np.array_equal(crop.objects, shown[0] + 256 * shown[1] + 65536 * shown[2])
    reduced = Crops([replace(tile, max_reduction=3.0)], 32).draw(rng)
    assert reduced.objects.shape == (32, 32) and np.isin(reduced.objects, objects).all()


def test_masks_without_buildings_can_be_learned_from(pairs_tree, pool) -> None:
    assert load_tiles(pairs_tree, ("water", "forest", "unknown"), pool)[0] == 3
    assert set(np.unique(pool.tiles()[1].classes)) <= {5, 6, 255}


@pytest.mark.parametrize("numbered", [False, True])
def test_what_exceeds_the_budget_is_mapped_from_disk(tiles, tmp_path: Path, numbered: bool) -> None:
    if numbered:
        tiles = [replace(tile, objects=np.arange(64 * 64, dtype=np.int32).reshape(64, 64)) for tile in tiles]
    size = tiles[0].image.nbytes + tiles[0].classes.nbytes + (4 * 64 * 64 if numbered else 0)
    pool = TilePool(tmp_path / "new" / "spill", budget=size)
    for tile in tiles:
        pool.add(tile)
    back = pool.tiles()
    assert pool.spilled == 2 * size == pool.spill.stat().st_size
    assert [tile.group for tile in back] == [tile.group for tile in tiles]
    for tile, other in zip(tiles, back, strict=True):
        assert (tile.image == other.image).all() and (tile.classes == other.classes).all()
    drawn = [Crops(found, 32).draw(np.random.default_rng(5)) for found in (tiles, back)]
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True) if a is not None)
    assert all((crop.objects is not None) == numbered for crop in drawn)
    pool.close()
    assert not pool.spill.exists()


def test_small_tiles_keep_their_place_behind_those_on_disk(tmp_path: Path) -> None:
    tiles = [
        TrainingTile(np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8), f"{number}")
        for number, side in enumerate((8, 16, 4))
    ]
    pool = TilePool(tmp_path / "spill", budget=4 * (8 * 8 + 4 * 4))
    for tile in tiles:
        pool.add(tile)
    assert [tile.group for tile in pool.tiles()] == ["0", "1", "2"]
    pool.close()


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
    image, classes, _ = plain.draw(rng)
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
