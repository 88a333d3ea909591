"""What one 1024² date costs: windows against the full tile, everything but denoising, and memory.

Usage: python benchmarks/generate.py [--model changen-mini] [--scenes 3] [--memory-scenes 50]

Every ratio is measured within this run, on the bundled sample, with the same weights and steps.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.types import Scene
from changen_cli.synthesis.synthesiser import Synthesiser
from changen_cli.workflows.drawing import finish_sample
from changen_cli.workflows.plans import Plan, open_labelled_source, simulate
from changen_cli.workflows.setup import SAMPLE, build_library, choose_compute, load_pipeline, synthesis_settings

REPETITIONS = 2


def date_job(plan: Plan, recipe: Recipe):
    """The first step of a sample."""
    from changen_cli.synthesis.synthesiser import DateJob

    return DateJob(
        image=plan.scene.image,
        masks=plan.series.masks[:2],
        instances=plan.series.instances[:2],
        events=plan.series.events,
        scene_id=plan.scene.id,
        seed=recipe.seed,
        names=(plan.scene.id, 0, 1),
    )


def best(function) -> float:
    """Shortest wall time of a few repetitions, in seconds."""
    times = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


def windows_against_full(model: str, scenes: int, console: Console) -> None:
    """Time one date per scene both ways."""
    recipe = build_recipe(
        {"source": {"input": str(SAMPLE)}, "events": {"change_area": "8-10%"}, "synthesis": {"model": model}}
    )
    source = open_labelled_source(recipe)
    library = build_library(source)
    compute = choose_compute("cpu", "float32", 1)
    pipeline, _ = load_pipeline(recipe, compute)
    synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), source.schema, library)
    settings = synthesiser.settings
    table = Table(title="One 1024² date, 1 thread, float32: windows against full tile")
    for column in ("scene", "changed", "windows", "denoised", "windows s", "full s", "ratio"):
        table.add_column(column, justify="right")
    for scene in [item for item in source if isinstance(item, Scene)][:scenes]:
        plan = simulate(scene, source.schema, recipe, 0, library)
        job = date_job(plan, recipe)
        synthesiser.settings = settings
        count, pixels, _ = synthesiser.measure(job)
        narrow = best(lambda job=job: synthesiser.next_dates([job]))
        synthesiser.settings = replace(settings, extent="full")
        full = best(lambda job=job: synthesiser.next_dates([job]))
        changed, share = plan.series.reports[0].reached, sum(pixels) / scene.image[..., 0].size
        table.add_row(
            scene.id,
            f"{changed:.1%}",
            str(count),
            f"{share:.1%}",
            f"{narrow:.2f}",
            f"{full:.2f}",
            f"{narrow / full:.3f}",
        )
    console.print(table)


def everything_else(console: Console) -> None:
    """Time every part but denoising, per 1024² date."""
    from changen_cli.core.seeding import derive_rng
    from changen_cli.synthesis.exemplars import ExemplarStart
    from changen_cli.writers import open_writer

    recipe = build_recipe({"source": {"input": str(SAMPLE)}, "events": {"steps": 3, "change_area": "8-10%"}})
    source = open_labelled_source(recipe)
    library = build_library(source)
    start = ExemplarStart(library)
    scenes, plans, samples = [], [], []
    steps = recipe.events.steps
    rows = {}
    rows["read"] = best(lambda: scenes.__setitem__(slice(None), [s for s in source if isinstance(s, Scene)])) / (
        len(scenes) * (steps + 1)
    )
    rows["simulate events"] = best(
        lambda: plans.__setitem__(slice(None), [simulate(s, source.schema, recipe, 0, library) for s in scenes])
    ) / (len(scenes) * steps)
    rows["exemplar start"] = best(
        lambda: [
            start.start(
                p.scene.image,
                p.series.masks[:2],
                p.series.instances[0],
                [e for e in p.series.events if e.time_index == 0],
                source.schema,
                p.scene.id,
                derive_rng(0, p.scene.id),
            )
            for p in plans
        ]
    ) / len(plans)
    import numpy as np

    stacks = [np.stack([p.scene.image] * (steps + 1)) for p in plans]
    rows["acquisition"] = best(
        lambda: samples.__setitem__(
            slice(None),
            [finish_sample(p, stack, recipe, source.schema) for p, stack in zip(plans, stacks, strict=True)],
        )
    ) / (len(plans) * (steps + 1))
    with tempfile.TemporaryDirectory() as folder:
        writer = open_writer("folder", Path(folder), source.schema)
        rows["write (GeoTIFF, JSON, fsync)"] = best(lambda: [writer.write(s) for s in samples]) / (
            len(samples) * (steps + 1)
        )
    table = Table(title="Everything but denoising, seconds per 1024² date")
    table.add_column("part")
    table.add_column("s", justify="right")
    for name, seconds in rows.items():
        table.add_row(name, f"{seconds:.3f}")
    table.add_row("sum", f"{sum(rows.values()):.3f}")
    console.print(table)


def peak_memory(model: str, scenes: int, console: Console) -> None:
    """Peak resident memory of whole runs, each in its own process."""
    table = Table(title="Peak memory of `changen generate`, --batch-size 1")
    for column in ("scenes", "denoised", "peak GB"):
        table.add_column(column, justify="right")
    sources = sorted((SAMPLE / "images").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        for count, strength in ((1, "0.1"), (max(2, scenes // 10), "0"), (scenes, "0")):
            root = Path(folder) / f"in{count}_{strength}"
            for kind in ("images", "labels"):
                (root / kind).mkdir(parents=True)
            for index in range(count):
                image = sources[index % len(sources)]
                label = SAMPLE / "labels" / f"{image.stem}.json"
                shutil.copy(image, root / "images" / f"copy_{index:08d}_pre_disaster.tif")
                shutil.copy(label, root / "labels" / f"copy_{index:08d}_pre_disaster.json")
            arguments = ["generate", "-i", root, "-o", f"{root}-out", "-q", "--batch-size", 1, "--threads", 1]
            arguments += ["--strength", strength, "--model", model, "--steps", 1]
            code = (
                "import sys; from changen_cli.cli.app import app; "
                "app(sys.argv[1:], standalone_mode=False); "
                "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
            )
            command = [sys.executable, "-c", code, *map(str, arguments)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            table.add_row(str(count), "yes" if strength != "0" else "no", f"{int(out.split()[-1]) / 1e6:.2f}")
            shutil.rmtree(f"{root}-out")
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="changen-mini")
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--memory-scenes", type=int, default=50)
    options = parser.parse_args()
    printer = Console(width=110)
    everything_else(printer)
    windows_against_full(options.model, options.scenes, printer)
    peak_memory(options.model, options.memory_scenes, printer)
