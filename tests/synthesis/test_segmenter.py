"""The land-cover segmenter: shapes, tiling, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from changen_cli.core.errors import ModelError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis.hub import BUNDLED, SEGMENTER, find_model
from changen_cli.synthesis.models import load_model, read_facts, save_model
from changen_cli.synthesis.segmenter import FEATURE_STRIDE, LandCoverSegmenter, load_segmenter

SMALL = {"widths": (8, 8, 8), "blocks_per_level": (1, 1, 1)}


def small(seed: int = 0) -> LandCoverSegmenter:
    torch.manual_seed(seed)
    return LandCoverSegmenter(**SMALL).eval()


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (5, 9)])
@torch.no_grad()
def test_any_size(size: tuple[int, int]) -> None:
    image = torch.randn(2, 3, *size)
    model = small()
    assert model(image).shape == (2, len(OPENEARTHMAP), *size)
    assert model.features(image).shape == (2, 8, -(-size[0] // FEATURE_STRIDE), -(-size[1] // FEATURE_STRIDE))


@torch.no_grad()
def test_features_are_standardised() -> None:
    features = small().features(torch.randn(1, 3, 64, 64))
    assert features.mean(dim=1).abs().max() < 1e-5
    assert features.std(dim=1, unbiased=False).mean() == pytest.approx(1, abs=0.01)


def test_predict_gives_the_same_tiled() -> None:
    image = np.random.default_rng(0).integers(0, 256, (250, 310, 3), dtype=np.uint8)
    model = small()
    whole, tiled = model.predict(image, tile_px=512), model.predict(image, tile_px=128)
    assert whole.shape == (8, 250, 310)
    assert whole.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert np.abs(whole - tiled).max() < 0.02


def test_describe() -> None:
    windows = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    model = small()
    vectors = model.describe(windows, batch=2)
    assert vectors.shape == (5, 8)
    assert model.describe(windows[3:4]) == pytest.approx(vectors[3:4], abs=1e-5)
    assert model.describe(windows[:0]).shape == (0, 8)


def test_files(tmp_path: Path, model_file: Path) -> None:
    model, path = small(), tmp_path / "segmenter.safetensors"
    save_model(model, path, dtype=torch.float16, data=["made up"])
    again = load_segmenter(path)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert again(image) == pytest.approx(model(image), abs=0.02)
    with pytest.raises(ModelError, match="no segmenter"):
        load_segmenter(model_file)
    with pytest.raises(ModelError, match="not a readable segmenter"):
        load_segmenter(tmp_path / "missing.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a readable segmenter"):
        load_segmenter(path)


def test_the_bundled_one_is_small_and_says_where_it_comes_from() -> None:
    path = BUNDLED / f"{SEGMENTER}.safetensors"
    model: Any = load_segmenter(path)
    assert path.stat().st_size < 10e6
    assert tuple(model.config["classes"]) == OPENEARTHMAP
    assert model.config["widths"][1] <= 128
    facts = read_facts(path)
    assert len(facts["data"]) == 3
    assert "iou_dubai_building" in facts["held_out"]


def test_it_is_not_offered_as_a_denoiser() -> None:
    with pytest.raises(ModelError, match="judges images; it draws none"):
        load_model(BUNDLED / f"{SEGMENTER}.safetensors")
    with pytest.raises(ModelError, match="changen-mini") as error:
        find_model("changen-maxi")
    assert SEGMENTER not in str(error.value)
