"""What a training run leaves for people to read: a JSON lines log, TensorBoard, sample grids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
from PIL import Image

from changen_cli.core.files import atomic_path, write_text
from changen_cli.core.types import UInt8Array


class Records:
    """Writes ``log.jsonl``, ``samples/<images>.png`` and, where TensorBoard is installed, ``tensorboard/``.

    Args:
        output: Model folder.
        enabled: False for all but the main process.
    """

    def __init__(self, output: Path, *, enabled: bool = True) -> None:
        self.output, self.enabled = output, enabled
        self._log: TextIO | None = None
        self._board: Any = None

    @property
    def path(self) -> Path:
        """The log: one JSON object a line."""
        return self.output / "log.jsonl"

    def __enter__(self) -> Records:
        if self.enabled:
            self._log = self.path.open("a", encoding="utf-8")
            self._board = _board(self.output / "tensorboard")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._log:
            self._log.close()
        if self._board:
            self._board.close()

    def cut(self, images: int) -> None:
        """Drop what was logged after a checkpoint: those images will be seen again."""
        if self.enabled and self.path.exists():
            rows = [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            kept = [line for line in rows if json.loads(line)["images"] <= images]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def losses(self, images: int, losses: Mapping[str, Sequence[float]], rate: float, learning_rate: float) -> None:
        """Log mean losses since the last line; the first network's is called ``loss``, others carry their name."""
        means = {
            "loss" if index == 0 else f"{name}_loss": round(float(np.mean(values)), 5)
            for index, (name, values) in enumerate(losses.items())
        }
        self._write(images, means | {"learning_rate": float(f"{learning_rate:.4g}"), "images_per_s": round(rate, 2)})

    def validation(self, images: int, figures: Mapping[str, float]) -> None:
        """Log figures on held-out places."""
        if figures:
            self._write(images, {f"val_{name}": round(float(value), 5) for name, value in figures.items()})

    def picture(self, images: int, grid: UInt8Array | None) -> None:
        """Keep a sample grid."""
        if grid is None or not self.enabled:
            return
        with atomic_path(self.output / "samples" / f"{images:09d}.png") as partial:
            Image.fromarray(grid).save(partial)
        if self._board:
            self._board.add_image("samples", grid, images, dataformats="HWC")

    def _write(self, images: int, row: Mapping[str, float]) -> None:
        if self._log:
            self._log.write(json.dumps({"images": images, **row}) + "\n")
            self._log.flush()
        if self._board:
            for name, value in row.items():
                self._board.add_scalar(name, value, images)


def _board(folder: Path) -> Any:
    """A TensorBoard writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
