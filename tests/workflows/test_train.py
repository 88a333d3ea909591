"""Training: it learns, it resumes as if never broken, and a kill leaves a whole checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, picture

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.synthesis.models import load_model, read_facts
from changen_cli.workflows import train as training
from changen_cli.workflows.train import Trainer, TrainingConfig, learning_rate, new_hybrid, train
from changen_cli.workflows.training_data import (
    TrainingTile,
    draw_change_area,
    footprints,
    load_tiles,
    make_batch,
    misfit,
)

CONFIG = TrainingConfig(
    max_images=60, batch_size=2, crop_size=32, learning_rate=3e-3, warmup_images=4, ema_decay=0.9, save_every=30, seed=3
)


@pytest.fixture(scope="module")
def tiles() -> list[TrainingTile]:
    made = []
    for seed in (0, 1):
        image, numbers = picture(seed, 64)
        made.append(TrainingTile(image, (numbers > 0).astype(np.uint8)))
    return made


def log(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(row["images"], row["loss"]) for row in rows]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path / "model.safetensors").state_dict()


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_the_loss_falls(tiles, tmp_path: Path) -> None:
    flat = [TrainingTile(np.full((64, 64, 3), 60, np.uint8), tiles[0].classes)]
    config = replace(CONFIG, max_images=240, batch_size=4, refiner_share=0.0, learning_rate=1e-2)
    told: list[tuple[int, float, float]] = []
    train(new_hybrid(0, **TINY), flat, config, tmp_path, on_progress=lambda *row: told.append(row))
    losses = [loss for _, loss in log(tmp_path)]
    assert losses[-1] < 0.6 * losses[0]
    assert [images for images, _, _ in told] == [images for images, _ in log(tmp_path)] == list(range(40, 241, 40))
    assert all(rate > 0 for _, _, rate in told)


class KilledError(Exception):
    """Stands for a kill at some moment."""


def kill_at(images: int):
    def on_progress(done: int, loss: float, rate: float) -> None:
        if done >= images:
            raise KilledError

    return on_progress


@pytest.mark.parametrize("save_every", [20, 30, 26])
def test_resumed_equals_unbroken(tiles, tmp_path: Path, save_every: int) -> None:
    """Also where the checkpoint falls between two lines of the log, and the log had gone on after it."""
    config = replace(CONFIG, save_every=save_every)
    train(new_hybrid(3, **TINY), tiles, config, tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(KilledError):
        train(new_hybrid(3, **TINY), tiles, config, broken, on_progress=kill_at(40))
    seen = torch.load(broken / "checkpoint.pt", weights_only=True)["images"]
    assert seen in (20, 26, 30)
    assert log(broken)[-1][0] == 40
    train(new_hybrid(99, **TINY), tiles, config, broken, resume=True)
    assert_equal(weights(tmp_path / "whole"), weights(broken))
    assert log(broken) == log(tmp_path / "whole")
    first, second = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "broken"))
    assert_equal(first["model"], second["model"])
    assert first["images"] == second["images"] == 60


def test_resuming_without_a_checkpoint_starts_anew(tiles, tmp_path: Path) -> None:
    config = replace(CONFIG, max_images=4)
    train(new_hybrid(3, **TINY), tiles, config, tmp_path / "a")
    train(new_hybrid(3, **TINY), tiles, config, tmp_path / "b", resume=True)
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("where", ["torch.save", "save_model"])
def test_a_save_that_dies_leaves_the_old_files(tiles, tmp_path: Path, monkeypatch, where: str) -> None:
    config = replace(CONFIG, max_images=20, save_every=10)
    trainer = Trainer(new_hybrid(3, **TINY), config, tmp_path)
    batch = make_batch(
        tiles, footprints(tiles), batch_size=2, size=32, class_count=1, label_dropout=0, rng=np.random.default_rng(0)
    )
    trainer.step(batch)
    trainer.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"checkpoint.pt", "model.safetensors"}
    trainer.step(batch)
    live = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    def half(*given, **named):
        for value in given:
            if isinstance(value, Path):
                value.write_bytes(b"half")
        raise KilledError

    if where == "torch.save":
        monkeypatch.setattr(training.torch, "save", half)
    else:
        import safetensors.torch

        monkeypatch.setattr(safetensors.torch, "save", half)
    with pytest.raises(KilledError):
        trainer.save()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert after["model.safetensors"] == before["model.safetensors"]
    assert (after["checkpoint.pt"] == before["checkpoint.pt"]) == (where == "torch.save")
    assert_equal(trainer.model.state_dict(), live)
    monkeypatch.undo()
    assert Trainer(new_hybrid(0, **TINY), config, tmp_path).restore()


def test_the_model_file_holds_the_averaged_weights(tiles, tmp_path: Path) -> None:
    config = replace(CONFIG, max_images=20)
    model = new_hybrid(3, **TINY)
    train(model, tiles, config, tmp_path)
    averaged = weights(tmp_path)
    assert any(not torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
    ema = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["ema"]["shadow_params"]
    assert all(torch.equal(a, b) for a, (_, b) in zip(ema, load_model(tmp_path / "model.safetensors").named_parameters(), strict=True))  # fmt: skip
    assert read_facts(tmp_path / "model.safetensors")["images_seen"] == 20


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, "truncated", "shape"])
def test_a_damaged_checkpoint_gives_one_line(tiles, tmp_path: Path, content) -> None:
    config = replace(CONFIG, max_images=4)
    train(new_hybrid(3, **TINY), tiles, config, tmp_path)
    path = tmp_path / "checkpoint.pt"
    model = new_hybrid(3, **TINY)
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "shape":
        model = new_hybrid(3, **(TINY | {"hidden_size": 32}))
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        train(model, tiles, replace(config, max_images=8), tmp_path, resume=True)
    assert "\n" not in str(error.value)


def test_what_cannot_be_trained_is_refused(tiles, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="128 px"):
        train(new_hybrid(0, **TINY), tiles, replace(CONFIG, crop_size=128), tmp_path)
    with pytest.raises(UsageError, match="divisible by 8"):
        train(new_hybrid(0, **TINY), tiles, replace(CONFIG, crop_size=36), tmp_path)


def test_a_new_model_depends_on_its_seed_only() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = new_hybrid(5, **TINY).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_equal(first, new_hybrid(5, **TINY).state_dict())
    assert not torch.equal(first["stem.weight"], new_hybrid(6, **TINY).state_dict()["stem.weight"])


def test_learning_rate() -> None:
    config = replace(CONFIG, max_images=1000, warmup_images=100, batch_size=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 90) == learning_rate(config, 750) == 1.0
    assert learning_rate(config, 875) == pytest.approx(0.5)
    assert learning_rate(config, 999) == pytest.approx(0.02)


def test_batches_depend_on_their_rng_only(tiles) -> None:
    def draw(seed: int):
        rng = np.random.default_rng(seed)
        return make_batch(
            tiles, footprints(tiles), batch_size=3, size=32, class_count=1, label_dropout=0.5, rng=rng
        )  # fmt: skip

    first, again, other = draw(0), draw(0), draw(1)
    assert (first.images == again.images).all() and (first.labels == again.labels).all()
    assert (first.images != other.images).any()
    assert first.images.shape == (3, 3, 32, 32) and first.images.dtype == np.float32
    assert np.abs(first.images).max() <= 1
    assert first.labels.shape == (3, 2, 32, 32)
    assert set(np.unique(first.labels)) <= {0.0, 1.0} and (first.labels.sum(axis=1) <= 1).all()
    assert first.change.shape == (3, 1, 32, 32) and first.change.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("size", [32, 64])
def test_change_areas_fit_any_crop(size: int) -> None:
    """Shapes far larger than the crop, no objects at all, and every kind of area."""
    rng = np.random.default_rng(0)
    shapes = [np.ones((160, 160), dtype=bool), np.ones((8, 150), dtype=bool)]
    shares = [draw_change_area(np.zeros((size, size), np.uint8), shapes, rng).mean() for _ in range(60)]
    assert min(shares) > 0
    assert max(shares) == 1
    assert len(set(shares)) > 10


def test_misfit_stays_within_the_change() -> None:
    change = np.zeros((8, 1, 32, 32), np.float32)
    change[..., 4:20, 4:20] = 1
    error = misfit(change, np.random.default_rng(0))
    assert error.shape == (8, 3, 32, 32)
    assert not error[np.broadcast_to(change == 0, error.shape)].any()
    assert 1 <= sum(sample.any() for sample in error) < 8


def test_tiles_are_loaded_from_any_layout(xbd_tree, pairs_tree, tmp_path: Path) -> None:
    found, skipped = load_tiles(xbd_tree, None)
    assert (len(found), skipped) == (2, [])
    assert set(np.unique(found[0].classes)) == {0, 1}
    (pairs_tree / "images" / "s2.png").write_bytes(b"broken")
    found, skipped = load_tiles(pairs_tree, ("background", "building", "unknown"), max_reduction=1.0)
    assert [skip.path for skip in skipped] == ["images/s2.png"]
    assert len(found) == 2
    assert found[0].max_reduction == 1.0
    assert (found[0].classes[:3] == 255).all(), "unknown stays unknown"
    assert set(np.unique(found[0].classes[3:])) == {0, 1}
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(0, 64)[0]).save(tmp_path / "photos" / "a.png")
    ((tile,), _) = load_tiles(tmp_path / "photos", None)
    assert (tile.classes == 255).all()
    assert len(footprints([tile])) == 2
