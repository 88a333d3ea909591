"""The main job: read → simulate → synthesise → write, one batch of scenes at a time.

Three things happen at once: one thread reads and simulates ahead, the caller's thread denoises, one thread writes.
Queues between them are bounded, so memory does not grow with the number of scenes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from changen_cli.core.errors import IncompleteError
from changen_cli.core.manifest import Manifest, Status, new_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import EventKind, Exemplar, Skip, Texture, TimeSeries, UInt8Array
from changen_cli.workflows.ledger import UNCHANGED, Ledger, card_facts, labels_note, proposals_record
from changen_cli.workflows.plans import (
    Plan,
    drawable_anywhere,
    event_kinds,
    matrix,
    needs_exemplars,
    open_labelled_source,
    plan_samples,
    read_ahead,
)
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.setup import (
    build_library,
    build_textures,
    choose_compute,
    clear_output,
    load_pipeline,
    prepare_output,
    synthesis_settings,
)

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source
    from changen_cli.synthesis.synthesiser import Synthesiser


@dataclass
class RunResult:
    """What a run made.

    Attributes:
        output: The dataset folder.
        preview: The contact sheet, or None when no sample was made.
        samples: Samples written.
        scenes: Scenes (tiles) used.
        skipped: Scenes not used, with the reason.
        failed: Source images that are broken.
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
                instances=plan.series.instances[time_index : time_index + 2],
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
        IncompleteError: When no sample could be made, and nothing is left behind; or when more scenes failed than
            allowed, and what was made is kept.
        KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
    """
    from changen_cli.synthesis.synthesiser import Synthesiser
    from changen_cli.writers.classes import write_classes

    progress = progress or Silent()
    started = time.perf_counter()
    output = prepare_output(recipe)
    source = open_labelled_source(recipe)
    progress.note(f"{recipe.source.input}: {source.describe()}")
    kinds = event_kinds(recipe, source.schema)
    progress.note(_roles(source, recipe, kinds))
    # Device and model before anything slow: a typo should not cost a minute of reading.
    compute = choose_compute(recipe.run.device, recipe.run.dtype, recipe.run.threads)
    pipeline, model = load_pipeline(recipe, compute)
    library: list[Exemplar] = []
    if needs_exemplars(recipe, source.schema):
        progress.stage("collecting exemplars")
        library = build_library(source)
        progress.note(f"exemplar library: {len(library)} {source.schema.building_name}s")
    textures = build_textures(source) if recipe.events.transitions else []
    for line in _transitions(source, recipe, textures):
        progress.note(line)
    proposer = proposals_record(source)
    manifest = new_manifest(
        recipe,
        source={
            "layout": source.layout,
            "classes": list(source.schema.names),
            "description": source.describe(),
            "labels": labels_note(recipe, source),
            "event_kinds": list(kinds),
        }
        | ({"proposals_model": proposer.model_dump()} if proposer else {}),
        model=model,
        unchanged_pixels=UNCHANGED[recipe.synthesis.unchanged],
        device=compute.device,
        dtype=compute.dtype,
        threads=compute.threads,
    )
    clear_output(output)
    manifest.save(output)
    write_classes(output, source.schema)
    synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), source.schema, library, textures)
    run = _Run(recipe, source, library, textures, synthesiser, manifest, progress)
    progress.total(min(source.count_images(), recipe.limit or 2**62))
    status: Status = "failed"
    try:
        run.loop()
        status = "complete"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        progress.stage("closing")
        result = run.close(status)
        result.seconds = time.perf_counter() - started
    _check_complete(recipe, result, run.ledger)
    return result


def _roles(source: Source, recipe: Recipe, kinds: tuple[EventKind, ...]) -> str:
    """Say which classes change and which are never built on."""
    names = source.schema.names
    if source.schema.class_agnostic:
        return f"changes: {names[1]} ({', '.join(kinds)}); masks are {labels_note(recipe, source)}"
    barred = ", ".join(names[index] for index in source.schema.forbidden_ids) or "no class is named like road or water"
    building = source.schema.building_id
    return f"changes: {names[building] if building is not None else 'nothing'}; never built on: {barred}"


def _transitions(source: Source, recipe: Recipe, textures: list[Texture]) -> list[str]:
    """Say which transitions may happen, and which only where a tile shows their new class itself."""
    transitions = matrix(recipe, source.schema)
    if transitions is None or recipe.events.transitions is None:
        return []
    names = source.schema.names
    pairs = ", ".join(
        f"{names[a]} to {names[b]} {transitions.rates[a, b]:g}" for a, b in np.argwhere(transitions.rates > 0)
    )
    lines = [f"transitions ({recipe.events.transitions.name}): {pairs}"]
    targets = set(np.flatnonzero(transitions.rates.any(axis=0)).tolist())
    undrawn = sorted(targets - drawable_anywhere(recipe, source.schema, textures))
    if undrawn:
        shown = ", ".join(names[index] for index in undrawn)
        lines.append(f"the first scenes show no {shown}: nothing becomes {shown} but in tiles that show it")
    return lines


class _Run:
    """One run in the making."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        library: list[Exemplar],
        textures: list[Texture],
        synthesiser: Synthesiser,
        manifest: Manifest,
        progress: Progress,
    ) -> None:
        from changen_cli.writers import open_writer
        from changen_cli.writers.contact_sheet import ContactSheet

        self.recipe, self.source, self.exemplars = recipe, source, library
        self.textures = textures
        self.synthesiser, self.manifest, self.progress = synthesiser, manifest, progress
        self.output = recipe.output_path
        self.ledger = Ledger()
        self.writer = open_writer(recipe.output.format, self.output, source.schema)
        drawn_by = manifest.model.id if manifest.model else "exemplars only"
        self.sheet = ContactSheet(source.schema, title=f"{Path(recipe.source.input).resolve().name}: {drawn_by}")

    def loop(self) -> None:
        """Take a batch of plans, draw its dates, hand it to the writing thread."""
        size = self.recipe.run.batch_size
        pending: list[Future[None]] = []
        samples = plan_samples(self.source, self.recipe, self.exemplars, self.textures)
        plans = read_ahead(samples, depth=2 * size)
        pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        try:
            self.progress.stage("reading")
            for batch in self._batches(plans, size):
                images = synthesise_batch(batch, self.synthesiser, self.recipe, self.progress)
                # At most one batch waits to be written: that bounds memory, and errors surface soon.
                for future in pending:
                    future.result()
                pending = [pool.submit(self._write, plan, stack) for plan, stack in zip(batch, images, strict=True)]
                self.progress.scene(self.ledger.images_done, self.ledger.samples)
                self.progress.stage("reading")
            for future in pending:
                future.result()
            self.progress.scene(self.ledger.images_done, self.ledger.samples)
        finally:
            pool.shutdown(wait=True)
            plans.close()

    def _write(self, plan: Plan, images: UInt8Array) -> None:
        sample = finish_sample(plan, images, self.recipe)
        self.writer.write(sample)
        self.sheet.add(sample)
        self.ledger.add(sample)

    def _batches(self, plans: Generator[Plan | Skip, None, None], size: int) -> Iterator[list[Plan]]:
        """Group plans; scenes and skips are noted on the way."""

        def wanted() -> Iterator[Plan]:
            for item in plans:
                if isinstance(item, Skip):
                    self.ledger.skip(item)
                    self.progress.note(f"skipped {item.path}: {item.reason}")
                else:
                    for line in self.ledger.use(item.scene):
                        self.progress.note(line)
                    yield item

        source = wanted()
        while batch := list(islice(source, size)):
            yield batch

    def close(self, status: Status) -> RunResult:
        """Write tables, preview, card and the completed manifest; a run without a sample leaves nothing."""
        ledger = self.ledger
        result = RunResult(
            self.output,
            samples=ledger.samples,
            scenes=len(ledger.scenes),
            skipped=ledger.skipped,
            failed=ledger.failed_images,
            statistics=ledger.statistics(),
        )
        if not ledger.samples:
            self.writer.abandon()
            clear_output(self.output)
            return result
        self.manifest.status = "failed"
        ledger.complete(self.manifest)
        try:
            self.writer.close()
            result.preview = self.sheet.save(self.output / "preview.png")
            from changen_cli.writers.card import write_card

            write_card(self.output, card_facts(self.recipe, self.source, self.manifest))
            self.manifest.status = status
        finally:
            self.manifest.save(self.output)
        return result


def _check_complete(recipe: Recipe, result: RunResult, ledger: Ledger) -> None:
    """Raise when too little of the input could be used."""
    if not result.samples:
        reasons = "; ".join(f"{skip.path}: {skip.reason}" for skip in result.skipped[:3])
        raise IncompleteError(f"no sample could be made of {recipe.source.input} ({reasons or 'it holds no scene'})")
    if result.failed > recipe.source.max_skipped * ledger.images_done:
        raise IncompleteError(
            f"{result.failed} of {ledger.images_done} images failed, more than --max-skipped "
            f"{recipe.source.max_skipped:.0%}",
            f"The samples of the others are in {result.output}; the manifest lists the reasons",
        )
