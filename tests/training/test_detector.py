"""Training a change detector: an easy change is learned, a broken run ends like an unbroken one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from changen_cli.core.errors import ModelError
from changen_cli.core.scores import ChangeScores
from changen_cli.synthesis.detector import load_detector
from changen_cli.synthesis.models import read_facts
from changen_cli.training.detection_pairs import NOTHING_SAID, LabelledPairs, PairTile
from changen_cli.training.detector import DetectorTask, change_loss, new_detector
from changen_cli.training.loop import LoopSettings, run

from .conftest import assert_equal, log

TINY = {"widths": (16, 24), "blocks_per_level": (1, 1), "head_width": 16}
SETTINGS = LoopSettings(
    max_images=640, batch_size=8, learning_rate=8e-3, warmup_images=40, ema_decay=0.9, save_every=800,
    validate_every=640, seed=3,
)  # fmt: skip


def planted(number: int, side: int = 64) -> PairTile:
    """Grey ground in two lights; where something changed a bright block stands at one of the dates."""
    rng = np.random.default_rng(number)
    ground = rng.normal(90, 12, (side, side, 1)).repeat(3, axis=2)
    dates = [ground + rng.normal(0, 4, ground.shape) for _ in range(2)]
    change = np.zeros((side, side), np.uint8)
    row, col = rng.integers(4, side - 24, 2)
    change[row : row + 20, col : col + 20] = 1
    dates[number % 2][change == 1] += 110
    other = rng.integers(0, side - 12, 2)
    for date in dates:  # one that stands at both is no change
        date[other[0] : other[0] + 10, other[1] : other[1] + 10] = 220
    change[other[0] : other[0] + 10, other[1] : other[1] + 10] = 0
    change[:4, :4] = 255
    before, after = (np.clip(date, 0, 255).astype(np.uint8) for date in dates)
    nothing = np.zeros((side, side), np.uint8)
    return PairTile(before, after, change, nothing, nothing, NOTHING_SAID, f"p{number}")


def task(seed: int = 3) -> DetectorTask:
    model = new_detector("small", seed, **TINY)
    return DetectorTask(model, LabelledPairs([planted(n) for n in range(12)], 48), [planted(n) for n in range(50, 56)])


def test_an_easy_change_is_learned(tmp_path: Path) -> None:
    told = {}
    run(task(), SETTINGS, tmp_path, on_figures=lambda images, figures: told.update(figures))
    assert told["f1"] > 0.8 and told["ap"] > 0.8
    scores = ChangeScores()
    for tile in (planted(n) for n in range(60, 68)):
        said = load_detector(tmp_path).predict(tile.before, tile.after)
        scores.add(said, tile.change == 1, tile.change != 255)
    assert scores.figures()["f1"] > 0.8
    assert read_facts(tmp_path / "model.safetensors")["held_out"]["f1"] == pytest.approx(told["f1"], abs=1e-4)
    assert list((tmp_path / "samples").glob("*.png"))


def test_resumed_equals_unbroken(tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    def kill(step) -> None:
        if step.images >= 56:
            raise Killed

    settings = replace(SETTINGS, max_images=80, save_every=24)
    run(task(), settings, tmp_path / "whole")
    with pytest.raises(Killed):
        run(task(), settings, tmp_path / "broken", on_step=kill)
    run(task(99), settings, tmp_path / "broken", resume=True)
    whole, broken = (load_detector(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert_equal(whole, broken)
    assert log(tmp_path / "whole") == log(tmp_path / "broken")


def test_unknown_pixels_do_not_count() -> None:
    change = torch.tensor([[[1, 0], [255, 255]]], dtype=torch.uint8)
    logits = torch.tensor([[[2.0, -1.0], [9.0, -9.0]]], requires_grad=True)
    loss = change_loss(logits, change)
    loss.backward()
    assert logits.grad is not None and (logits.grad[0, 1] == 0).all() and (logits.grad[0, 0] != 0).all()
    assert change_loss(torch.full((1, 2, 2), 5.0), torch.full((1, 2, 2), 255, dtype=torch.uint8)).item() == 0


def test_what_a_detector_starts_from(tmp_path: Path) -> None:
    first, second, other = (new_detector("small", seed, **TINY).state_dict() for seed in (1, 1, 2))
    assert_equal(first, second)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    run(task(), replace(SETTINGS, max_images=8), tmp_path)
    tuned = new_detector("1x256", 5, init=str(tmp_path))
    assert_equal(tuned.state_dict(), load_detector(tmp_path).state_dict())
    assert tuned.training
    trunk = new_detector("small", 1, init="segmenter").trunk
    assert not torch.equal(trunk.stem[1].weight, new_detector("small", 1).trunk.stem[1].weight)
    assert 2_000_000 < sum(p.numel() for p in new_detector("small", 1).parameters()) < 3_000_000
    with pytest.raises(ModelError):
        new_detector("small", 1, init=str(tmp_path / "nowhere"))
