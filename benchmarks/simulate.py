"""How many scenes a minute `changen simulate` makes, and where the time goes.

Usage: python benchmarks/simulate.py [FOLDER[:class,...][@RES] ...] [--scenes 150] [--events KINDS] [--workers N]

Without folders: the bundled sample, cut to tiles of 256, 512 and 1024 px. Milliseconds are processor time of each stage
by itself, and scenes a minute on one core follow from their sum. By the clock: a whole run, after the exemplars are
collected, with whatever else the machine is doing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.types import Scene
from changen_cli.workflows.plans import as_sample, gather, known_objects, open_labelled_source, simulate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.setup import SAMPLE
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.writers import open_writer


class Clock(Silent):
    """Notes when the first scene is asked for, and when the last sample is written."""

    started = ended = 0.0

    def total(self, images: int) -> None:
        """The run begins."""
        self.started = time.perf_counter()

    def scene(self, images_done: int, samples_done: int) -> None:
        """The run may have ended."""
        self.ended = time.perf_counter()


def make_recipe(text: str, scenes: int, kinds: str, workers: int, output: str) -> Recipe:
    """``FOLDER[:class,...][@RES]`` as a recipe."""
    body, _, res = text.partition("@")
    path, _, classes = body.partition(":")
    return build_recipe(
        {
            "source": {
                "input": path,
                "classes": classes.split(",") if classes else None,
                "res": int(res) if res else None,
            },
            "events": {"kinds": kinds.split(",")},
            "output": {"path": output},
            "limit": scenes,
            "run": {"workers": workers},
        }
    )


def stages(recipe: Recipe, folder: Path) -> tuple[dict[str, float], int, int]:
    """Processor time per scene of every stage, in ms; scenes timed, and their longer side."""
    took = {}

    def timed(name, items):
        started = time.process_time()
        made = list(items)
        took[name] = 1e3 * (time.process_time() - started) / max(1, len(made))
        return made

    source = open_labelled_source(recipe)
    library, textures = gather(recipe, source)
    scenes = timed("read", islice((item for item in source if isinstance(item, Scene)), recipe.limit))
    plans = timed(
        "simulate",
        (
            simulate(s, source.schema, recipe, 0, known_objects(s, source.schema, recipe, library), textures)
            for s in scenes
        ),
    )
    writer = open_writer("folder", folder, source.schema)
    timed("write", (writer.write(as_sample(plan, recipe)) for plan in plans))
    return took, len(scenes), max(scenes[0].image.shape[:2])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", default=[f"{SAMPLE}@{res}" for res in (256, 512, 1024)])
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--events", default="create,remove")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    table = Table(title=f"changen simulate, one step, workers: {options.workers}; scenes a minute on the right")
    for column in ("folder", "px", "scenes", "read ms", "simulate ms", "write ms", "one core", "by the clock"):
        table.add_column(column, justify="left" if column == "folder" else "right")
    for text in options.folders:
        with tempfile.TemporaryDirectory() as folder:
            recipe = make_recipe(text, options.scenes, options.events, options.workers, f"{folder}/out")
            took, scenes, side = stages(recipe, Path(folder) / "stages")
            clock = Clock()
            made = simulate_dataset(recipe, clock)
        name = Path(text.partition("@")[0].partition(":")[0]).name
        core = 60_000 / sum(took.values())
        rate = 60 * made.samples / (clock.ended - clock.started)
        table.add_row(name, str(side), str(scenes), *(f"{took[key]:.1f}" for key in took), f"{core:.0f}", f"{rate:.0f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
