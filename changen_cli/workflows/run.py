"""One run over a folder, whatever it makes: read → simulate → draw → write, one batch of scenes at a time.

Three things happen at once: one thread reads and simulates ahead, the caller's thread draws, one thread writes.
Queues between them are bounded, so memory does not grow with the number of scenes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.core.errors import IncompleteError
from changen_cli.core.files import sha256
from changen_cli.core.licences import dataset_licence
from changen_cli.core.lock import OutputLock
from changen_cli.core.manifest import Manifest, ModelRecord, Status, new_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.signals import terminable
from changen_cli.core.types import EventKind, Exemplar, Skip, Texture, TimeSeries
from changen_cli.workflows.ahead import read_ahead
from changen_cli.workflows.ledger import Ledger, damage_facts, labels_note, proposals_record
from changen_cli.workflows.plans import (
    Plan,
    drawable_anywhere,
    event_kinds,
    gather,
    matrix,
    needs_exemplars,
    open_labelled_source,
    plan_samples,
)
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.setup import Compute, check_output, clear_output, prepare_output
from changen_cli.workflows.workers import plan_in_processes

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

Finish = Callable[[], TimeSeries]
"""What is left to do for a sample once it is drawn; called on the writing thread."""
Draw = Callable[[list[Plan]], list[Finish]]
"""Draws a batch of samples; called on the thread the run was called on."""


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


class Run:
    """One run in the making: checked on creation, then :meth:`collect`, then :meth:`go`.

    A context manager: within it the output folder is locked, and SIGTERM is like Ctrl-C.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.

    Attributes:
        source: The scenes.
        library: Exemplars to create objects from; empty until collected, and where nothing is created.
        textures: Pieces of every class; likewise.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
    """

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self._started = time.perf_counter()
        self.recipe, self.progress = recipe, progress
        with ExitStack() as stack:
            stack.enter_context(terminable())
            check_output(recipe)  # no lock is put into a stranger's folder
            stack.enter_context(OutputLock(recipe.output_path))
            prepare_output(recipe)
            self._open()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        from changen_cli.sources.statement import read_statement

        recipe, progress = self.recipe, self.progress
        self.source = open_labelled_source(recipe)
        self._stated = read_statement(self.source.root)
        progress.note(f"{recipe.source.input}: {self.source.describe()}")
        self.kinds = event_kinds(recipe, self.source.schema)
        progress.note(_roles(self.source, recipe, self.kinds))
        self.library: list[Exemplar] = []
        self.textures: list[Texture] = []

    def collect(self) -> None:
        """Collect what new things are made from, out of the first scenes."""
        recipe, schema = self.recipe, self.source.schema
        self.progress.stage("collecting exemplars")
        self.library, self.textures = gather(recipe, self.source)
        if needs_exemplars(recipe, schema):
            self.progress.note(f"exemplar library: {len(self.library)} {schema.building_name}s")
        for line in _transitions(self.source, recipe, self.textures):
            self.progress.note(line)

    def go(
        self,
        draw: Draw,
        *,
        model: ModelRecord | None = None,
        unchanged: str = "",
        compute: Compute | None = None,
        label_safe: bool = False,
    ) -> RunResult:
        """Make the dataset.

        Args:
            draw: Draws a batch of samples, on the calling thread.
            model: What draws them.
            unchanged: How unchanged pixels are treated.
            compute: Where and how images are drawn; None where only masks are made.
            label_safe: Of the states of damage only destroyed can be drawn.

        Raises:
            IncompleteError: When no sample could be made, and nothing is left behind; or when more scenes failed than
                allowed, and what was made is kept.
            KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
        """
        recipe, schema = self.recipe, self.source.schema
        proposer = proposals_record(self.source)
        damage = damage_facts(recipe, not label_safe)
        if damage:
            self.progress.note(f"damage: {damage['note']}")
        manifest = new_manifest(
            recipe,
            source={
                "name": self._stated.name,
                "license": list(recipe.source.license or self._stated.license),
                "attribution": self._stated.attribution,
                "layout": self.source.layout,
                "classes": list(schema.names),
                "description": self.source.describe(),
                "labels": labels_note(recipe, self.source),
                "event_kinds": list(self.kinds),
                **({"damage": damage} if damage else {}),
                **({"proposals_model": proposer.model_dump()} if proposer else {}),
            },
            images=compute is not None,
            model=model,
            unchanged_pixels=unchanged,
            **(asdict(compute) if compute else {}),
        )
        dataset = _Dataset(recipe, self.source, manifest)
        self.progress.total(min(self.source.count_images(), recipe.limit or 2**62))
        status: Status = "failed"
        try:
            self._loop(draw, dataset, label_safe)
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            self.progress.stage("closing")
            result = dataset.close(status)
            result.seconds = time.perf_counter() - self._started
        _check_complete(recipe, result, dataset.ledger)
        return result

    def _loop(self, draw: Draw, dataset: _Dataset, label_safe: bool) -> None:
        """Take a batch of plans, draw it, hand it to the writing thread."""
        size = self.recipe.run.batch_size
        pending: list[Future[None]] = []
        plan = plan_in_processes if self.recipe.run.workers > 1 else plan_samples
        samples = plan(self.source, self.recipe, self.library, self.textures, label_safe)
        plans = read_ahead(samples, depth=2 * size)
        pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        ledger = dataset.ledger
        try:
            self.progress.stage("reading")
            for batch in self._batches(plans, size, ledger):
                drawn = draw(batch)
                # At most one batch waits to be written: that bounds memory, and errors surface soon.
                for future in pending:
                    future.result()
                pending = [pool.submit(dataset.write, finish) for finish in drawn]
                self.progress.scene(ledger.images_done, ledger.samples)
                self.progress.stage("reading")
            for future in pending:
                future.result()
            self.progress.scene(ledger.images_done, ledger.samples)
        finally:
            pool.shutdown(wait=True)
            plans.close()

    def _batches(self, plans: Generator[Plan | Skip, None, None], size: int, ledger: Ledger) -> Iterator[list[Plan]]:
        """Group plans; scenes and skips are noted on the way."""

        def wanted() -> Iterator[Plan]:
            for item in plans:
                if isinstance(item, Skip):
                    ledger.skip(item)
                    self.progress.note(f"skipped {item.path}: {item.reason}")
                else:
                    for line in ledger.use(item.scene):
                        self.progress.note(line)
                    yield item

        source = wanted()
        while batch := list(islice(source, size)):
            yield batch


class _Dataset:
    """A dataset in the making: its folder, tables, preview, card and manifest.

    Attributes:
        ledger: What was used, skipped and made so far.
    """

    def __init__(self, recipe: Recipe, source: Source, manifest: Manifest) -> None:
        from changen_cli.writers import open_writer
        from changen_cli.writers.classes import write_classes
        from changen_cli.writers.contact_sheet import ContactSheet

        self.ledger = Ledger()
        self._recipe, self._source, self._manifest = recipe, source, manifest
        schema = source.schema
        self._output = recipe.output_path
        clear_output(self._output)
        manifest.save(self._output)
        write_classes(self._output, schema)
        self._writer = open_writer(recipe.output.format, self._output, schema)
        drawn_by = manifest.model.id if manifest.model else "exemplars only" if manifest.images else "masks only"
        self._sheet = ContactSheet(schema, title=f"{Path(recipe.source.input).resolve().name}: {drawn_by}")

    def write(self, finish: Finish) -> None:
        """Finish a sample and write it."""
        sample = finish()
        self._writer.write(sample)
        self._sheet.add(sample)
        self.ledger.add(sample)

    def close(self, status: Status) -> RunResult:
        """Write tables, preview, card and the completed manifest; a run without a sample leaves nothing."""
        from changen_cli.exports.master import Master
        from changen_cli.workflows.describe import describe_master
        from changen_cli.writers.card import write_card

        ledger, manifest, output = self.ledger, self._manifest, self._output
        result = RunResult(
            output,
            samples=ledger.samples,
            scenes=len(ledger.scenes),
            skipped=ledger.skipped,
            failed=ledger.failed_images,
            statistics=ledger.statistics(),
        )
        if not ledger.samples:
            self._writer.abandon()
            clear_output(output)
            return result
        manifest.status = "failed"
        ledger.complete(manifest)
        try:
            tables = self._writer.close()
            manifest.checksums = sha256(output / CHECKSUMS)
            result.preview = self._sheet.save(output / "preview.png")
            master = Master(output, self._recipe.output.format, self._source.schema, {}, tuple(tables))
            write_card(output, describe_master(master, manifest, dataset_licence(manifest)))
            manifest.status = status
        finally:
            manifest.save(output)
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
    lines = [f"transitions ({recipe.events.transitions.name}): {pairs or 'edges only'}"]
    for move in transitions.moves:
        way = "over" if move.advances else "to"
        others = ", ".join(names[index] for index in (move.over if move.advances else (move.to,)))
        low, high = move.distance_m
        does = "advances" if move.advances else "retreats"
        lines.append(f"edge of {names[move.edge]} {does} {low:g}-{high:g} m {way} {others}: {move.share:.0%} of a step")
    if recipe.events.transitions.change_area == recipe.events.change_area:
        low, high = recipe.events.change_area
        lines.append(f"changed share of a step: {low:.2%} to {high:.2%}, as the matrix says")
    undrawn = sorted(transitions.targets - drawable_anywhere(recipe, source.schema, textures))
    if undrawn:
        shown = ", ".join(names[index] for index in undrawn)
        lines.append(f"the first scenes show no {shown}: nothing becomes {shown} but in tiles that show it")
    return lines


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
