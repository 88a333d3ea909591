"""Change sets with one binary label, read back by the documented rules of their readers."""

from __future__ import annotations

import numpy as np
import pytest

from .readers import changeformer, open_cd, torchange_levir, torchgeo_levir
from .tools import assert_images, export_as, findings, first_file, repaint, the_finding, truth, with_unknown

INPUTS = ("building", "landcover", "georeferenced", "parquet")
A_B_LABEL = {"img_path_from": "A", "img_path_to": "B", "seg_map_path": "label"}


@pytest.mark.parametrize("name", INPUTS)
def test_levir_cd(name, made, tmp_path) -> None:
    """Both readers find the files of a pair by their names; labels are 0 and 255 in mode L."""
    report = export_as("levir-cd", made(name), tmp_path / "out")
    root, expected = tmp_path / "out" / "train", truth(made(name))
    assert report.items == {"train": len(expected)}
    for pair, item in assert_images(torchange_levir(root), made(name)).items():
        label = item.labels[0]
        assert label.ndim == 2 and set(np.unique(label)) <= {0, 255}
        assert np.array_equal(label > 0, expected[pair].change)
    prefixes = {key: f"train/{folder}" for key, folder in A_B_LABEL.items()}
    for pair, item in assert_images(open_cd(tmp_path / "out", prefixes, to_binary=True), made(name)).items():
        assert np.array_equal(item.labels[0], expected[pair].change)
    assert findings("levir-cd", tmp_path / "out") == []


def test_torchgeo_reads_the_flat_folder_split_by_split(made, tmp_path) -> None:
    """File names begin with their split; each folder is sorted by itself; 255 is clamped to 1."""
    report = export_as("levir-cd-flat", made("building"), tmp_path / "out", shares=(0.5, 0.5))
    expected, seen = truth(made("building")), set()
    for split, count in report.items.items():
        items = torchgeo_levir(tmp_path / "out", split)
        assert len(items) == count > 0
        for item in items:
            pair = expected[item.name.removeprefix(f"{split}_")]
            assert np.array_equal(item.labels[0], pair.change)
            assert all(np.array_equal(a, b.array()) for a, b in zip(item.images, pair.images, strict=True))
            seen.add(pair.name)
    assert seen == set(expected)
    assert findings("levir-cd-flat", tmp_path / "out") == []


@pytest.mark.parametrize("name", INPUTS)
def test_whu_cd(name, made, tmp_path) -> None:
    """Lists name files with their suffix; a split without pairs has an empty list, for Open-CD reads all without one."""
    export_as("whu-cd", made(name), tmp_path / "out")
    expected = truth(made(name))
    both = (
        changeformer(tmp_path / "out", "train"),
        open_cd(tmp_path / "out", A_B_LABEL, ann_file="list/train.txt", suffix="", to_binary=True),
    )
    for items in both:
        for pair, item in assert_images(items, made(name)).items():
            assert np.array_equal(item.labels[0], expected[pair].change)
    assert open_cd(tmp_path / "out", A_B_LABEL, ann_file="list/val.txt", suffix="") == []
    assert findings("whu-cd", tmp_path / "out") == []


def test_the_lists_of_whu_cd_hold_each_split(made, tmp_path) -> None:
    report = export_as("whu-cd", made("building"), tmp_path / "out", shares=(0.5, 0.5))
    lists = {split: (tmp_path / "out" / "list" / f"{split}.txt").read_text().split() for split in report.items}
    assert {split: len(names) for split, names in lists.items()} == report.items
    files = sorted(path.name for path in (tmp_path / "out" / "A").iterdir())
    assert sorted(name for names in lists.values() for name in names) == files


def test_unknown_pixels_are_unchanged_here(made, tmp_path) -> None:
    """Values of 128 and more are changed for every reader: a 255 of a semantic mask must not get through."""
    source = with_unknown(made("landcover"), tmp_path / "source")
    export_as("levir-cd", source, tmp_path / "out")
    for item in torchange_levir(tmp_path / "out" / "train"):
        assert not item.labels[0][:8].any() and item.labels[0].any()


@pytest.fixture
def levir(made, tmp_path):
    export_as("levir-cd", made("building"), tmp_path / "out")
    return tmp_path / "out"


def test_a_label_of_0_and_1_is_found(levir) -> None:
    """Open-CD's to_binary takes 128 and more for changed, so that all would be unchanged. [transforms/loading.py]"""
    path = first_file(levir / "train" / "label")
    repaint(path, lambda label: label // 255)
    prefixes = {key: f"train/{folder}" for key, folder in A_B_LABEL.items()}
    assert not open_cd(levir, prefixes, to_binary=True)[0].labels[0].any()
    found = the_finding("levir-cd", levir)
    assert found.file == f"train/label/{path.name}" and "values 1" in found.message and "255" in found.fix


def test_a_missing_partner_is_found(levir) -> None:
    path = first_file(levir / "train" / "B")
    path.unlink()
    found = the_finding("levir-cd", levir)
    assert found.file == f"train/B/{path.name}" and "missing" in found.message


def test_a_label_without_images_is_found(levir) -> None:
    label = first_file(levir / "train" / "label")
    (levir / "train" / "label" / "alone.png").write_bytes(label.read_bytes())
    assert [f.file for f in findings("levir-cd", levir)] == ["train/A/alone.png", "train/B/alone.png"]


def test_another_size_is_found(levir) -> None:
    path = first_file(levir / "train" / "B")
    repaint(path, lambda image: image[:-1])
    found = the_finding("levir-cd", levir)
    assert found.file == f"train/B/{path.name}" and "128 × 127" in found.message


@pytest.mark.parametrize(
    ("folder", "change", "mode"),
    [
        ("A", lambda image: image[..., 0], "L"),
        ("B", lambda image: np.dstack([image, image[..., :1]]), "RGBA"),
        ("label", lambda label: np.dstack([label] * 3), "RGB"),
        ("label", lambda label: label.astype(np.uint16), "I;16"),
        ("label", lambda label: label > 0, "1"),
    ],
)
def test_another_mode_is_found(folder, change, mode, levir) -> None:
    """torchange hands arrays on as they are: a label of three bands is no label. [torchange/data/bitemporal.py]"""
    repaint(first_file(levir / "train" / folder), change)
    assert f"mode {mode} " in the_finding("levir-cd", levir).message


def test_a_broken_file_is_found(levir) -> None:
    path = first_file(levir / "train" / "A")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])
    found = the_finding("levir-cd", levir)
    assert found.file == f"train/A/{path.name}" and "cannot be read" in found.message


def test_a_file_that_readers_pass_over_is_a_warning(levir) -> None:
    (levir / "train" / "A" / "Thumbs.db").write_bytes(b"")
    assert the_finding("levir-cd", levir).severity == "warning"


def test_names_that_differ_in_case_only_are_a_warning(levir) -> None:
    for folder in ("A", "B", "label"):
        path = first_file(levir / "train" / folder)
        path.with_name(path.stem.upper() + ".png").write_bytes(path.read_bytes())
    found = findings("levir-cd", levir)
    assert len(found) == 3 and all(f.severity == "warning" and "case" in f.message for f in found)


def test_a_folder_that_is_no_levir_cd(levir, tmp_path) -> None:
    assert "none of the folders" in the_finding("levir-cd", levir / "train").message
    (tmp_path / "empty" / "train").mkdir(parents=True)
    messages = [f.message for f in findings("levir-cd", tmp_path / "empty")]
    assert messages.count("is missing") == 3 and "no item" in messages[-1]


def test_a_split_that_no_reader_looks_for_is_a_warning(levir) -> None:
    (levir / "train").rename(levir / "validation")
    (levir / "val").mkdir()
    assert ("validation", "warning") in [(f.file, f.severity) for f in findings("levir-cd", levir)]


def test_a_flat_name_without_a_split_is_found(made, tmp_path) -> None:
    """torchgeo globs <split>*.png: a file of any other name is never read. [torchgeo/datasets/levircd.py]"""
    export_as("levir-cd-flat", made("building"), tmp_path / "out")
    name = first_file(tmp_path / "out" / "A").name
    for folder in ("A", "B", "label"):
        (tmp_path / "out" / folder / name).rename(tmp_path / "out" / folder / "odd.png")
    found = findings("levir-cd-flat", tmp_path / "out")
    assert [f.file for f in found] == ["A/odd.png", "B/odd.png", "label/odd.png"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda names: [*names, "gone.png"], "not in A"),
        (lambda names: [name.removesuffix(".png") for name in names[:1]] + names[1:], "not in A"),
        (lambda names: [*names, names[0]], "again"),
        (lambda names: names[1:], "in no list"),
        (lambda names: [*names, "a b.png"], "spaces"),
    ],
)
def test_a_wrong_list_is_found(spoil, message, made, tmp_path) -> None:
    export_as("whu-cd", made("building"), tmp_path / "out")
    path = tmp_path / "out" / "list" / "train.txt"
    path.write_text("".join(f"{name}\n" for name in spoil(path.read_text().split())))
    assert any(message in f.message and f.fix for f in findings("whu-cd", tmp_path / "out"))


def test_a_pair_in_two_lists_and_a_missing_list_are_found(made, tmp_path) -> None:
    export_as("whu-cd", made("building"), tmp_path / "out")
    lists = tmp_path / "out" / "list"
    (lists / "test.txt").write_text((lists / "train.txt").read_text().splitlines()[0] + "\n")
    (lists / "val.txt").unlink()
    found = findings("whu-cd", tmp_path / "out")
    assert sorted(f.file for f in found) == ["list/test.txt", "list/val.txt"]
    assert "as list/train.txt does" in next(f.message for f in found if f.file == "list/test.txt")
