"""Progress of a training run: a bar on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from changen_cli.cli.common import LiveBar, duration, say

if TYPE_CHECKING:
    from changen_cli.training.loop import Step


def _told(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


class TrainingLines:
    """One line every few seconds, for logs."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every, self._last = every_s, 0.0

    def __enter__(self) -> TrainingLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to tear down."""

    def note(self, text: str) -> None:
        """Print the note."""
        say(text)

    def step(self, step: Step, total: int) -> None:
        """Print how far the run is, now and then."""
        now = time.monotonic()
        if now - self._last < self._every and step.images < total:
            return
        self._last = now
        left = duration(max(0, total - step.images) / max(step.images_per_s, 1e-6))
        say(f"{step.images}/{total} images, loss {step.loss:.4f}, {step.images_per_s:.1f} images/s, {left} left")

    def figures(self, images: int, figures: Mapping[str, float]) -> None:
        """Print figures on held-out places."""
        if figures:
            say(f"{images} images, held-out places: {_told(figures)}")


class QuietTraining(TrainingLines):
    """No progress at all."""

    def note(self, text: str) -> None:
        """Ignore."""

    def step(self, step: Step, total: int) -> None:
        """Ignore."""

    def figures(self, images: int, figures: Mapping[str, float]) -> None:
        """Ignore."""


class TrainingBar(LiveBar, TrainingLines):
    """A live bar: images, loss, images/s, ETA."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("training", total=None, detail="", left="")

    def step(self, step: Step, total: int) -> None:
        """Advance the bar."""
        left = f"ETA {duration(max(0, total - step.images) / max(step.images_per_s, 1e-6))}"
        detail = f"loss {step.loss:.4f}, {step.images_per_s:.1f}/s"
        self._bar.update(self._task, completed=step.images, total=total, detail=detail, left=left)

    def figures(self, images: int, figures: Mapping[str, float]) -> None:
        """Print figures above the bar."""
        if figures:
            self.note(f"{images} images, held-out places: {_told(figures)}")


def make_training_progress(*, quiet: bool) -> TrainingLines:
    """A bar on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return QuietTraining()
    return TrainingBar() if sys.stderr.isatty() else TrainingLines()
