"""The change detector: symmetric in time to the bit, the same in pieces, and itself again after a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.detector import ChangeDetector, load_detector
from changen_cli.synthesis.hub import BUNDLED
from changen_cli.synthesis.models import load_model, save_model


def images(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return first, second


@pytest.fixture(scope="module")
def detector() -> ChangeDetector:
    torch.manual_seed(0)
    model = ChangeDetector(widths=(16, 24, 32), blocks_per_level=(1, 1, 1), head_width=16)
    return model.to(memory_format=torch.channels_last).eval()


@pytest.mark.parametrize("size", [(64, 64), (57, 90), (130, 130), (5, 3)])
def test_the_order_of_the_dates_makes_no_difference(detector, size) -> None:
    first, second = images(*size)
    said = detector.predict(first, second)
    assert said.shape == size and said.dtype == np.float32 and said.min() >= 0 and said.max() <= 1
    assert (said == detector.predict(second, first)).all()
    assert (said != detector.predict(first, first)).any()
    answer = detector(*(torch.zeros(2, 3, *size) for _ in range(2)))
    assert answer.change.shape == (2, *size) and answer.classes.shape == (4, 8, *size)


def test_pieces_answer_like_the_whole(detector) -> None:
    first, second = images(300, 260)
    assert np.abs(detector.predict(first, second, tile_px=128) - detector.predict(first, second)).max() < 0.01


def test_a_file_gives_the_same_map(detector, tmp_path: Path) -> None:
    save_model(detector, tmp_path / "model.safetensors", license="CC0-1.0")
    first, second = images(64, 48)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert (load_detector(path).predict(first, second) == detector.predict(first, second)).all()
    with pytest.raises(ModelError, match="is a LandCoverSegmenter, no change detector"):
        load_detector(BUNDLED / "changen-segmenter.safetensors")
    with pytest.raises(ModelError, match="ChangeDetector"):
        load_model(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match="not a readable change detector"):
        load_detector(tmp_path)
    with pytest.raises(ModelError):
        load_detector(tmp_path / "nowhere")
