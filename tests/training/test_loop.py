"""The loop: it learns, it resumes as if never broken, and a kill leaves a whole checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, picture
from PIL import Image

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.synthesis.models import load_model, read_facts
from changen_cli.training.denoiser import DenoiserSettings, DenoiserTask
from changen_cli.training.loop import LoopSettings, Trainer, learning_rate, run
from changen_cli.training.sizes import new_denoiser
from changen_cli.training.tiles import TrainingTile

from .conftest import assert_equal, log

SETTINGS = LoopSettings(
    max_images=60, batch_size=2, learning_rate=3e-3, warmup_images=4, ema_decay=0.9, save_every=30, validate_every=40,
    seed=3,
)  # fmt: skip


def task(tiles, seed: int = 3, *, held=(), crop_size: int = 32, **settings) -> DenoiserTask:
    model = new_denoiser("mini", "pixel", seed, **(TINY | settings))
    return DenoiserTask(model, tiles, DenoiserSettings(crop_size=crop_size), validation=held)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path / "model.safetensors").state_dict()


def checkpoint(path: Path) -> dict:
    return torch.load(path / "checkpoint.pt", weights_only=True)


def test_the_loss_falls(tiles, tmp_path: Path) -> None:
    flat = [TrainingTile(np.full((64, 64, 3), 60, np.uint8), tiles[0].classes)]
    steps = []
    settings = replace(SETTINGS, max_images=240, batch_size=4, learning_rate=1e-2)
    run(task(flat), settings, tmp_path, on_step=steps.append)
    losses = [row["loss"] for row in log(tmp_path) if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]
    assert [step.images for step in steps] == list(range(4, 241, 4))
    assert all(step.images_per_s > 0 for step in steps)


class KilledError(Exception):
    """Stands for a kill at some moment."""


def kill_at(images: int):
    def on_step(step) -> None:
        if step.images >= images:
            raise KilledError

    return on_step


@pytest.mark.parametrize("save_every", [20, 30, 26])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resumed_equals_unbroken(tiles, tmp_path: Path, save_every: int, dtype: str) -> None:
    """Also where the checkpoint falls between two lines of the log, and the log had gone on after it."""
    settings = replace(SETTINGS, save_every=save_every, dtype=dtype)
    run(task(tiles[:2], held=tiles[2:]), settings, tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(KilledError):
        run(task(tiles[:2], held=tiles[2:]), settings, broken, on_step=kill_at(42))
    assert checkpoint(broken)["images"] in (20, 26, 30, 40)
    assert log(broken)[-1]["images"] == 40
    run(task(tiles[:2], 99, held=tiles[2:]), settings, broken, resume=True)
    assert_equal(weights(tmp_path / "whole"), weights(broken))
    assert log(broken) == log(tmp_path / "whole")
    first, second = checkpoint(tmp_path / "whole"), checkpoint(broken)
    assert_equal(first["networks"]["denoiser"], second["networks"]["denoiser"])
    assert first["images"] == second["images"] == 60


def test_the_log_holds_losses_and_held_out_figures(tiles, tmp_path: Path) -> None:
    told = []
    run(task(tiles[:2], held=tiles[2:]), SETTINGS, tmp_path, on_figures=lambda *row: told.append(row))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows if "loss" in row] == [20, 40, 60]
    assert set(rows[0]) == {"images", "loss", "learning_rate", "images_per_s"}
    assert [row["images"] for row in rows if "val_psnr_t100" in row] == [40, 60] == [images for images, _ in told]
    assert told[0][1]["psnr_t100"] == pytest.approx(rows[2]["val_psnr_t100"], abs=1e-4)
    grids = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in grids] == ["000000040.png", "000000060.png"]
    assert Image.open(grids[0]).size == (5 * 32, 6 * 32)
    assert list((tmp_path / "tensorboard").iterdir())


def test_resuming_without_a_checkpoint_starts_anew(tiles, tmp_path: Path) -> None:
    settings = replace(SETTINGS, max_images=4)
    run(task(tiles), settings, tmp_path / "a")
    run(task(tiles), settings, tmp_path / "b", resume=True)
    assert_equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_resumed_run_may_be_longer_but_not_another(tiles, tmp_path: Path) -> None:
    run(task(tiles), replace(SETTINGS, max_images=4), tmp_path)
    with pytest.raises(UsageError, match="holds a checkpoint"):
        run(task(tiles), SETTINGS, tmp_path)
    with pytest.raises(UsageError, match=r"learning_rate 0.003 → 0.1"):
        run(task(tiles), replace(SETTINGS, learning_rate=0.1), tmp_path, resume=True)
    with pytest.raises(UsageError, match="model"):
        run(task(tiles, hidden_size=32), SETTINGS, tmp_path, resume=True)
    run(task(tiles), replace(SETTINGS, max_images=8), tmp_path, resume=True)
    assert checkpoint(tmp_path)["images"] == 8


@pytest.mark.parametrize("where", ["torch.save", "save_model"])
def test_a_save_that_dies_leaves_the_old_files(tiles, tmp_path: Path, monkeypatch, where: str) -> None:
    trainer = Trainer(task(tiles), SETTINGS, tmp_path)
    trainer.step(trainer.batch_at(0))
    trainer.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"checkpoint.pt", "model.safetensors"}
    trainer.step(trainer.batch_at(2))
    model = trainer.task.networks["denoiser"]
    live = {name: value.clone() for name, value in model.state_dict().items()}

    def half(*given, **named):
        for value in given:
            if isinstance(value, Path):
                value.write_bytes(b"half")
        raise KilledError

    if where == "torch.save":
        monkeypatch.setattr(torch, "save", half)
    else:
        import safetensors.torch

        monkeypatch.setattr(safetensors.torch, "save", half)
    with pytest.raises(KilledError):
        trainer.save()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert after["checkpoint.pt"] == before["checkpoint.pt"], "never newer than the product"
    assert (after["model.safetensors"] == before["model.safetensors"]) == (where == "save_model")
    assert_equal(model.state_dict(), live)
    monkeypatch.undo()
    assert Trainer(task(tiles), SETTINGS, tmp_path).restore()


def test_the_model_file_holds_the_averaged_weights(tiles, tmp_path: Path) -> None:
    one = task(tiles)
    run(one, replace(SETTINGS, max_images=20), tmp_path)
    averaged = weights(tmp_path)
    assert any(not torch.equal(value, averaged[name]) for name, value in one.model.state_dict().items())
    ema = checkpoint(tmp_path)["ema"]["shadow_params"]
    stored = load_model(tmp_path / "model.safetensors").named_parameters()
    assert all(torch.equal(a, b) for a, (_, b) in zip(ema, stored, strict=True))
    assert read_facts(tmp_path / "model.safetensors")["images_seen"] == 20


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, "truncated", "keys"])
def test_a_damaged_checkpoint_gives_one_line(tiles, tmp_path: Path, content) -> None:
    run(task(tiles), replace(SETTINGS, max_images=4), tmp_path)
    path = tmp_path / "checkpoint.pt"
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "keys":
        torch.save({"images": 3}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        run(task(tiles), replace(SETTINGS, max_images=8), tmp_path, resume=True)
    assert "\n" not in str(error.value)


def test_a_loss_that_is_no_number_stops_the_run(tiles, tmp_path: Path) -> None:
    one = task(tiles)
    with torch.no_grad():
        one.model.stem.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"nan after 0 images.*--lr"):
        run(one, SETTINGS, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_learning_rate() -> None:
    settings = LoopSettings(max_images=1000, warmup_images=100, batch_size=10, learning_rate=1.0)
    assert learning_rate(settings, 0) == pytest.approx(0.1)
    assert learning_rate(settings, 90) == learning_rate(settings, 750) == 1.0
    assert learning_rate(settings, 875) == pytest.approx(0.5)
    assert learning_rate(settings, 999) == pytest.approx(0.02)
    cosine = replace(settings, schedule="cosine")
    assert learning_rate(cosine, 500) == pytest.approx(0.5)
    assert learning_rate(cosine, 250) > learning_rate(cosine, 260) > learning_rate(cosine, 900)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
from pathlib import Path
torch.set_num_threads(1)
from training.test_loop import LONG, one_tile, run, task
try:
    run(task(one_tile()), LONG, Path(sys.argv[1]), on_step=lambda step: print(step.images, flush=True))
except KeyboardInterrupt:
    sys.exit(130)
"""
LONG = replace(SETTINGS, max_images=300)


def one_tile() -> list[TrainingTile]:
    image, numbers = picture(0, 64)
    return [TrainingTile(image, np.where(numbers > 0, 8, 0).astype(np.uint8))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_resumes(tmp_path: Path, number: int) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).parent.parent))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "broken")],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 80:
            break
    os.kill(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    seen = checkpoint(tmp_path / "broken")["images"]
    assert 60 <= seen < 300
    assert number == signal.SIGKILL or seen >= 80, "asked politely, it saves where it stands"
    run(task(one_tile(), 99), LONG, tmp_path / "broken", resume=True)
    run(task(one_tile()), LONG, tmp_path / "whole")
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert log(tmp_path / "whole") == log(tmp_path / "broken")
