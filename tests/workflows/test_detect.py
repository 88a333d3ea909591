"""Change maps of files: sizes, georeferences, folders, missing data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import Affine

from changen_cli.core.errors import ModelError, OutputError, SceneError, UsageError
from changen_cli.synthesis.detector import ChangeDetector, load_detector
from changen_cli.synthesis.models import save_model
from changen_cli.workflows.detect import detect

PLACE = Affine(0.5, 0, 330000, 0, -0.5, 2780000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("detector") / "model.safetensors"
    save_model(ChangeDetector(widths=(8, 16), blocks_per_level=(1, 1), head_width=8), path)
    return path


def pixels(seed: int, height: int = 70, width: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (height, width, 3), dtype=np.uint8)


def tiff(path: Path, image: np.ndarray, transform: Affine = PLACE) -> Path:
    options = {
        "driver": "GTiff",
        "count": 3,
        "dtype": "uint8",
        "nodata": 0,
        "crs": "EPSG:32640",
        "transform": transform,
    }
    with rasterio.open(path, "w", height=image.shape[0], width=image.shape[1], **options) as target:
        target.write(np.moveaxis(image, 2, 0))
    return path


def png(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_a_geotiff_keeps_its_place(model: Path, tmp_path: Path) -> None:
    before = pixels(0)
    before[:, :40] = 0  # half of the tile was never recorded
    a, b = tiff(tmp_path / "a.tif", before), png(tmp_path / "b.png", pixels(1))
    (done,) = detect(a, b, model, output=tmp_path / "out" / "map.tif")
    said = load_detector(model).predict(before, pixels(1))
    with rasterio.open(done.probability) as file:
        assert file.dtypes == ("float32",) and file.crs.to_epsg() == 32640 and file.transform == PLACE
        probability = file.read(1)
    assert (probability[:, 41:] == said[:, 41:]).all() and (probability[:, :40] == 0).all()
    with rasterio.open(done.change) as file:
        assert file.dtypes == ("uint8",) and file.transform == PLACE
        change = file.read(1)
    assert ((change == 255) == (probability > 0.5)).all() and set(np.unique(change)) <= {0, 255}
    assert done.changed_share == pytest.approx((change == 255)[:, 40:].mean())
    assert Image.open(done.overlay).size == (3 * 90 + 12, 70)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "map.tif", "map_overlay.png", "map_probability.tif",
    ]  # fmt: skip


def test_folders_pair_by_stem(model: Path, tmp_path: Path) -> None:
    for name in ("1", "2", "only"):
        png(tmp_path / "A" / f"{name}.png", pixels(0))
    for name in ("2", "1", "other"):
        Image.fromarray(pixels(1)).save(png(tmp_path / "B" / f"{name}.jpg", pixels(1)))
    done = detect(tmp_path / "A", tmp_path / "B", model, output=tmp_path / "out")
    assert [item.change.name for item in done] == ["1.png", "2.png"]
    probability = np.asarray(Image.open(done[0].probability)) / 255
    said = load_detector(model).predict(pixels(0), np.asarray(Image.open(tmp_path / "B" / "1.jpg")))
    assert np.abs(probability - said).max() < 0.003
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        detect(tmp_path / "A", tmp_path / "B", model, output=tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    strict = detect(tmp_path / "A", tmp_path / "B", model, output=tmp_path / "out", threshold=1, overwrite=True)
    assert strict[0].changed_share == 0


def test_what_cannot_be_done_is_one_line(model: Path, tmp_path: Path) -> None:
    a, small = png(tmp_path / "a.png", pixels(0)), png(tmp_path / "small.png", pixels(0, 60, 90))
    out = tmp_path / "out" / "x.png"
    with pytest.raises(UsageError, match=r"a.png has 90 x 70 px, .*small.png has 90 x 60 px.*one grid"):
        detect(a, small, model, output=out)
    with pytest.raises(UsageError, match="train-detector"):
        detect(a, a, None)
    with pytest.raises(UsageError, match="one is a folder"):
        detect(a, tmp_path, model)
    with pytest.raises(UsageError, match="does not exist"):
        detect(a, tmp_path / "nowhere.png", model)
    with pytest.raises(UsageError, match=r"in \.png or \.tif"):
        detect(a, a, model, output=tmp_path / "x.gif")
    with pytest.raises(OutputError, match="one of the images"):
        detect(a, a, model, output=a, overwrite=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images of the same name"):
        detect(tmp_path / "empty", tmp_path / "empty", model)
    (tmp_path / "b.png").write_bytes(b"text")
    with pytest.raises(SceneError, match=r"b\.png"):
        detect(a, tmp_path / "b.png", model, output=out)
    with pytest.raises(ModelError):
        detect(a, a, tmp_path / "nowhere")
    assert not out.parent.exists()


def test_no_map_is_written_over_that_of_another_pair(model: Path, tmp_path: Path) -> None:
    for folder in "ab":
        for name in ("town.png", "town_probability.png"):
            png(tmp_path / folder / name, pixels(0))
    with pytest.raises(UsageError, match=r"town_probability\.png would be written for two pairs"):
        detect(tmp_path / "a", tmp_path / "b", model, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
