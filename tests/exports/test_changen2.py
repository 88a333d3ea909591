"""The published Changen2 tree: TIFF pairs without a change mask, georeferenced where the source is."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from .readers import hyscdg
from .tools import assert_images, export_as, findings, first_file, repaint, the_finding, truth

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
FOLDERS = ("t1_images", "t2_images", "t1_masks", "t2_masks")


@pytest.mark.parametrize("name", ["building", "landcover", "georeferenced", "parquet"])
def test_changen2(name, made, tmp_path) -> None:
    """Files of one pair have one name; change is where the masks differ. Pillow reads them too."""
    export_as("changen2", made(name), tmp_path / "out")
    expected = truth(made(name))
    for pair, item in assert_images(hyscdg(tmp_path / "out"), made(name)).items():
        before, after, change = item.labels
        assert np.array_equal(before, expected[pair].masks[0]) and np.array_equal(after, expected[pair].masks[1])
        assert np.array_equal(change, expected[pair].change)
        with Image.open(tmp_path / "out" / "t1_images" / f"{pair}.tif") as picture:
            assert picture.mode == "RGB" and np.array_equal(np.array(picture), item.images[0])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*FOLDERS, "classes.json", "export.json"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert findings("changen2", tmp_path / "out") == []


def test_the_georeference_is_kept(made, tmp_path) -> None:
    """Also where the dataset is Parquet, which holds PNG and the georeference in columns."""
    export_as("changen2", made("georeferenced"), tmp_path / "out")
    export_as("changen2", made("georeferenced-parquet"), tmp_path / "other")
    for sample in {pair.sample.id: pair.sample for pair in truth(made("georeferenced")).values()}.values():
        for out in ("out", "other"):
            for folder in FOLDERS:
                with rasterio.open(tmp_path / out / folder / f"{sample.id}_t0_t1.tif") as source:
                    assert source.crs == rasterio.CRS.from_user_input(sample.row["crs"])
                    assert source.transform == Affine(*sample.row["transform"])
                    assert source.nodata == (255 if "masks" in folder else None)
    for path in (tmp_path / "out").glob("*/*.tif"):
        assert path.stat().st_nlink > 1
    found = [hyscdg(tmp_path / out) for out in ("out", "other")]
    for ours, theirs in zip(*found, strict=True):
        assert all(
            np.array_equal(a, b) for a, b in zip(ours.images + ours.labels, theirs.images + theirs.labels, strict=True)
        )
    assert findings("changen2", tmp_path / "other") == []


def test_splits_are_folders(made, tmp_path) -> None:
    report = export_as("changen2", made("building"), tmp_path / "out", shares=(0.5, 0.5))
    assert {split: len(hyscdg(tmp_path / "out" / split)) for split in ("train", "val")} == report.items
    assert findings("changen2", tmp_path / "out") == []


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        ("t2_masks", lambda mask: np.dstack([mask] * 3), "mode RGB"),
        ("t1_images", lambda image: image[..., 0], "mode L"),
        ("t1_masks", lambda mask: mask[:-2], "128 × 128"),
        ("t2_masks", lambda mask: np.where(np.arange(128) < 3, 255, mask).astype(np.uint8), "what is unknown"),
    ],
)
def test_wrong_files_are_found(folder, change, message, made, tmp_path) -> None:
    export_as("changen2", made("building"), tmp_path / "out")
    repaint(first_file(tmp_path / "out" / folder), change)
    assert any(message in f.message for f in findings("changen2", tmp_path / "out"))


def test_missing_broken_and_foreign_files_are_found(made, tmp_path) -> None:
    export_as("changen2", made("building"), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "t1_images").iterdir())
    (tmp_path / "out" / "t2_masks" / names[0]).unlink()
    (tmp_path / "out" / "t1_images" / names[1]).write_bytes(b"II*\x00")
    (tmp_path / "out" / "t1_masks" / "notes.png").write_bytes(b"")
    found = {f.file: f.severity for f in findings("changen2", tmp_path / "out")}
    assert found == {f"t2_masks/{names[0]}": "error", f"t1_images/{names[1]}": "error", "t1_masks/notes.png": "warning"}


def test_a_file_that_lies_elsewhere_is_found(made, tmp_path) -> None:
    export_as("changen2", made("georeferenced-parquet"), tmp_path / "out")
    path = first_file(tmp_path / "out" / "t2_masks")
    with rasterio.open(path, "r+") as target:
        target.transform = target.transform @ Affine.translation(3, 0)
    found = the_finding("changen2", tmp_path / "out")
    assert found.file == f"t2_masks/{path.name}" and "lies elsewhere" in found.message
