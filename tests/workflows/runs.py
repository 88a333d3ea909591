"""What tests of interrupted runs share."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from changen_cli.core.recipe import Recipe
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent

from .conftest import manifest, tree

TOLD = ("status", "fingerprint", "counts", "statistics", "scenes", "skipped", "stock", "checksums", "source", "model")


def content(out: Path) -> dict[str, Any]:
    """A dataset: every file but records and logs, and what the manifest says that is no time and no setting of the run."""
    files = {
        name: digest
        for name, digest in tree(out, leave_out=("manifest.json",)).items()
        if not name.startswith("shards/")
    }
    return files | {key: manifest(out)[key] for key in TOLD}


def change(recipe: Recipe, **sections: Any) -> Recipe:
    """The recipe with some settings changed."""
    updates = {
        key: getattr(recipe, key).model_copy(update=value) if isinstance(value, dict) else value
        for key, value in sections.items()
    }
    return recipe.model_copy(update=updates)


class Stop(Silent):
    """Ends a run once it has gone through a number of images."""

    def __init__(self, after: int, error: BaseException | None = None) -> None:
        self.after, self.error = after, error or KeyboardInterrupt()

    def scene(self, images_done: int, samples_done: int) -> None:
        if images_done >= self.after:
            raise self.error


class Told(Silent):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def killed(recipe: Recipe, after_s: float) -> bool:
    """Run in another process, and end that with SIGKILL after a while; whether it was met alive."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(recipe,))
    process.start()
    process.join(after_s)
    alive = process.exitcode is None
    if alive:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def _run(recipe: Recipe) -> None:
    generate(recipe)
    os._exit(0)
