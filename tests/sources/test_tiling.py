from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changen_cli.core.types import Scene, Skip
from changen_cli.sources.tiling import compact_instances, tile_scene

from .files import rgb


def scene(height: int, width: int) -> Scene:
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return Scene(
        "s", "g", rgb(height, width), mask, mask.astype(np.int32), ("u",), 0.5, "WKT", (0.5, 0, 100, 0, -0.5, 900)
    )


def tiles(*args: object, **options: object) -> list[Scene]:
    found = list(tile_scene(*args, **options))  # type: ignore[arg-type]
    assert all(isinstance(tile, Scene) for tile in found)
    return found  # type: ignore[return-value]


def test_last_row_and_column_are_shifted_back() -> None:
    found = tiles(scene(100, 64), 32)
    assert [tile.id for tile in found] == [f"s_r{r:05d}_c{c:05d}" for r in (0, 32, 64, 68) for c in (0, 32)]
    last = found[-1]
    assert last.image[0, 0].tolist() == [68, 32, 200]
    assert last.transform == (0.5, 0, 116, 0, -0.5, 866)
    assert last.notes["tile"] == {"row0": 68, "col0": 32, "of": [100, 64]}
    assert {tile.group for tile in found} == {"g"}


@settings(max_examples=40, deadline=None)
@given(height=st.integers(8, 60), width=st.integers(8, 60), res=st.integers(1, 8))
def test_tiles_cover_everything_with_their_own_pixels(height: int, width: int, res: int) -> None:
    whole = scene(height, width)
    seen = np.zeros((height, width), dtype=int)
    for tile in tiles(whole, res):
        place = tile.notes.get("tile", {"row0": 0, "col0": 0})
        window = (slice(place["row0"], place["row0"] + res), slice(place["col0"], place["col0"] + res))
        assert tile.image.shape == (res, res, 3)
        assert np.array_equal(tile.image, whole.image[window])
        assert tile.mask is not None
        assert whole.mask is not None
        assert np.array_equal(tile.mask, whole.mask[window])
        assert tile is whole or not np.shares_memory(tile.image, whole.image)
        seen[window] += 1
    assert seen.min() >= 1
    assert (seen[: height // res * res - res, : width // res * res - res] == 1).all()


def test_without_size_up_to_1024_stays_whole() -> None:
    whole = scene(1024, 700)
    assert tiles(whole) == [whole]
    assert [tile.image.shape[:2] for tile in tiles(scene(1030, 40))] == [(1024, 40), (1024, 40)]


def test_exact_size_is_not_cut() -> None:
    assert [tile.id for tile in tiles(scene(32, 32), 32)] == ["s"]


def test_too_small_is_skipped_with_the_way_out() -> None:
    (skip,) = tile_scene(scene(64, 200), 128)
    assert isinstance(skip, Skip)
    assert skip.reason == "is 64×200, smaller than --res 128: pass --upsample or a smaller --res"
    assert not skip.failed


def test_upsampling_keeps_classes_and_ground() -> None:
    found = tiles(scene(32, 48), 64, upsample=True)
    assert [tile.id for tile in found] == ["s_r00000_c00000", "s_r00000_c00032"]
    first = found[0]
    assert first.mask is not None
    assert first.instances is not None
    assert set(np.unique(first.mask)) <= {0, 1}
    assert np.array_equal(first.instances > 0, first.mask == 1)
    assert first.gsd_m == 0.25
    assert first.transform == (0.25, 0, 100, 0, -0.25, 900)
    assert first.notes["upsampled"] == {"from": [32, 48], "to": [64, 96], "image": "bicubic", "mask": "nearest"}


def test_upsampling_a_thin_strip_does_not_fill_memory() -> None:
    (skip,) = tile_scene(scene(2, 4000), 1024, upsample=True)
    assert isinstance(skip, Skip)
    assert "too narrow" in skip.reason


def test_a_cut_object_keeps_its_uid_and_an_absent_one_is_dropped() -> None:
    instances = np.zeros((32, 64), dtype=np.int32)
    instances[0:4, 0:4], instances[10:14, 28:36], instances[20:24, 50:60] = 1, 2, 3
    source = Scene("s", "g", rgb(32, 64), (instances > 0).astype(np.uint8), instances, ("a", "b", "c"))
    left, right = tiles(source, 32)
    assert (left.uids, right.uids) == (("a", "b"), ("b", "c"))
    assert left.instances is not None
    assert right.instances is not None
    assert left.instances[12, 30] == 2
    assert right.instances[12, 2] == 1
    assert right.instances.max() == 2
    assert right.instances.dtype == np.int32


@pytest.mark.parametrize("uids", [(), ("a", "b", "c", "d", "e")])
def test_compacting(uids: tuple[str, ...]) -> None:
    instances, left = compact_instances(np.array([[0, 5], [2, 5]], dtype=np.int32), uids)
    assert instances.tolist() == [[0, 2], [1, 2]]
    assert left == (("b", "e") if uids else ())
    assert compact_instances(np.zeros((2, 2), dtype=np.int32), ("a",))[1] == ()
