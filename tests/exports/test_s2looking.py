"""S2Looking: the label its readers use, and what is built and what is demolished."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError

from .readers import open_cd, torchange_paths
from .tools import assert_images, export_as, findings, first_file, repaint, the_finding, truth

FOLDERS = ("Image1", "Image2", "label", "label1", "label2")
BLUE, RED = (0, 0, 255), (255, 0, 0)


def painted(label, color) -> np.ndarray:
    """Where a label shows its colour; it shows nothing else but black."""
    shown = (label == np.array(color)).all(axis=2)
    assert (shown | (label == 0).all(axis=2)).all()
    return shown


@pytest.mark.parametrize("name", ["building", "landcover", "georeferenced", "parquet"])
def test_s2looking(name, made, tmp_path) -> None:
    """torchange replaces Image1 in the path; label 0/255. label1 is newly built in blue, label2 demolished in red, which
    users of the published files read from the blue and the red channel."""
    export_as("s2looking", made(name), tmp_path / "out")
    expected = truth(made(name))
    built = gone = 0
    for pair, item in assert_images(torchange_paths(tmp_path / "out" / "train", FOLDERS), made(name)).items():
        before, after = (mask == 1 for mask in expected[pair].masks)
        label, label1, label2 = item.labels
        assert label.ndim == 2 and set(np.unique(label)) <= {0, 255}
        assert np.array_equal(label > 0, before != after)
        assert np.array_equal(painted(label1, BLUE), after & ~before)
        assert np.array_equal(painted(label2, RED), before & ~after)
        built, gone = built + label1.any(), gone + label2.any()
    assert built and gone
    assert findings("s2looking", tmp_path / "out") == []


def test_open_cd_reads_its_label(made, tmp_path) -> None:
    """S2Looking_Dataset is to_binary and reads label only. [likyoo/open-cd opencd/datasets/s2looking.py]"""
    export_as("s2looking", made("building"), tmp_path / "out")
    prefixes = {"img_path_from": "train/Image1", "img_path_to": "train/Image2", "seg_map_path": "train/label"}
    expected = truth(made("building"))
    for item in open_cd(tmp_path / "out", prefixes, to_binary=True):
        assert np.array_equal(item.labels[0], expected[item.name].change)


def test_a_destroyed_building_no_longer_stands(made, tmp_path) -> None:
    report = export_as("s2looking", made("damage"), tmp_path / "out")
    expected, seen = truth(made("damage")), False
    for path in (tmp_path / "out" / "train" / "label2").iterdir():
        before, after = expected[path.stem].masks
        gone = np.isin(before, (1, 2, 3)) & (after == 4)
        assert np.array_equal(painted(np.asarray(Image.open(path)), RED), gone)
        seen |= gone.any()
    assert seen and report.notes == []


def test_what_is_left_out_is_said(made, tmp_path) -> None:
    """Roads laid on free ground are no change of buildings."""
    report = export_as("s2looking", made("landcover"), tmp_path / "out")
    pairs = truth(made("landcover")).values()
    changed = sum(int(pair.change.sum()) for pair in pairs)
    shown = sum(int(((pair.masks[0] == 1) != (pair.masks[1] == 1)).sum()) for pair in pairs)
    assert changed > shown
    assert [note.split(" ")[0] for note in report.notes] == [f"{(changed - shown) / changed:.1%}"]


def test_without_buildings_it_is_refused(made, tmp_path) -> None:
    source = shutil.copytree(made("landcover"), tmp_path / "source")
    table = json.loads((source / "classes.json").read_text())
    table["classes"][1]["name"] = "field"
    (source / "classes.json").write_text(json.dumps(table))
    with pytest.raises(UsageError, match="no class of the dataset is one"):
        export_as("s2looking", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("label", lambda label: 255 - label, "disagree"),
        ("label", lambda label: label // 255, "values 1"),
        ("label1", lambda label: label[..., ::-1], "colours (255, 0, 0)"),
        ("label2", lambda label: label.max(axis=2), "mode L"),
        ("Image2", lambda image: image[:, 1:], "127 × 128"),
    ],
)
def test_wrong_files_are_found(folder, change, message, made, tmp_path) -> None:
    export_as("s2looking", made("building"), tmp_path / "out")
    folder = tmp_path / "out" / "train" / folder
    path = next(path for path in sorted(folder.iterdir()) if np.asarray(Image.open(path)).any())
    repaint(path, change)
    assert any(message in f.message and f.file.endswith(path.name) for f in findings("s2looking", tmp_path / "out"))


def test_built_and_demolished_at_once_is_found(made, tmp_path) -> None:
    export_as("s2looking", made("building"), tmp_path / "out")
    built = next(p for p in sorted((tmp_path / "out/train/label1").iterdir()) if np.asarray(Image.open(p)).any())
    other = tmp_path / "out/train/label2" / built.name
    repaint(other, lambda label: label | np.asarray(Image.open(built))[..., ::-1])
    assert "share" in the_finding("s2looking", tmp_path / "out").message


def test_the_published_set_may_lack_its_colours(made, tmp_path) -> None:
    """Both readers do with label."""
    export_as("s2looking", made("building"), tmp_path / "out")
    for folder in ("label1", "label2"):
        (tmp_path / "out/train" / folder).rename(tmp_path / folder)
    assert {f.severity for f in findings("s2looking", tmp_path / "out")} == {"warning"}


def test_a_name_that_torchange_would_break_is_found(made, tmp_path) -> None:
    export_as("s2looking", made("building"), tmp_path / "out")
    name = first_file(tmp_path / "out/train/Image1").name
    for folder in FOLDERS:
        (tmp_path / "out/train" / folder / name).rename(tmp_path / "out/train" / folder / "Image1_a.png")
    with pytest.raises(AssertionError):
        torchange_paths(tmp_path / "out" / "train", FOLDERS)
    assert "torchange replaces" in the_finding("s2looking", tmp_path / "out").message
