"""What a run costs besides drawing: taking it up again, every sample, and listing its source.

Usage: python benchmarks/runs.py [resume] [loop] [memory] [--shards 10000] [--side 256] [--samples 200]

Images are tiles of the bundled sample; where thousands are needed they are hard links. Records of shards are written by
the classes that write them in a run. Everything lies in a temporary folder and is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from changen_cli.core.files import write_text
from changen_cli.core.manifest import read_manifest
from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.shards import ImageRecord, ShardRecord, read_shards, rows_path
from changen_cli.core.types import Scene
from changen_cli.sources.candidates import Candidate
from changen_cli.workflows import drawing
from changen_cli.workflows.generate import generate
from changen_cli.workflows.plans import gather, known_objects, open_labelled_source, simulate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.setup import SAMPLE
from changen_cli.writers.folder import FolderWriter

KINDS = ("images", "masks")
PER_SHARD = 16
MOST_LINKS = 60_000
"""Names a file may have; file systems allow 65 000."""
DRAWN = 100
"""Samples at most that the bundled model draws."""
DRAWN_STEPS = 4
SETTLED_S = 3.0
"""A folder that was written to just now is listed again and again."""


FIRST = "import sys; from runs import Path, time_first; time_first(*map(Path, sys.argv[1:]))"
PEAK = """
import re, sys, time
from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.simulate import simulate_dataset
folder, started = sys.argv[1], time.process_time()
simulate_dataset(build_recipe({"source": {"input": folder}, "output": {"path": folder + "-out"}, "limit": 50}))
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # getrusage counts the parent's, too
print(peak // 1024, f"{time.process_time() - started:.1f}")
"""


def told_by(code: str, *arguments: str) -> str:
    """What a process of its own prints: what other parts left in memory plays no part."""
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(line, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def write_tiles(folder: Path, count: int, side: int) -> Path:
    """``images/`` and ``masks/``: so many tiles of the sample, the same ones again and again."""
    source = open_labelled_source(build_recipe({"source": {"input": str(SAMPLE), "res": side}}))
    scenes = [scene for scene in source if isinstance(scene, Scene) and scene.mask is not None]
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    for number, scene in enumerate(scenes[:count]):
        Image.fromarray(scene.image).save(folder / "images" / f"{number:06d}.png")
        Image.fromarray((scene.mask == 1).astype(np.uint8)).save(folder / "masks" / f"{number:06d}.png")
    add_links(folder, min(count, len(scenes)), count)
    return folder


def add_links(folder: Path, first: int, count: int) -> None:
    """Add names ``first`` to ``count`` for the tiles that are there."""
    for kind in KINDS:
        bases = [folder / kind / f"{number:06d}.png" for number in range(first)]
        for number in range(first, count):
            base, target = bases[number % first], folder / kind / f"{number:06d}.png"
            if number // first % MOST_LINKS == MOST_LINKS - 1:
                bases[number % first] = shutil.copy2(base, target)
            else:
                os.link(base, target)


def recipe_of(folder: Path, out: Path, **values: Any) -> Recipe:
    """Strength 0 and no gate: pasted objects and no model, so that what is not drawing shows."""
    return build_recipe(
        {
            "source": {"input": str(folder)},
            "synthesis": {"strength": 0},
            "gate": {"enabled": False},
            "output": {"path": str(out)},
            "run": {"device": "cpu", "threads": 1},
            **values,
        }
    )


class First(Silent):
    """Notes when each stage of a run is reached."""

    def __init__(self) -> None:
        self.times: dict[str, tuple[float, float]] = {}
        self._mark("start")

    def _mark(self, name: str) -> None:
        self.times.setdefault(name, (time.perf_counter(), time.process_time()))

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._mark(name)

    def total(self, images: int) -> None:
        """The images are counted."""
        self._mark("counted")

    def scene(self, images_done: int, samples_done: int) -> None:
        """The first batch is drawn: tell the times, and end without closing: the other samples have no files."""
        self._mark("first sample")
        marks = [self.times[name] for name in ("start", "collecting exemplars", "counted", "reading", "first sample")]
        shown = [f"{b[1] - a[1]:.2f}" for a, b in pairwise(marks)]
        whole = f"{marks[4][1] - marks[0][1]:.2f} (clock {marks[4][0] - marks[0][0]:.2f})"
        print("\t".join([*shown, whole]), flush=True)
        os._exit(0)


def finish_shards(folder: Path, out: Path, shards: int) -> None:
    """Make a sample of the one image there is, then more images, and after its pattern the records of their shards."""
    generate(recipe_of(folder, out))
    add_links(folder, 1, shards * PER_SHARD + 1)
    (record,), line = read_shards(out), rows_path(out, 0).read_text()
    ((path, image),), (sample,) = record.images.items(), record.samples
    name = Path(path).stem
    text = ShardRecord(number=0, counts={}, variants=1, images={path: image}, samples=[]).model_dump_json()
    for number in range(shards):
        names = [f"{index:06d}" for index in range(number * PER_SHARD, (number + 1) * PER_SHARD)]
        rows = "".join(line.replace(name, other) for other in names)
        images: dict[str, ImageRecord] = {}
        for other in names:
            images |= ShardRecord.model_validate_json(text.replace(name, other)).images
        write_text(rows_path(out, number), rows, durable=False)
        ShardRecord(
            number=number,
            counts={"samples": PER_SHARD, "failed": 0, "skipped": 0},
            variants=1,
            images=images,
            samples=[sample.replace(name, other) for other in names],
            bytes=record.bytes * PER_SHARD,
            rows=hashlib.sha256(rows.encode()).hexdigest(),
        ).save(out)
    manifest = read_manifest(out)
    manifest.status = "interrupted"
    manifest.save(out)


def resume(shards: int, console: Console) -> None:
    """Time from the call to the first new sample, the only one that is left."""
    table = Table(title=f"Until the first sample is drawn, {shards * PER_SHARD + 1} images, seconds (processor time)")
    for column in ("run", "open, read records", "collect", "count", "go through images, draw", "in all"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as place:
        folder, out = write_tiles(Path(place) / "in", 1, 128), Path(place) / "out"
        finish_shards(folder, out, shards)
        time.sleep(SETTLED_S)
        for name, target in (("new", Path(place) / "new"), (f"{shards} shards are there", out)):
            table.add_row(name, *told_by(FIRST, str(folder), str(target)).split("\t"))
    console.print(table)


def time_first(folder: Path, out: Path) -> None:
    """Print how long each stage takes until the first sample."""
    import torch  # noqa: F401 loading it is no part of this

    from changen_cli.synthesis import synthesiser  # noqa: F401

    generate(recipe_of(folder, out, run={"device": "cpu", "threads": 1, "batch_size": 1}), First())


def cost_ms(function: Callable[[Any], object], items: list[Any]) -> float:
    """Processor time for one item, the best of three rounds."""
    rounds = []
    for _ in range(3):
        started = time.process_time()
        for item in items:
            function(item)
        rounds.append(1e3 * (time.process_time() - started) / len(items))
    return min(rounds)


def loop(side: int, samples: int, console: Console) -> None:
    """Every stage by itself; then a whole run, in which they overlap."""
    table = Table(title=f"A sample of two dates, {side}², beside drawing: processor time, ms")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    with tempfile.TemporaryDirectory() as place:
        folder = write_tiles(Path(place) / "in", samples, side)
        recipe = recipe_of(folder, Path(place) / "out")
        for name, value in stages(recipe, Path(place) / "stages").items():
            table.add_row(name, f"{value:.2f}")
        outside, flushes, made = whole_run(recipe)
        table.add_row("drawing thread, beside drawing", f"{outside:.2f}")
        table.add_row(f"flushes to disk for each of {made} samples", f"{flushes:.1f}")
    console.print(table)
    table = Table(title="With a model that draws, by the clock: ms a sample")
    for column in ("nuisance", "loop", "its drawing alone", "beside drawing"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as place:
        folder = write_tiles(Path(place) / "in", min(samples, DRAWN), side)
        for nuisance in ("none", "realistic"):
            run, alone = drawn_run(folder, Path(place) / nuisance, min(samples, DRAWN), nuisance)
            table.add_row(nuisance, f"{run:.1f}", f"{alone:.1f}", f"{run - alone:.1f}")
    console.print(table)


def stages(recipe: Recipe, place: Path) -> dict[str, float]:
    """Processor time of each stage, ms for one sample."""
    source = open_labelled_source(recipe)
    library, _ = gather(recipe, source)
    images = [item for item in source.candidates() if isinstance(item, Candidate)][24:48]  # not those of the library
    scenes = [item for item in source.scenes_of(images) if isinstance(item, Scene)]

    def plan(scene: Scene) -> Any:
        return simulate(scene, source.schema, recipe, 0, known_objects(scene, source.schema, recipe, library))

    plans = [plan(scene) for scene in scenes]
    pairs = [(plan, np.stack([plan.scene.image] * 2)) for plan in plans]
    made = [drawing.finish_sample(*pair, recipe, source.schema) for pair in pairs]
    writer = FolderWriter(place, source.schema)
    found = {
        "read": cost_ms(lambda image: list(source.scenes_of([image])), images),
        "simulate": cost_ms(plan, scenes),
        "finish (re-acquisition)": cost_ms(lambda pair: drawing.finish_sample(*pair, recipe, source.schema), pairs),
        "encode": cost_ms(writer._encode, made),
    }
    found["write (hash, files, row)"] = max(0.0, cost_ms(writer.write, made) - found["encode"])
    started = time.process_time()
    writer.staging.seal(0)
    found["seal (flush, lines, record)"] = 1e3 * (time.process_time() - started) / len(made)
    return found | {"in all": sum(found.values())}


def whole_run(recipe: Recipe) -> tuple[float, float, int]:
    """What the drawing thread does besides drawing, ms for one sample; flushes to disk for one sample; samples."""
    spent, calls, marks = Counter[str](), Counter[str](), []
    draw, flush = drawing.synthesise_batch, os.fsync

    def timed(*args: Any) -> Any:
        started = time.thread_time()
        images = draw(*args)
        spent["draw"] += time.thread_time() - started
        return images

    def counted(descriptor: int) -> None:
        calls["flush"] += 1
        flush(descriptor)

    class Clock(Silent):
        def total(self, images: int) -> None:
            marks.append((time.thread_time(), calls["flush"]))

        def scene(self, images_done: int, samples_done: int) -> None:
            marks[1:] = [(time.thread_time(), calls["flush"])]

    drawing.synthesise_batch, os.fsync = timed, counted
    try:
        result = generate(recipe, Clock())
    finally:
        drawing.synthesise_batch, os.fsync = draw, flush
    (began, before), (ended, after) = marks
    return 1e3 * (ended - began - spent["draw"]) / result.samples, (after - before) / result.samples, result.samples


def drawn_run(folder: Path, out: Path, samples: int, nuisance: str) -> tuple[float, float]:
    """The loop of a run of the bundled model, and what it drew once more by itself; by the clock, ms a sample."""
    calls: list[tuple[Any, ...]] = []
    times: list[float] = []
    draw = drawing.synthesise_batch

    def kept(*args: Any) -> Any:
        times.append(time.perf_counter())
        calls.append((list(args[0]), *args[1:]))
        return draw(*args)

    class Clock(Silent):
        def scene(self, images_done: int, samples_done: int) -> None:
            times.append(time.perf_counter())

    values = {"limit": samples, "synthesis": {"inference_steps": DRAWN_STEPS, "nuisance": nuisance}}
    drawing.synthesise_batch = kept
    try:
        made = generate(recipe_of(folder, out, **values), Clock()).samples
    finally:
        drawing.synthesise_batch = draw
    started = time.perf_counter()
    for arguments in calls:
        draw(*arguments)
    return 1e3 * (times[-1] - times[0]) / made, 1e3 * (time.perf_counter() - started) / made


def memory(console: Console) -> None:
    """Peak memory of processes that make masks of 50 scenes out of few or many images."""
    table = Table(title="Peak memory, 50 scenes are made")
    for column in ("images listed", "peak, MB", "processor time, s"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as place:
        for count in (1000, 100_000):
            folder = write_tiles(Path(place) / str(count), min(count, 48), 256)
            add_links(folder, 48, count)
            time.sleep(SETTLED_S)
            table.add_row(str(count), *told_by(PEAK, str(folder)).split())
    console.print(table)


def main() -> None:
    """Run what is asked for, else everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="resume, loop, memory; all where none is named")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    console = Console(width=140)
    jobs = {
        "resume": partial(resume, options.shards, console),
        "loop": partial(loop, options.side, options.samples, console),
        "memory": partial(memory, console),
    }
    for name in options.parts or jobs:
        jobs[name]()


if __name__ == "__main__":
    main()
