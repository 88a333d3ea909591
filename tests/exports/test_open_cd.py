"""Open-CD's generic datasets, which take stored values as they are and ignore 255."""

from __future__ import annotations

import json

import numpy as np
import pytest

from .readers import open_cd
from .tools import assert_images, export_as, findings, first_file, repaint, the_finding, truth, with_unknown

PREFIXES = {
    "img_path_from": "train/A",
    "img_path_to": "train/B",
    "seg_map_path": "train/label",
    "seg_map_path_from": "train/label_from",
    "seg_map_path_to": "train/label_to",
}


@pytest.mark.parametrize("ann_file", ["", "train.txt"])
@pytest.mark.parametrize("name", ["building", "landcover", "georeferenced", "parquet"])
def test_open_cd(name, ann_file, made, tmp_path) -> None:
    """BaseSCDDataset with format_seg_map None lists the folders, BaseCDDataset also takes a list of stems."""
    export_as("open-cd", made(name), tmp_path / "out")
    expected = truth(made(name))
    for pair, item in assert_images(open_cd(tmp_path / "out", PREFIXES, ann_file=ann_file), made(name)).items():
        change, before, after = item.labels
        assert np.array_equal(change, expected[pair].change)
        assert np.array_equal(before, expected[pair].masks[0]) and np.array_equal(after, expected[pair].masks[1])
    assert findings("open-cd", tmp_path / "out") == []


def test_unknown_pixels_are_ignored(made, tmp_path) -> None:
    """ignore_index is 255 in labels and semantic labels. [opencd/datasets/basecddataset.py]"""
    source = with_unknown(made("landcover"), tmp_path / "source")
    export_as("open-cd", source, tmp_path / "out")
    for item in open_cd(tmp_path / "out", PREFIXES):
        assert all((label[:8] == 255).all() for label in item.labels)
        assert set(np.unique(item.labels[0][8:])) == {0, 1}
    assert findings("open-cd", tmp_path / "out") == []


def test_a_label_of_0_and_255_is_found(made, tmp_path) -> None:
    """Its values are known ones, but everything that changed would be ignored."""
    export_as("open-cd", made("landcover"), tmp_path / "out")
    repaint(first_file(tmp_path / "out" / "train" / "label"), lambda label: label * 255)
    assert "ignored" in the_finding("open-cd", tmp_path / "out").message


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("label", lambda label: label * 200, "values 200"),
        ("label", lambda label: label * 128, "values 128"),
        ("label", lambda label: 1 - label, "disagree"),
        ("label_to", lambda mask: mask + 7, "values 7"),
        ("label_from", lambda mask: np.dstack([mask] * 3), "mode RGB"),
    ],
)
def test_wrong_labels_are_found(folder, change, message, made, tmp_path) -> None:
    export_as("open-cd", made("landcover"), tmp_path / "out")
    repaint(first_file(tmp_path / "out" / "train" / folder), change)
    found = findings("open-cd", tmp_path / "out")
    assert any(message in f.message for f in found), found


def test_a_binary_set_needs_no_semantic_labels(made, tmp_path) -> None:
    """BaseCDDataset reads seg_map_path alone."""
    export_as("open-cd", made("landcover"), tmp_path / "out")
    for folder in ("label_from", "label_to"):
        (tmp_path / "out" / "train" / folder).rename(tmp_path / folder)
    found = findings("open-cd", tmp_path / "out")
    assert [f.severity for f in found] == ["warning", "warning"]


def test_a_stem_with_its_suffix_is_found(made, tmp_path) -> None:
    """img_suffix is added to every line. [opencd/datasets/basecddataset.py]"""
    export_as("open-cd", made("building"), tmp_path / "out")
    listed = tmp_path / "out" / "train.txt"
    first, *rest = listed.read_text().splitlines()
    listed.write_text("\n".join([f"{first}.png", *rest]) + "\n")
    found = findings("open-cd", tmp_path / "out")
    assert any(f.fix == f"Write it as {first}" for f in found)


def test_classes_travel_with_it(made, tmp_path) -> None:
    export_as("open-cd", made("landcover"), tmp_path / "out")
    names = [row["name"] for row in json.loads((tmp_path / "out" / "classes.json").read_text())["classes"]]
    assert names == ["background", "building", "road"]
    (tmp_path / "out" / "classes.json").unlink()
    repaint(first_file(tmp_path / "out" / "train" / "label_to"), lambda mask: mask + 7)
    assert "disagree" in the_finding("open-cd", tmp_path / "out").message
