"""SECOND: colours, index and binary label of six classes, where something changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.types import ClassSchema
from changen_cli.exports.second import counterparts

from .readers import open_cd, torchange_paths
from .tools import assert_images, export_as, findings, first_file, repaint, the_finding, truth, with_unknown

COLORS = {
    0: (255, 255, 255), 1: (0, 0, 255), 2: (128, 128, 128), 3: (0, 128, 0), 4: (0, 255, 0), 5: (128, 0, 0), 6: (255, 0, 0),
}  # fmt: skip
"""Unchanged, water, ground, low vegetation, tree, building, sports field: the palette in torchange's metrics/second.py and
Open-CD's datasets/second.py."""
BY_CLASS = np.array([3, 5, 2], np.uint8)
"""Background, building, road of the test data, with background=low vegetation."""
OPEN_CD = {
    "img_path_from": "train/im1", "img_path_to": "train/im2", "seg_map_path": "train/label",
    "seg_map_path_from": "train/label1_wo_cm", "seg_map_path_to": "train/label2_wo_cm",
}  # fmt: skip
MAP = {"background": "low vegetation"}


def truth_of(pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = pair.masks[0] != 255
    before, after = (np.where(known, BY_CLASS[np.where(known, mask, 0)], 0) for mask in pair.masks)
    changed = before != after
    return changed, before * changed, after * changed


@pytest.mark.parametrize("name", ["building", "landcover", "georeferenced", "parquet"])
def test_torchange_reads_second(name, made, tmp_path) -> None:
    """label1_wo_cm and label2_wo_cm are 0 to 6; all above 0 is change; 0 becomes 255 and is ignored. [torchange/data/second.py]"""
    export_as("second", made(name), tmp_path / "out", mapping=MAP)
    folders = ("im1", "im2", "label1_wo_cm", "label2_wo_cm", "label1", "label2")
    kinds = set()
    for pair, item in assert_images(torchange_paths(tmp_path / "out" / "train", folders), made(name)).items():
        changed, before, after = truth_of(truth(made(name))[pair])
        assert np.array_equal(item.labels[0] > 0, changed) and np.array_equal(item.labels[1] > 0, changed)
        for index, colored, ours in zip(item.labels[:2], item.labels[2:], (before, after), strict=True):
            assert np.array_equal(index, ours)
            for number, color in COLORS.items():
                assert np.array_equal((colored == color).all(axis=2), index == number)
        kinds |= set(zip(before[changed].tolist(), after[changed].tolist(), strict=True))
    assert len(kinds) >= 2
    assert findings("second", tmp_path / "out") == []


def test_open_cd_reads_second(made, tmp_path) -> None:
    """SECOND_Dataset takes label as it is, 0 and 1, and semantic labels as grey index, of which 0 is ignored.
    [likyoo/open-cd opencd/datasets/second.py]"""
    export_as("second", made("landcover"), tmp_path / "out", mapping=MAP)
    for pair, item in assert_images(open_cd(tmp_path / "out", OPEN_CD), made("landcover")).items():
        for label, ours in zip(item.labels, truth_of(truth(made("landcover"))[pair]), strict=True):
            assert np.array_equal(label, ours)


def test_unknown_ground_is_unchanged(made, tmp_path) -> None:
    source = with_unknown(made("landcover"), tmp_path / "source")
    export_as("second", source, tmp_path / "out", mapping=MAP)
    for item in open_cd(tmp_path / "out", OPEN_CD):
        assert not any(label[:8].any() for label in item.labels)


def test_change_within_one_class_is_left_out_and_said(made, tmp_path) -> None:
    """With background and road both ground, only buildings change."""
    report = export_as("second", made("landcover"), tmp_path / "out", mapping={"background": "ground"})
    pairs = truth(made("landcover"))
    for item in open_cd(tmp_path / "out", OPEN_CD):
        before, after = (mask == 1 for mask in pairs[item.name].masks)
        assert np.array_equal(item.labels[0], before != after)
    assert len(report.notes) == 1 and "carry no label" in report.notes[0]


def test_the_class_table_says_the_order(made, tmp_path) -> None:
    export_as("second", made("landcover"), tmp_path / "out", mapping=MAP)
    table = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert {row["id"]: tuple(row["color"]) for row in table["classes"]} == COLORS
    assert table["from"] == {"background": "low vegetation", "building": "building", "road": "ground"}


def test_classes_find_their_counterparts_by_name() -> None:
    oem = ("unknown", "bareland", "rangeland", "developed", "road", "tree", "water", "cropland", "building")
    found = counterparts(ClassSchema(oem), {})
    assert found == {
        "bareland": "ground", "rangeland": "low vegetation", "developed": "ground", "road": "ground", "tree": "tree",
        "water": "water", "cropland": "low vegetation", "building": "building",
    }  # fmt: skip
    assert counterparts(ClassSchema(("Water", "tree")), {"Water": "ground"}) == {"Water": "ground", "tree": "tree"}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, r"no counterpart for background.*--map \"background=CLASS\".*sports field"),
        ({"forest": "tree"}, r"the dataset has no class 'forest'.*background, building, road"),
        ({"background": "grass"}, r"SECOND has no class 'grass'.*low vegetation"),
    ],
)
def test_a_mapping_that_does_not_do(mapping, message, made, tmp_path) -> None:
    with pytest.raises(UsageError, match=message):
        export_as("second", made("landcover"), tmp_path / "out", mapping=mapping)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "change", "file", "message"),
    [
        ("label", lambda label: label * 255, "label", "values 255"),
        ("label", lambda label: 1 - label, "label", "disagree"),
        ("label1", lambda label: label[..., 0], "label1", "mode L"),
        ("label2", lambda label: np.where(label == 255, 0, label).astype(np.uint8), "label2", "colours (0, 0, 0)"),
        ("label1_wo_cm", lambda index: index * 3, "label1_wo_cm", "values 9"),
        ("label2_wo_cm", lambda index: np.roll(index, 3), "label2_wo_cm", "disagree"),
        ("im2", lambda image: image[:64, :64], "im2", "64 × 64"),
    ],
)
def test_wrong_files_are_found(folder, change, file, message, made, tmp_path) -> None:
    export_as("second", made("landcover"), tmp_path / "out", mapping=MAP)
    path = first_file(tmp_path / "out" / "train" / folder)
    repaint(path, change)
    found = findings("second", tmp_path / "out")
    assert any(f.file == f"train/{file}/{path.name}" and message in f.message for f in found), found


def test_the_published_tree_is_enough_for_torchange_to_prepare(made, tmp_path) -> None:
    """Upstream has neither label nor index. [likyoo/open-cd issue 45]"""
    export_as("second", made("landcover"), tmp_path / "out", mapping=MAP)
    for folder in ("label", "label1_wo_cm", "label2_wo_cm"):
        (tmp_path / "out/train" / folder).rename(tmp_path / folder)
    assert [f.severity for f in findings("second", tmp_path / "out")] == ["warning"] * 3


def test_a_name_that_torchange_would_break_is_found(made, tmp_path) -> None:
    export_as("second", made("landcover"), tmp_path / "out", mapping=MAP)
    name = first_file(tmp_path / "out/train/im1").name
    for folder in (tmp_path / "out/train").iterdir():
        (folder / name).rename(folder / "claim1.png")
    assert "torchange replaces" in the_finding("second", tmp_path / "out").message
