"""How the work divides: two workers against one, and what would be the first bottleneck up to 1 000 GPUs.

Usage: python benchmarks/scaling.py [--images 12] [--sample-seconds 1.0] [--skip-workers]

First table: the same images on one and on two Ray workers of one thread each, in turn; the ratio is that of the times
from the first shard handed out to the last one recorded. It needs two idle cores. Second table: what every part costs,
measured here. Third table: a model made of these figures, for clusters nobody here has; what a GPU takes for a sample
is assumed (--sample-seconds), as none was measured.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from changen_cli.core.manifest import read_manifest
from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.shards import ImageRecord, ShardRecord, read_shards
from changen_cli.sources.candidates import Candidate
from changen_cli.sources.stamps import look
from changen_cli.workflows.generate import generate
from changen_cli.workflows.plans import open_labelled_source
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.setup import SAMPLE
from changen_cli.workflows.shards import Todo, plan_tasks
from changen_cli.workflows.simulate import simulate_dataset

LISTED = 20_000
KINDS = ("images", "labels")
PUTS_PER_S = 3_500
"""Writes a second that S3 promises per prefix."""
SHARD = 16
BYTES = 2_600_000
"""Of a sample of two dates at 512 px in the folder layout, of which the images are most."""
FILES = 9


class Clock(Silent):
    """When the first and the last progress was told."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def stage(self, name: str) -> None:
        """A stage begins; the first one that makes anything starts the clock."""
        if name == "making shards":
            self.at.append(time.perf_counter())

    def scene(self, images_done: int, samples_done: int) -> None:
        """Something was made."""
        self.at.append(time.perf_counter())


def copies(folder: Path, count: int) -> Path:
    """The bundled sample under many names."""
    found = {name: sorted((SAMPLE / name).iterdir()) for name in KINDS}
    for name, paths in found.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            source = paths[index % len(paths)]
            shutil.copyfile(source, folder / name / f"place{index:05d}_pre_disaster{source.suffix}")
    return folder


def recipe_of(source: Path, out: Path, **run: object) -> Recipe:
    """A recipe over a folder, at 256 px."""
    return build_recipe(
        {
            "source": {"input": str(source), "res": 256},
            "output": {"path": str(out), "mode": "overwrite"},
            "run": {"device": "cpu", "threads": 1, "shard_size": 1, "batch_size": 4} | run,
        }
    )


def two_against_one(folder: Path, images: int, repeats: int = 2) -> dict[int, list[float]]:
    """Seconds of one and of two workers for the same shards, by turns."""
    source = copies(folder / "in", images)
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for workers in (1, 2):
            clock = Clock()
            out = folder / f"out{workers}"
            generate(recipe_of(source, out, executor="ray", workers=workers), clock)
            # From the first shard that is done: workers open the source and load the model before.
            first, last = clock.at[1 : workers + 1][-1], clock.at[-1]
            took[workers].append((last - first) / (len(clock.at) - 1 - workers))
    return took


@dataclass
class Costs:
    """Seconds, or bytes, of one of each."""

    list_image: float
    plan_image: float
    close_sample: float
    hand_shard: float
    record_image: float
    row_sample: float
    manifest_scene: float


def measure(folder: Path) -> Costs:
    """What the parts cost that do not divide."""
    listed = copies(folder / "listed", 2)
    for name in KINDS:
        first = next((listed / name).glob("place00000*"))
        for index in range(2, LISTED):
            os.link(first, listed / name / f"place{index:05d}_pre_disaster{first.suffix}")
    source = open_labelled_source(build_recipe({"source": {"input": str(listed)}}))
    began = time.process_time()
    candidates = list(source.candidates())
    list_image = (time.process_time() - began) / LISTED

    def record(candidate: Candidate) -> ImageRecord:
        seen = look(candidate)
        return ImageRecord(size=seen.size, mtime_ns=seen.mtime_ns, sha256="0" * 64, complete=True)

    records = [
        ShardRecord(number=n, counts={}, variants=1, images={c.relative: record(c) for c in part}, samples=[])
        for n, part in enumerate(candidates[i : i + SHARD] for i in range(0, LISTED // 2, SHARD))
    ]
    recipe = build_recipe({"source": {"input": str(listed)}, "run": {"shard_size": SHARD}})
    began = time.process_time()
    tasks = sum(1 for _ in plan_tasks(source, recipe, Todo(records)))
    plan_image = (time.process_time() - began) / LISTED - list_image
    assert tasks == math.ceil(LISTED / 2 / SHARD)
    small = copies(folder / "small", 8)
    out = folder / "closed"
    made = simulate_dataset(recipe_of(small, out, shard_size=SHARD).model_copy(update={"variants": 4})).samples
    shards = list(read_shards(out))
    paths = [out / "shards" / f"{shard.number:05d}.json" for shard in shards]
    manifest = read_manifest(out)
    (out / "manifest.json").write_text(manifest.model_copy(update={"status": "interrupted"}).model_dump_json())
    clock = _Closing()
    simulate_dataset(
        recipe_of(small, out, shard_size=SHARD).model_copy(
            update={"variants": 4, "output": recipe.output.model_copy(update={"path": str(out), "mode": "resume"})}
        ),
        clock,
    )
    scenes = len(manifest.scenes)
    return Costs(
        list_image,
        max(plan_image, 1e-9),
        (time.process_time() - clock.closing) / made,
        hand_shard(),
        sum(path.stat().st_size for path in paths) / scenes,
        sum(path.with_suffix(".jsonl").stat().st_size for path in paths) / made,
        len(manifest.model_dump_json()) / scenes,
    )


class _Closing(Silent):
    closing = 0.0

    def stage(self, name: str) -> None:
        if name == "closing":
            self.closing = time.process_time()


def hand_shard() -> float:
    """Processor time of the coordinator for one shard: hand it out, hear of it, account for it."""
    import ray

    class Nothing:
        def make(self, task: object, number: int) -> int:
            return number

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
    try:
        worker = ray.remote(Nothing).remote()
        ray.get(worker.make.remote(None, 0))
        began = time.process_time()
        for number in range(300):
            ref = worker.make.remote(("image",) * SHARD, number)
            ray.wait([ref], num_returns=1, timeout=2)
            ray.get(ref)
        return (time.process_time() - began) / 300
    finally:
        ray.shutdown()


def modelled(costs: Costs, gpus: int, samples: float, seconds: float, datasets: int = 1) -> dict[str, float]:
    """Hours of each part of a run: those that divide by the number of GPUs, and those that do not.

    Several datasets are made side by side, each by its share of the GPUs.
    """
    gpus, samples = max(1, gpus // datasets), samples / datasets
    shards = samples / SHARD
    per_gpu = shards / gpus
    # The last shards end at different times: with many a worker the spread of one shard, with few a whole one.
    straggling = SHARD * seconds * (1 + 0.3 * math.sqrt(2 * math.log(max(gpus, 2)))) if gpus > 1 else 0.0
    return {
        "drawing": math.ceil(per_gpu) * SHARD * seconds / 3600,
        "stragglers": straggling / 3600,
        "listing, planning": samples * (costs.list_image + costs.plan_image) / 3600,
        "handing out": shards * costs.hand_shard / 3600,
        "storage requests": samples * FILES / PUTS_PER_S / 3600,
        "tables": samples * costs.close_sample / 3600,
    }


def human(size: float) -> str:
    """A size as people write it."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--sample-seconds", type=float, default=1.0)
    parser.add_argument("--skip-workers", action="store_true")
    options = parser.parse_args()
    console = Console(width=150)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if not options.skip_workers:
            took = two_against_one(folder / "ray", options.images)
            table = Table(title=f"Ray workers of one thread, {options.images} images of 16 tiles of 256 px")
            for name in ("workers", "s a shard", "times one"):
                table.add_column(name, justify="right")
            one = statistics.median(took[1])
            for workers, seconds in took.items():
                middle = statistics.median(seconds)
                table.add_row(str(workers), f"{middle:.2f}", f"{one / middle:.2f}")
            console.print(table)
        costs = measure(folder / "costs")
    table = Table(title="What does not divide, measured here (processor time)")
    table.add_column("part")
    table.add_column("each", justify="right")
    for name, text in (
        ("list an image", f"{1e6 * costs.list_image:.0f} µs"),
        ("see whether it is done", f"{1e6 * costs.plan_image:.0f} µs"),
        ("hand out a shard", f"{1e3 * costs.hand_shard:.2f} ms"),
        ("a sample's row in tables, card, checksums", f"{1e3 * costs.close_sample:.2f} ms"),
        ("a scene in records", human(costs.record_image)),
        ("a sample in records", human(costs.row_sample)),
        ("a scene in the manifest", human(costs.manifest_scene)),
    ):
        table.add_row(name, text)
    console.print(table)
    table = Table(
        title=f"Model: hours, one sample a scene, {options.sample_seconds:g} s a sample and GPU, shards of {SHARD}"
    )
    parts = list(modelled(costs, 1, 1, 1.0))
    for name in ("GPUs", "samples", "datasets", *parts, "efficiency", "first limit"):
        table.add_column(name, justify="right")
    for gpus, samples, datasets in (
        (1, 15_000, 1),
        (8, 15_000, 1),
        (64, 1_000_000, 1),
        (1000, 1_000_000, 1),
        (1000, 100_000_000, 1),
        (1000, 100_000_000, 100),
        (1000, 1_000_000_000, 1),
        (1000, 1_000_000_000, 1000),
    ):
        hours = modelled(costs, gpus, samples, options.sample_seconds, datasets)
        # Requests and handing out go on while workers draw; listing begins a run and tables end it.
        beside = max(hours["drawing"] + hours["stragglers"], hours["handing out"], hours["storage requests"])
        whole = beside + hours["listing, planning"] + hours["tables"]
        limit = max(hours, key=hours.__getitem__)
        table.add_row(
            f"{gpus}",
            f"{samples:.0e}",
            f"{datasets}",
            *(f"{hours[part]:.2g}" for part in parts),
            f"{samples * options.sample_seconds / 3600 / gpus / whole:.0%}",
            limit,
        )
    console.print(table)
    table = Table(title="Sizes")
    for name in ("samples", "records", "manifest", "data"):
        table.add_column(name, justify="right")
    for samples in (15_000, 1_000_000, 1_000_000_000):
        sizes = costs.record_image + costs.row_sample, costs.manifest_scene, BYTES
        table.add_row(f"{samples:.0e}", *(human(samples * size) for size in sizes))
    console.print(table)


if __name__ == "__main__":
    main()
