"""The one loop every network of the package is trained with: accelerate, averaged weights, checkpoints by rename.

Progress is counted in images seen. What batch n holds, and every draw of noise, depends on the seed and n only, so a
run that was interrupted and resumed equals one that was not.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import UInt8Array
from changen_cli.training.records import Records
from changen_cli.training.state import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained, whatever it is.

    Attributes:
        max_images: Images to see in all.
        batch_size: Images per optimiser step and process.
        learning_rate: Peak rate after the warm-up.
        schedule: ``"constant"``, with a linear decay over the last quarter, or ``"cosine"`` from the peak to zero.
        warmup_images: Length of the linear warm-up, at most a tenth of the run.
        ema_decay: Decay of the averaged weights, per optimiser step.
        max_grad_norm: Gradients are clipped to this norm.
        log_every: Optimiser steps between lines of the log.
        save_every: Images between checkpoints.
        validate_every: Images between validations and sample grids.
        seed: Seed of batches and noise.
        dtype: ``"float32"`` or ``"bfloat16"`` (autocast).
        loader_threads: Threads that make batches ahead of their use.
    """

    max_images: int = 40_000
    batch_size: int = 16
    learning_rate: float = 5e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_images: int = 1_600
    ema_decay: float = 0.998
    max_grad_norm: float = 1.0
    log_every: int = 10
    save_every: int = 2_000
    validate_every: int = 4_000
    seed: int = 0
    dtype: str = "float32"
    loader_threads: int = 1


class Task(Protocol):
    """What is trained: networks, their data and their losses.

    Attributes:
        networks: Trained networks by name; the first is the product: averaged, validated and saved.
        settings: What else decides the outcome, as JSON values; a resumed run must have the same.
    """

    networks: dict[str, nn.Module]
    settings: Mapping[str, Any]

    def batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw ``size`` training samples; runs on another thread."""

    def losses(
        self, networks: Mapping[str, nn.Module], batch: Any, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the losses of one step: the network an optimiser step is to be made for, and its scalar loss."""

    def validate(self) -> dict[str, float]:
        """Figures on held-out places, with the averaged weights in place; empty without any."""

    def grid(self) -> UInt8Array | None:
        """A picture of what the network does, uint8 ``[H, W, 3]``, with the averaged weights in place."""

    def save(self, folder: Path, images_seen: int) -> None:
        """Write the product, with the averaged weights in place, by rename."""


@dataclass(frozen=True)
class Step:
    """What a listener is told after every optimiser step.

    Attributes:
        images: Images seen.
        loss: Loss of the product network in this step.
        images_per_s: Throughput of this run so far.
    """

    images: int
    loss: float
    images_per_s: float


def learning_rate(settings: LoopSettings, images: int) -> float:
    """Rate after ``images``: linear warm-up, then constant with a linear decay over the last quarter, or a cosine."""
    # Short runs warm up for a tenth of their length: otherwise they would never get anywhere.
    length = min(settings.warmup_images, settings.max_images // 10)
    warm = min(1.0, (images + settings.batch_size) / max(1, length))
    if settings.schedule == "cosine":
        share = min(1.0, images / max(1, settings.max_images))
        decay = 0.5 * (1 + np.cos(np.pi * share))
    else:
        decay = min(1.0, (settings.max_images - images) / max(1.0, 0.25 * settings.max_images))
    return settings.learning_rate * float(min(warm, max(0.02, decay)))


class Trainer:
    """Networks, optimisers, averaged weights and counters of one run.

    Args:
        task: What is trained.
        settings: How.
        output: Model folder: the product, ``checkpoint.pt``, ``log.jsonl``, ``tensorboard/``, ``samples/``.
        device: Device type, ``"cpu"`` or ``"cuda"``; accelerate picks the GPU of this process.
    """

    def __init__(self, task: Task, settings: LoopSettings, output: Path, *, device: str = "cpu") -> None:
        self.task, self.settings, self.output, self.images = task, settings, output, 0
        precision = "bf16" if settings.dtype == "bfloat16" else "no"
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=precision)
        optimizers = {
            name: torch.optim.AdamW(
                network.parameters(), lr=settings.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True
            )
            for name, network in task.networks.items()
        }
        self.networks, self.optimizers = {}, {}
        for name, network in task.networks.items():
            # Channels-last first: the optimiser's state then has the layout of the weights.
            network.to(device=self.accelerator.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
            prepared = self.accelerator.prepare(network, optimizers[name])
            self.networks[name], self.optimizers[name] = prepared
        self.product = next(iter(task.networks))
        self.ema = EMAModel(self._parameters(), decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
        self.losses: dict[str, list[float]] = {}  # since the last line of the log
        self.records = Records(output, enabled=self.accelerator.is_main_process)

    def _parameters(self) -> Iterator[nn.Parameter]:
        return self.task.networks[self.product].parameters()

    @property
    def steps(self) -> int:
        """Optimiser steps made."""
        return self.images // self.images_per_step

    @property
    def images_per_step(self) -> int:
        """Images all processes together see in one step."""
        return int(self.settings.batch_size * self.accelerator.num_processes)

    def batch_at(self, images: int) -> Any:
        """The batch this process sees after ``images``."""
        rng = derive_rng(self.settings.seed, "train-batch", images, self.accelerator.process_index)
        return self.task.batch(rng, self.settings.batch_size)

    def step(self, batch: Any) -> float:
        """One optimiser step of every network the task asks for; returns the product's loss.

        Raises:
            ModelError: When a loss is no longer a number.
        """
        rng = derive_rng(self.settings.seed, "train-noise", self.images, self.accelerator.process_index)
        rate = learning_rate(self.settings, self.images)
        for name, loss in self.task.losses(self.networks, batch, rng):
            optimizer = self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.networks[name].parameters(), self.settings.max_grad_norm)
            value = float(loss.detach())
            if not np.isfinite(value):
                raise ModelError(
                    f"the loss of the {name} is {value} after {self.images} images",
                    "The last checkpoint is kept; start again with a lower --lr",
                )
            optimizer.step()
            self.losses.setdefault(name, []).append(value)
        self.ema.step(self._parameters())
        self.images += self.images_per_step
        return self.losses[self.product][-1]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights in place."""
        network = self.task.networks[self.product]
        self.ema.store(self._parameters())
        self.ema.copy_to(self._parameters())
        network.eval()
        try:
            yield
        finally:
            self.ema.restore(self._parameters())
            network.train()

    def save(self) -> None:
        """Write checkpoint and product, each by rename; only the main process does."""
        if not self.accelerator.is_main_process:
            return
        # The product first: a kill in between then costs nothing, because the older checkpoint makes it again.
        with self.averaged():
            self.task.save(self.output, self.images)
        save_checkpoint(
            self.output / "checkpoint.pt",
            {
                "images": self.images,
                "losses": self.losses,
                "settings": asdict(self.settings) | dict(self.task.settings),
                "networks": {name: network.state_dict() for name, network in self.task.networks.items()},
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "ema": self.ema.state_dict(),
            },
        )

    def restore(self) -> bool:
        """Continue from the checkpoint when there is one; returns whether there was.

        Raises:
            ModelError: When it cannot be read.
            UsageError: When it was made with other settings.
        """
        path = self.output / "checkpoint.pt"
        if not path.exists():
            return False
        settings = asdict(self.settings) | dict(self.task.settings)
        with load_checkpoint(path, settings) as state:
            for name, network in self.task.networks.items():
                network.load_state_dict(state["networks"][name])
                self.optimizers[name].load_state_dict(state["optimizers"][name])
            self.ema.load_state_dict(state["ema"])
            self.ema.to(self.accelerator.device)
            self.images, self.losses = int(state["images"]), dict(state["losses"])
        self.records.cut(self.images)
        return True

    def inspect(self) -> dict[str, float]:
        """Validate and draw the sample grid, with the averaged weights."""
        with self.averaged(), torch.no_grad():
            figures = self.task.validate()
            self.records.validation(self.images, figures)
            self.records.picture(self.images, self.task.grid())
        return figures


@contextmanager
def _polite_signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a request that is honoured between two steps."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(signum: int, _frame: Any) -> None:
        if asked.is_set():  # a second time means at once
            raise KeyboardInterrupt
        asked.set()

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _crossed(every: int, before: int, after: int) -> bool:
    return after // every > before // every


def run(
    task: Task,
    settings: LoopSettings,
    output: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
    on_figures: Callable[[int, dict[str, float]], None] = lambda images, figures: None,
) -> None:
    """Train until ``settings.max_images`` images were seen.

    Args:
        task: What is trained.
        settings: How.
        output: Model folder.
        device: ``"cpu"`` or ``"cuda"``.
        resume: Continue from the folder's checkpoint when there is one.
        on_step: Told after every step.
        on_figures: Told after every validation: images seen, and the figures.

    Raises:
        ModelError: When a checkpoint cannot be read, or the loss is no longer a number.
        UsageError: When the folder holds a checkpoint of another run and ``resume`` is off or the settings differ.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with the state saved.
    """
    if (output / "checkpoint.pt").exists() and not resume:
        raise UsageError(f"{output} holds a checkpoint", "Pass --resume to continue it, or choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    try:
        trainer = Trainer(task, settings, output, device=device)
        if resume:
            trainer.restore()
        with trainer.records, _polite_signals() as asked:
            _run(trainer, asked, on_step, on_figures)
    finally:
        # accelerate keeps its state in a singleton that would refuse the next run another precision.
        AcceleratorState._reset_state(reset_partial_state=True)


def _run(
    trainer: Trainer,
    asked: threading.Event,
    on_step: Callable[[Step], None],
    on_figures: Callable[[int, dict[str, float]], None],
) -> None:
    settings, first, started = trainer.settings, trainer.images, time.perf_counter()
    saved, pause = trainer.images, 0.0
    with ThreadPoolExecutor(settings.loader_threads) as pool:
        ahead: deque[Future[Any]] = deque()

        def prepare() -> None:
            ahead.append(pool.submit(trainer.batch_at, trainer.images + len(ahead) * trainer.images_per_step))

        try:
            while trainer.images < settings.max_images and not asked.is_set():
                while len(ahead) <= settings.loader_threads:
                    prepare()
                before = trainer.images
                loss = trainer.step(ahead.popleft().result())
                images = trainer.images
                rate = (images - first) / max(1e-9, time.perf_counter() - started - pause)
                if trainer.steps % settings.log_every == 0:
                    trainer.records.losses(images, trainer.losses, rate, learning_rate(settings, images))
                    trainer.losses = {}
                on_step(Step(images, loss, rate))
                entered = time.perf_counter()
                if _crossed(settings.validate_every, before, images) or images >= settings.max_images:
                    on_figures(images, trainer.inspect())
                if _crossed(settings.save_every, before, images):
                    trainer.save()
                    saved = images
                pause += time.perf_counter() - entered
        finally:
            for future in ahead:
                future.cancel()
    if trainer.images != saved or not (trainer.output / "checkpoint.pt").exists():
        trainer.save()
    if asked.is_set() and trainer.images < settings.max_images:
        raise KeyboardInterrupt
