from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from changen_cli.sources import folder
from changen_cli.sources.folder import open_source

from .files import pair, read

MASK = np.zeros((64, 64), dtype=np.uint8)
MASK[8:20, 8:20] = 1


def test_a_tile_of_0_and_255_is_read_like_the_rest_of_its_dataset(tmp_path: Path) -> None:
    other = MASK.copy()
    other[50:, 50:] = 255
    for name in ("three", "three_first"):
        pair(tmp_path / name, "b", MASK * 255)
        pair(tmp_path / name, "c" if name == "three" else "a", other)
        source = open_source(tmp_path / name)
        assert source.meaning_of_255 == "unknown"
        assert source.describe().endswith("where 255 is unknown")
        scenes, skips = read(tmp_path / name)
        scene = next(scene for scene in scenes if scene.id == "b")
        assert not skips
        assert scene.mask is not None
        assert np.array_equal(scene.mask, MASK * 255)
        assert scene.instances is not None
        assert scene.instances.max() == 0
        assert {scene.notes["mask"] for scene in scenes} == {"255 read as unknown"}


def test_255_is_building_where_no_mask_holds_1(tmp_path: Path) -> None:
    pair(tmp_path, "a", MASK * 0)
    pair(tmp_path, "b", MASK * 255)
    source = open_source(tmp_path)
    assert source.meaning_of_255 == "building"
    assert source.describe().endswith("where 255 is building")
    scenes, _ = read(tmp_path)
    assert scenes[1].mask is not None
    assert np.array_equal(scenes[1].mask, MASK)
    assert {scene.notes["mask"] for scene in scenes} == {"255 read as building"}
    (named, _), _ = read(tmp_path, classes=("background", "building"))
    assert "mask" not in named.notes


def test_a_1_after_the_masks_that_decided_is_a_failure_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_DECIDING", 2)
    pair(tmp_path, "a", MASK)
    (tmp_path / "masks" / "a.png").write_bytes(b"broken")  # does not count as one of those that decide
    pair(tmp_path, "b", MASK * 0)
    pair(tmp_path, "c", MASK * 255)
    pair(tmp_path, "d", MASK)
    scenes, skips = read(tmp_path)
    assert [scene.id for scene in scenes] == ["b", "c"]
    assert [(skip.path, skip.failed) for skip in skips] == [("images/a.png", True), ("images/d.png", True)]
    assert "pass --classes background,building" in skips[1].reason
    assert [scene.id for scene in read(tmp_path, classes=("background", "building"))[0]] == ["b", "c", "d"]


def test_64_masks_decide(tmp_path: Path) -> None:
    for i in range(65):
        pair(tmp_path, f"{i:02}", np.full((2, 2), 1 if i == 64 else 0, dtype=np.uint8))
    assert open_source(tmp_path).meaning_of_255 is None
    assert "255" not in open_source(tmp_path).describe()
    (tmp_path / "masks" / "00.png").unlink()
    assert open_source(tmp_path).meaning_of_255 == "unknown"
