"""The main job: read → simulate → synthesise → write, one batch of scenes at a time.

Three things happen at once: one thread reads and simulates ahead, the caller's thread denoises, one thread writes.
Queues between them are bounded, so memory does not grow with the number of scenes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from changen_cli.core.errors import IncompleteError
from changen_cli.core.manifest import Manifest, new_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, Exemplar, Scene, Skip, TimeSeries, UInt8Array
from changen_cli.workflows.plans import Plan, open_labelled_source, plan_samples, read_ahead
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.setup import (
    build_library,
    choose_compute,
    clear_output,
    load_synthesiser,
    prepare_output,
)

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source
    from changen_cli.synthesis.synthesiser import Synthesiser
    from changen_cli.writers.contact_sheet import ContactSheet

UNCHANGED = {
    "exact": "bit-identical to date 0 outside the redrawn areas; |A-B| gives the change away",
    "reacquired": "every date, date 0 too, passed through its own draw of optics, gain and sensor noise",
}


@dataclass
class RunResult:
    """What a run made.

    Attributes:
        output: The dataset folder.
        preview: The contact sheet, or None when no sample was made.
        samples: Samples written.
        scenes: Scenes (tiles) used.
        skipped: Scenes not used, by reason.
        failed: How many of them are broken files.
        seconds: Wall time.
        statistics: Figures for people: changed share, events by kind, steps met.
    """

    output: Path
    preview: Path | None = None
    samples: int = 0
    scenes: int = 0
    skipped: list[Skip] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    statistics: dict[str, Any] = field(default_factory=dict)


def synthesise_batch(
    plans: list[Plan], synthesiser: Synthesiser, recipe: Recipe, progress: Progress
) -> list[UInt8Array]:
    """Draw all dates of a batch of samples, date by date; uint8 ``[T, H, W, 3]`` each."""
    from changen_cli.synthesis.synthesiser import DateJob

    images = [[plan.scene.image] for plan in plans]
    for time_index in range(recipe.events.steps):
        progress.stage(f"denoising t{time_index + 1}")
        jobs = [
            DateJob(
                image=dates[-1],
                masks=plan.series.masks[time_index : time_index + 2],
                instances=plan.series.instances[time_index],
                events=[event for event in plan.series.events if event.time_index == time_index],
                scene_id=plan.scene.id,
                seed=recipe.seed,
                names=(plan.scene.id, plan.variant, time_index + 1),
            )
            for plan, dates in zip(plans, images, strict=True)
        ]
        for dates, image in zip(images, synthesiser.next_dates(jobs, progress.windows), strict=True):
            dates.append(image)
    return [np.stack(dates) for dates in images]


def finish_sample(plan: Plan, images: UInt8Array, recipe: Recipe) -> TimeSeries:
    """Treat the unchanged pixels as asked and assemble the sample."""
    from changen_cli.synthesis.nuisance import reacquire

    info: dict[str, Any] = {"negative": plan.negative, "unchanged": recipe.synthesis.unchanged}
    if recipe.synthesis.unchanged == "reacquired":
        drawn = [
            reacquire(image, derive_rng(recipe.seed, plan.scene.id, plan.variant, date, "acquisition"))
            for date, image in enumerate(images)
        ]
        images = np.stack([image for image, _ in drawn])
        info["acquisition"] = [draw for _, draw in drawn]
    return TimeSeries(
        id=plan.id,
        scene=plan.scene,
        variant=plan.variant,
        seed=recipe.seed,
        images=images,
        masks=plan.series.masks,
        events=plan.series.events,
        reports=plan.series.reports,
        info=info,
    )


class _Tally:
    """Running figures of a run; fed by the writing thread only."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.shares: list[float] = []
        self.steps_met = 0
        self.samples = 0

    def add(self, sample: TimeSeries) -> None:
        self.samples += 1
        self.events.update(event.kind for event in sample.events)
        self.shares += [report.reached for report in sample.reports]
        self.steps_met += sum(report.met for report in sample.reports)

    def statistics(self) -> dict[str, Any]:
        steps = len(self.shares)
        return {
            "events": dict(sorted(self.events.items())),
            "steps": steps,
            "steps_with_asked_area": self.steps_met,
            "changed_share_mean": round(float(np.mean(self.shares)), 5) if steps else 0.0,
        }


def generate(recipe: Recipe, progress: Progress | None = None) -> RunResult:
    """Make a dataset as the recipe says.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.

    Returns:
        What was made, and what was not.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        ModelError: When the model cannot be loaded; nothing is written.
        IncompleteError: When more scenes failed than allowed, or no sample could be made. What was made is kept.
        KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
    """
    from changen_cli.writers.classes import write_classes
    from changen_cli.writers.contact_sheet import ContactSheet

    progress = progress or Silent()
    started = time.perf_counter()
    output = prepare_output(recipe)
    source = open_labelled_source(recipe)
    progress.note(f"{recipe.source.input}: {source.describe()}")
    progress.stage("collecting exemplars")
    library = build_library(source)
    progress.note(f"exemplar library: {len(library)} buildings")
    compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
    synthesiser, model = load_synthesiser(recipe, compute, source.schema, library)
    manifest = new_manifest(
        recipe,
        source={"layout": source.layout, "classes": list(source.schema.names), "description": source.describe()},
        model=model,
        unchanged_pixels=UNCHANGED[recipe.synthesis.unchanged],
        device=compute.device,
        dtype=compute.dtype,
        threads=compute.threads,
    )
    clear_output(output)
    manifest.save(output)
    write_classes(output, source.schema)
    result, tally = RunResult(output), _Tally()
    name = model.id if model else "exemplars only"
    sheet = ContactSheet(source.schema, title=f"{Path(recipe.source.input).resolve().name}: {name}")
    progress.total(min(source.count_images(), recipe.limit or 2**62))
    try:
        _run_batches(recipe, source, library, synthesiser, sheet, tally, manifest, result, progress)
        manifest.status = "complete"
    except KeyboardInterrupt:
        manifest.status = "interrupted"
        raise
    except BaseException:
        manifest.status = "failed"
        raise
    finally:
        result.samples, result.statistics = tally.samples, tally.statistics()
        result.seconds = time.perf_counter() - started
        progress.stage("closing")
        _close(recipe, source.schema, sheet, manifest, result)
    _check_complete(recipe, result)
    return result


def _run_batches(
    recipe: Recipe,
    source: Source,
    library: list[Exemplar],
    synthesiser: Synthesiser,
    sheet: ContactSheet,
    tally: _Tally,
    manifest: Manifest,
    result: RunResult,
    progress: Progress,
) -> None:
    """The loop: take a batch of plans, draw its dates, hand it to the writing thread."""
    from changen_cli.writers import open_writer

    writer = open_writer(recipe.output.format, result.output, source.schema)

    def write(plan: Plan, images: UInt8Array) -> None:
        sample = finish_sample(plan, images, recipe)
        writer.write(sample)
        sheet.add(sample)
        tally.add(sample)

    seen: set[str] = set()
    pending: list[Future[None]] = []
    plans = read_ahead(plan_samples(source, recipe, library), depth=2 * recipe.run.batch_size)
    pool = ThreadPoolExecutor(1, thread_name_prefix="write")
    try:
        progress.stage("reading")
        for batch in _batches(plans, recipe.run.batch_size, result, progress):
            images = synthesise_batch(batch, synthesiser, recipe, progress)
            # At most one batch waits to be written: that bounds memory, and errors surface soon.
            for future in pending:
                future.result()
            pending = [pool.submit(write, plan, stack) for plan, stack in zip(batch, images, strict=True)]
            for plan in batch:
                if plan.scene.id not in seen:
                    seen.add(plan.scene.id)
                    manifest.scenes.append(_scene_record(plan.scene))
            result.scenes = len(seen)
            progress.scene(len({record["path"] for record in manifest.scenes}) + len(result.skipped), tally.samples)
            progress.stage("reading")
        for future in pending:
            future.result()
        progress.scene(len({record["path"] for record in manifest.scenes}) + len(result.skipped), tally.samples)
    finally:
        pool.shutdown(wait=True)
        plans.close()
        if tally.samples:
            writer.close()
        else:
            writer.abandon()


def _batches(
    plans: Generator[Plan | Skip, None, None], size: int, result: RunResult, progress: Progress
) -> Iterator[list[Plan]]:
    """Group plans; skips are noted on the way."""

    def wanted() -> Iterator[Plan]:
        for item in plans:
            if isinstance(item, Skip):
                result.skipped.append(item)
                result.failed += item.failed
                progress.note(f"skipped {item.path}: {item.reason}")
            else:
                yield item

    source = wanted()
    while batch := list(islice(source, size)):
        yield batch


def _scene_record(scene: Scene) -> dict[str, Any]:
    return {
        "id": scene.id,
        "group": scene.group,
        "path": scene.source_path,
        "height": scene.image.shape[0],
        "width": scene.image.shape[1],
        "crs": bool(scene.crs),
        "notes": scene.notes,
    }


def _close(recipe: Recipe, schema: ClassSchema, sheet: ContactSheet, manifest: Manifest, result: RunResult) -> None:
    """Write the preview, the card and the completed manifest."""
    from changen_cli.writers.card import write_card

    manifest.counts = {
        "samples": result.samples,
        "scenes": result.scenes,
        "skipped": len(result.skipped),
        "failed": result.failed,
    }
    manifest.statistics = result.statistics
    manifest.skipped = [{"path": s.path, "reason": s.reason, "failed": s.failed} for s in result.skipped]
    if result.samples:
        result.preview = sheet.save(result.output / "preview.png")
        write_card(result.output, card_facts(recipe, schema, manifest, result))
    manifest.save(result.output)


def card_facts(recipe: Recipe, schema: ClassSchema, manifest: Manifest, result: RunResult) -> dict[str, Any]:
    """Collect what the dataset card tells from the manifest."""
    model = manifest.model
    statistics = result.statistics
    return {
        "name": result.output.name,
        "layout": recipe.output.format,
        "splits": {"train": result.samples},
        "dates": recipe.events.steps + 1,
        "classes": list(schema.names),
        "event_kinds": list(recipe.events.kinds),
        "step_count": recipe.events.steps,
        "seed": recipe.seed,
        "unchanged": f"{recipe.synthesis.unchanged}: {manifest.unchanged_pixels}",
        "model": model.id if model else "none",
        "model_license": model.license if model else "",
        "version": manifest.versions["changen"],
        "georeferenced": any(record["crs"] for record in manifest.scenes),
        "sources": [{"name": Path(recipe.source.input).resolve().name, "license": "see the source dataset"}],
        "figures": {
            "samples": result.samples,
            "events": ", ".join(f"{count} {kind}" for kind, count in statistics.get("events", {}).items()) or "none",
            "mean changed share of a step": f"{statistics.get('changed_share_mean', 0):.2%}",
        },
        "preview": "preview.png",
    }


def _check_complete(recipe: Recipe, result: RunResult) -> None:
    """Raise when too little of the input could be used."""
    tried = result.failed + result.scenes
    if not result.samples:
        reasons = "; ".join(f"{skip.path}: {skip.reason}" for skip in result.skipped[:3])
        raise IncompleteError(f"no sample could be made of {recipe.source.input} ({reasons or 'it holds no scene'})")
    if result.failed > recipe.source.max_skipped * tried:
        raise IncompleteError(
            f"{result.failed} of {tried} scenes failed, more than --max-skipped {recipe.source.max_skipped:.0%}",
            f"The samples of the others are in {result.output}; the manifest lists the reasons",
        )
