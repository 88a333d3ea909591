from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import UsageError
from changen_cli.sources.folder import open_source

from .files import bad_name, read, rgb, save, xbd_scene

MASK = np.zeros((64, 64), dtype=np.uint8)
MASK[8:20, 8:20] = 1


@pytest.mark.parametrize("layout", [None, "pairs", "xbd"])
def test_an_images_folder_with_labels_beside_it_names_the_folder_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str | None
) -> None:
    save(tmp_path / "tiles" / "images" / "x" / "1.png", rgb())
    save(tmp_path / "tiles" / "masks" / "x" / "1.png", MASK)
    xbd_scene(tmp_path / "train")
    for name in ("tiles", "train"):
        with pytest.raises(UsageError, match=f"Give {tmp_path / name}/ instead"):
            open_source(tmp_path / name / "images", layout=layout)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path / "tiles" / "images")
    with pytest.raises(UsageError, match=f"Give {tmp_path / 'tiles'}/ instead"):
        open_source(Path("."), layout=layout)  # type: ignore[arg-type]
    assert open_source(Path("."), layout="images").layout == "images"


def test_an_images_folder_beside_masks_of_other_images_is_unlabelled(tmp_path: Path) -> None:
    save(tmp_path / "images" / "1.png", rgb())
    save(tmp_path / "masks" / "2.png", MASK)
    assert open_source(tmp_path / "images").layout == "images"


@pytest.mark.parametrize("layout", ["images", "pairs", "xbd"])
def test_names_that_are_no_utf8_are_skips_that_can_be_written(tmp_path: Path, layout: str) -> None:
    xbd_scene(tmp_path, "a")
    save(tmp_path / "masks" / "a_pre_disaster.png", MASK)
    good = tmp_path / "images" / "a_pre_disaster.png"
    for suffix in (b".png", b".jpg"):
        bad_name(tmp_path / "images", b"caf\xe9_pre_disaster" + suffix).write_bytes(good.read_bytes())
    bad_name(tmp_path / "images", b"notes\xe9.txt").write_text("of no interest")
    inside = bad_name(tmp_path, b"\xff")
    save(inside / "images" / "b_pre_disaster.png", rgb())
    scenes, skips = read(tmp_path, layout=layout)
    assert [scene.id.removesuffix("_pre_disaster") for scene in scenes] == ["a"]
    assert [(skip.path, skip.failed, skip.reason) for skip in skips] == [
        (path, True, "its name is not valid UTF-8: rename it")
        for path in (
            "images/caf\\udce9_pre_disaster.jpg",
            "images/caf\\udce9_pre_disaster.png",
            "\\udcff",
        )
    ]
    json.dumps([skip.path for skip in skips], ensure_ascii=False).encode()
    assert open_source(tmp_path, layout=layout).count_images() == 3  # type: ignore[arg-type]
    (tmp_path / "only").mkdir()
    inside.rename(tmp_path / "only" / inside.name)
    with pytest.raises(UsageError, match=r"no images in .*udcff: its name is not valid UTF-8"):
        open_source(tmp_path / "only")
