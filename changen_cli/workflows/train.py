"""Train a denoiser on tiles: v-prediction (Salimans & Ho 2022) under a cosine schedule, in the setting of generation.

The network sees the noised image, the known pixels around the change area, the change area and the label planes of the
later date, and learns to restore the image. Progress is counted in images seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import EMAModel
from torch import Tensor

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.core.files import atomic_path, write_text
from changen_cli.core.seeding import derive_rng, derive_seed
from changen_cli.synthesis.hybrid import HybridRSDiT
from changen_cli.workflows.setup import choose_compute
from changen_cli.workflows.training_data import Batch, TrainingTile, footprints, make_batch, misfit

MINI = {"widths": (32, 48, 96), "blocks_per_level": (1, 1, 2), "hidden_size": 192, "num_heads": 3, "depth": 6}
"""Shape of ``changen-mini``."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Attributes:
        max_images: Crops to see in all.
        batch_size: Crops per optimiser step.
        crop_size: Side of a crop in px.
        learning_rate: Peak rate; linear warm-up, constant, then linear decay over the last quarter.
        warmup_images: Length of the warm-up.
        ema_decay: Decay of the averaged weights, per optimiser step.
        label_dropout: Share of crops trained with an unknown label.
        refiner_share: Share of crops at the noise levels of the exemplar start (the lower 45 % of the timesteps).
        outside_weight: Loss weight of pixels outside the change area.
        save_every: Images between checkpoints.
        seed: Seed of initialisation, crops and noise.
        dtype: ``"float32"`` or ``"bfloat16"`` (autocast).
    """

    max_images: int = 40_000
    batch_size: int = 16
    crop_size: int = 128
    learning_rate: float = 5e-4
    warmup_images: int = 1_600
    ema_decay: float = 0.998
    label_dropout: float = 0.1
    refiner_share: float = 0.85
    outside_weight: float = 0.05
    save_every: int = 2_000
    seed: int = 0
    dtype: str = "float32"


def training_scheduler() -> DDIMScheduler:
    """The noise schedule models are trained under: cosine, 1000 timesteps, v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def learning_rate(config: TrainingConfig, images: int) -> float:
    """Rate after ``images``: linear warm-up, constant, linear decay over the last quarter."""
    warm = min(1.0, (images + config.batch_size) / max(1, config.warmup_images))
    left = (config.max_images - images) / max(1.0, 0.25 * config.max_images)
    return config.learning_rate * min(warm, max(0.02, min(1.0, left)))


def draw_timesteps(config: TrainingConfig, count: int, rng: np.random.Generator) -> Tensor:
    """Draw timesteps, most of them at the noise levels the exemplar start uses; int64 ``[count]``."""
    low = rng.integers(1, 450, size=count)
    high = rng.integers(450, 1000, size=count)
    return torch.from_numpy(np.where(rng.random(count) < config.refiner_share, low, high))


def denoising_loss(
    model: HybridRSDiT, scheduler: DDIMScheduler, batch: Batch, config: TrainingConfig, rng: np.random.Generator
) -> Tensor:
    """Weighted mean squared error of the predicted velocity on one batch."""
    device = model.device
    images, labels, change = (torch.from_numpy(a).to(device) for a in (batch.images, batch.labels, batch.change))
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(device)
    timesteps = draw_timesteps(config, images.shape[0], rng).to(device)
    alphas = scheduler.alphas_cumprod.to(device)[timesteps].float()
    alpha, sigma = (a.sqrt()[:, None, None, None] for a in (alphas, 1 - alphas))
    # A start with a colour error proportional to the noise level is, seen from the clean image, another noise.
    error = 0.35 * sigma * torch.from_numpy(misfit(batch.change, rng)).to(device)
    noise = noise + alpha * error / sigma
    noised = alpha * images + sigma * noise
    target = alpha * noise - sigma * images
    known = torch.cat([images * (1 - change), change], dim=1)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
        predicted = model(noised, timesteps, labels, condition=known).sample
    weight = change + config.outside_weight * (1 - change)
    return ((predicted.float() - target).square() * weight).sum() / (3 * weight.sum())


class Trainer:
    """Model, optimiser, averaged weights and counters, saved and restored as one checkpoint.

    Args:
        model: The network; trained in place.
        config: Settings.
        output: Model folder: ``model.safetensors`` (averaged weights), ``checkpoint.pt``, ``log.jsonl``.
    """

    def __init__(self, model: HybridRSDiT, config: TrainingConfig, output: Path) -> None:
        self.model = model.to(memory_format=torch.channels_last).train()
        self.config, self.output, self.images = config, output, 0
        self.losses: list[float] = []  # since the last line of the log
        self.scheduler = training_scheduler()
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        )
        self.ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)

    @property
    def checkpoint_path(self) -> Path:
        """Where the resumable state lives."""
        return self.output / "checkpoint.pt"

    def step(self, batch: Batch) -> float:
        """One optimiser step; returns the loss."""
        rng = derive_rng(self.config.seed, "train-noise", self.images)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.images)
        loss = denoising_loss(self.model, self.scheduler, batch, self.config, rng)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.step(self.model.parameters())
        self.images += batch.images.shape[0]
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each by rename."""
        from changen_cli.synthesis.models import save_model

        state: dict[str, Any] = {
            "images": self.images,
            "losses": self.losses,
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
        }
        with atomic_path(self.checkpoint_path) as partial:
            torch.save(state, partial)
        self.ema.store(self.model.parameters())
        try:
            self.ema.copy_to(self.model.parameters())
            save_model(self.model, self.output / "model.safetensors", images_seen=self.images)
        finally:
            self.ema.restore(self.model.parameters())

    def restore(self) -> bool:
        """Continue from the checkpoint when there is one; returns whether there was."""
        if not self.checkpoint_path.exists():
            return False
        try:
            state = torch.load(self.checkpoint_path, weights_only=True, map_location=self.model.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.images, self.losses = int(state["images"]), list(state.get("losses", []))
        except (RuntimeError, KeyError, ValueError, TypeError, EOFError, UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{self.checkpoint_path} cannot be continued: {reason}", "Train it again") from error
        self._cut_log()
        return True

    def _cut_log(self) -> None:
        """Drop what was logged after the checkpoint: those images will be seen again."""
        path = self.output / "log.jsonl"
        if path.exists():
            rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in rows if json.loads(line)["images"] <= self.images]
            write_text(path, "".join(f"{line}\n" for line in kept))


def train(
    model: HybridRSDiT,
    tiles: Sequence[TrainingTile],
    config: TrainingConfig,
    output: Path,
    *,
    resume: bool = False,
    on_progress: Callable[[int, float, float], None] = lambda images, loss, rate: None,
) -> None:
    """Train ``model`` on ``tiles`` until ``config.max_images`` crops were seen.

    Batches are made on a second thread; what batch n holds depends on the seed and n only, so a resumed run
    sees what an unbroken one would have seen.

    Args:
        model: Network to train.
        tiles: At least one tile as large as a crop.
        config: Settings.
        output: Model folder.
        resume: Continue from the folder's checkpoint.
        on_progress: Called with images seen, mean loss and images per second.

    Raises:
        UsageError: When no tile is large enough, or the crop size does not fit the network.
        ModelError: When the checkpoint cannot be continued.
    """
    if config.crop_size % model.size_multiple:
        raise UsageError(f"crop size {config.crop_size} must be divisible by {model.size_multiple}")
    usable = [tile for tile in tiles if min(tile.classes.shape) >= config.crop_size]
    if not usable:
        raise UsageError(f"no training tile is at least {config.crop_size} px wide", "Give larger images")
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(model, config, output)
    if resume:
        trainer.restore()
    shapes = footprints(usable)

    def batch_at(images: int) -> Batch:
        return make_batch(
            usable,
            shapes,
            batch_size=config.batch_size,
            size=config.crop_size,
            class_count=len(model.config["classes"]),
            label_dropout=config.label_dropout,
            rng=derive_rng(config.seed, "train-batch", images),
        )

    started, first = time.perf_counter(), trainer.images
    with ThreadPoolExecutor(1) as pool, (output / "log.jsonl").open("a", encoding="utf-8") as log:
        ahead = pool.submit(batch_at, trainer.images)
        try:
            while trainer.images < config.max_images:
                batch = ahead.result()
                ahead = pool.submit(batch_at, trainer.images + config.batch_size)
                trainer.losses.append(trainer.step(batch))
                steps = trainer.images // config.batch_size
                if steps % 10 == 0:
                    rate = (trainer.images - first) / (time.perf_counter() - started)
                    mean = float(np.mean(trainer.losses))
                    trainer.losses.clear()
                    row = {"images": trainer.images, "loss": round(mean, 5), "images_per_s": round(rate, 2)}
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    on_progress(trainer.images, mean, rate)
                if trainer.images // config.save_every > (trainer.images - config.batch_size) // config.save_every:
                    trainer.save()
        finally:
            ahead.cancel()
            # A step may be half done when interrupted; the last checkpoint by rename is whole in any case.
            if trainer.images >= config.max_images:
                trainer.save()


def new_hybrid(seed: int, **settings: Any) -> HybridRSDiT:
    """Create an untrained hybrid with weights drawn from ``seed`` only."""
    state = torch.get_rng_state()
    torch.manual_seed(derive_seed(seed, "init"))
    try:
        return HybridRSDiT(**settings)
    finally:
        torch.set_rng_state(state)


def start_training(
    tiles: Sequence[TrainingTile],
    config: TrainingConfig,
    output: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    on_progress: Callable[[int, float, float], None] = lambda images, loss, rate: None,
) -> None:
    """Create a model of the bundled one's shape and train it on the device asked for.

    Raises:
        UsageError: When the device does not exist, no tile is large enough, or the output holds a model already.
    """
    compute = choose_compute(device, config.dtype, threads)
    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(f"{output} holds a checkpoint", "Pass --resume to continue it, or choose another --output")
    model = new_hybrid(config.seed, **MINI).to(compute.device)
    train(model, tiles, replace(config, dtype=compute.dtype), output, resume=resume, on_progress=on_progress)
