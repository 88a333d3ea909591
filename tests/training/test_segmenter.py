"""Training the segmenter: what labels allow, what is lost, and that a tiny one learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from changen_cli.synthesis.models import read_facts
from changen_cli.synthesis.segmenter import LandCoverSegmenter, load_segmenter
from changen_cli.training.loop import LoopSettings, run
from changen_cli.training.segmenter import LabelSet, SegmenterTask, disturb, label_iou, partial_cross_entropy
from changen_cli.training.tiles import TrainingTile


def tile(seed: int, size: int = 64, label: int = 8) -> TrainingTile:
    """Dark ground with a bright building."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((size, size), np.uint8)
    top, left = rng.integers(4, size // 2, 2)
    classes[top : top + size // 3, left : left + size // 3] = label
    image = rng.normal(60, 10, (size, size, 3)) + 120 * (classes == label)[..., None]
    return TrainingTile(np.clip(image, 0, 255).astype(np.uint8), classes, f"p{seed}")


def label_set(count: int = 6, size: int = 64, name: str = "made") -> LabelSet:
    return LabelSet(name, [tile(seed, size) for seed in range(count)], frozenset({8}))


def test_what_labels_allow() -> None:
    table = LabelSet("x", [], frozenset({2, 8}), {2: frozenset({2, 5})}).allowed()
    assert table[8].nonzero()[0].tolist() == [7]
    assert table[2].nonzero()[0].tolist() == [1, 4]
    assert table[0].nonzero()[0].tolist() == [0, 2, 3, 4, 5, 6]  # any class the set does not name
    assert table[255].all()
    assert LabelSet("x", [], frozenset(range(1, 9))).allowed()[0].all()


def test_partial_cross_entropy() -> None:
    logits = torch.randn(1, 8, 2, 2, requires_grad=True)
    shares = logits.softmax(dim=1)[0]
    allowed = torch.zeros(1, 8, 2, 2, dtype=torch.bool)
    allowed[0, 3, 0, 0] = True  # one class: the usual cross entropy
    allowed[0, :7, 0, 1] = True  # "not building"
    allowed[0, :, 1] = True  # no label
    loss = partial_cross_entropy(logits, allowed)
    assert loss.item() == pytest.approx((-shares[3, 0, 0].log() - shares[:7, 0, 1].sum().log()).item() / 2, rel=1e-5)
    loss.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    assert logits.grad[0, :, 1].abs().max() == 0
    assert partial_cross_entropy(logits, torch.ones_like(allowed)).item() == 0


def test_batches_depend_on_the_generator_only() -> None:
    task = SegmenterTask(LandCoverSegmenter(widths=(8, 8), blocks_per_level=(1, 1)), [label_set()], crop_px=32)
    first, second = (task.batch(np.random.default_rng(3), 4) for _ in range(2))
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
    assert first[0].shape == (4, 3, 32, 32) and first[0].dtype == np.float32
    assert first[1].shape == (4, 8, 32, 32)
    assert first[1].any(axis=1).all()


def test_images_and_labels_are_turned_alike() -> None:
    task = SegmenterTask(LandCoverSegmenter(widths=(8, 8), blocks_per_level=(1, 1)), [label_set()], crop_px=32)
    images, allowed = task.batch(np.random.default_rng(0), 32)
    building, luma = ~allowed[:, :7].any(axis=1), images.mean(axis=1)
    assert building.any()
    contrast = [
        grey[b].mean() - grey[~b].mean() for grey, b in zip(luma, building, strict=True) if b.any() and (~b).any()
    ]
    assert min(contrast) > 0.3


def test_disturbed_images_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (3, 16, 16)).astype(np.float32)
    for _ in range(30):
        out = disturb(image, rng)
        assert out.dtype == np.float32 and out.shape == image.shape
        assert np.abs(out).max() <= 1


def test_shares_decide_how_often_a_set_is_drawn() -> None:
    sets = [label_set(name="a"), LabelSet("b", [tile(9, label=6)], frozenset({6}), share=0.0)]
    task = SegmenterTask(LandCoverSegmenter(widths=(8, 8), blocks_per_level=(1, 1)), sets, crop_px=32)
    _, allowed = task.batch(np.random.default_rng(0), 16)
    assert not (allowed[:, 5] & (allowed.sum(axis=1) == 1)).any()


def test_it_learns_and_says_how_well(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LandCoverSegmenter(widths=(16, 16), blocks_per_level=(1, 1), license="CC0-1.0")
    held = label_set(2)
    task = SegmenterTask(model, [label_set()], [held], crop_px=32, facts={"data": ["made up"]})
    settings = LoopSettings(
        max_images=480, batch_size=8, learning_rate=5e-3, warmup_images=40, ema_decay=0.9, validate_every=480
    )
    told = {}
    run(task, settings, tmp_path, on_figures=lambda images, figures: told.update(figures))
    assert next(iter(told)) == "iou_made_building"
    assert told["iou_made_building"] > 0.7
    saved = load_segmenter(tmp_path / "model.safetensors")
    assert label_iou(saved, held)[8] == pytest.approx(told["iou_made_building"], abs=0.02)
    facts = read_facts(tmp_path / "model.safetensors")
    assert facts["images_seen"] == 480 and facts["data"] == ["made up"]
    assert facts["held_out"]["iou_made_building"] > 0.7
    assert list((tmp_path / "samples").glob("*.png"))
