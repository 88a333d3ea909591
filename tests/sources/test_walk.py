from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.manifest import Manifest
from changen_cli.sources.walk import is_changen_output, is_image_folder, is_mask_folder, scene_id, walk


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def seen(root: Path) -> list[str]:
    return [folder.relative(name) for folder in walk(root) for name in folder.files]


def test_order_is_sorted_whatever_the_file_system_says(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a/z.png", "a/c/1.png", "q.png", "B/1.png"):
        touch(tmp_path / name)
    assert seen(tmp_path) == ["q.png", "B/1.png", "a/z.png", "a/c/1.png", "b/1.png", "b/2.png"]


def test_hidden_masks_and_own_outputs_are_not_entered(tmp_path: Path) -> None:
    for name in ("keep/a.png", ".git/a.png", ".a.png", "masks/a.png", "out/train/images/a.png", "other/a.png"):
        touch(tmp_path / name)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"recipe": {}, "fingerprint": "f"}))
    (tmp_path / "other" / "manifest.json").write_text(json.dumps({"files": []}))
    (tmp_path / "keep" / "manifest.json").write_text("{broken")
    assert seen(tmp_path) == ["keep/a.png", "keep/manifest.json", "other/a.png", "other/manifest.json"]
    assert is_changen_output(tmp_path / "out")


def test_own_outputs_are_recognised_by_the_head_of_their_manifest(tmp_path: Path) -> None:
    manifest = Manifest(
        fingerprint="f",
        recipe={"seed": 0},
        source={},
        model=None,
        unchanged_pixels="exact",
        device="cpu",
        dtype="float32",
        threads=1,
        versions={},
        scenes=[{"id": "x"}],
    )
    manifest.save(tmp_path)
    assert is_changen_output(tmp_path)
    with (tmp_path / "manifest.json").open("r+b") as file:
        file.seek(70_000_000)  # a sparse file: the length of the lists must not matter
        file.write(b"}")
    assert is_changen_output(tmp_path)
    (tmp_path / "manifest.json").write_text('["recipe", "fingerprint"]')
    assert not is_changen_output(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff\x00")
    assert not is_changen_output(tmp_path)


def test_link_loops_end_and_outside_links_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root / "a" / "1.png")
    touch(tmp_path / "outside" / "2.png")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "higher").symlink_to(tmp_path)
    (root / "a" / "self").symlink_to("self")
    (root / "same").symlink_to(root / "a")
    (root / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "loop").symlink_to(tmp_path / "outside")
    assert seen(root) == ["a/1.png", "a/self", "out/2.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_left_alone_and_broken_links_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert seen(tmp_path) == ["gone.png"]


def test_folder_names() -> None:
    assert all(map(is_image_folder, ("images", "Images", "image", "img", "imgs", "images_png", "images-tif")))
    assert not any(map(is_image_folder, ("imagesmasked", "images_masked", "imagery", "my_images")))
    assert all(map(is_mask_folder, ("masks", "labels", "Label", "msk", "gt", "targets", "masks_png", "ground_truth")))
    assert not any(map(is_mask_folder, ("masked", "gtfine", "labels_old")))


def test_a_lone_images_folder_is_left_out_of_ids(tmp_path: Path) -> None:
    for name in ("a/images/1.png", "b/images/1.png", "b/images_png/1.png", "c/images/1.png", "c/1.png"):
        touch(tmp_path / name)
    prefixes = {folder.relative(): folder.prefix for folder in walk(tmp_path) if folder.files}
    assert prefixes == {
        "a/images": ("a",),
        "b/images": ("b", "images"),
        "b/images_png": ("b", "images_png"),
        "c": ("c",),
        "c/images": ("c", "images"),
    }


def test_plain_names_stay_readable() -> None:
    assert scene_id((), "hurricane-harvey_00000001") == "hurricane-harvey_00000001"
    assert scene_id(("train", "Urban"), "1366") == "train--Urban--1366"


@given(
    st.lists(
        st.tuples(
            st.lists(st.text("ab-_. é/", min_size=1, max_size=4), max_size=3), st.text("ab-. é", min_size=1, max_size=5)
        )
    )
)
def test_ids_are_unique_and_safe(paths: list[tuple[list[str], str]]) -> None:
    distinct = {(*(part.replace("/", "+") for part in folders), stem) for folders, stem in paths}
    ids = [scene_id(path[:-1], path[-1]) for path in distinct]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in ids)


def test_ids_that_could_be_taken_for_tiles_or_are_long() -> None:
    assert scene_id((), "x_r00000_c00512") != "x_r00000_c00512"
    assert len(scene_id(("d" * 100, "e" * 100), "s" * 100)) == 150
    assert scene_id(("d" * 200,), "a") != scene_id(("d" * 200,), "b")
