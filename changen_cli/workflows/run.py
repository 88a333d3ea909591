"""One run over a folder, whatever it makes: read → simulate → draw → write, one batch of scenes at a time.

Three things happen at once: one thread reads and simulates ahead, the caller's thread draws, one thread writes.
Queues between them are bounded, so memory does not grow with the number of scenes. At the end of every shard its record
is written; a run that is cut off goes on from there, see docs/resume.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from changen_cli.core.lock import OutputLock
from changen_cli.core.manifest import Manifest, ModelRecord, new_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.signals import terminable
from changen_cli.core.types import EventKind, Exemplar, Texture
from changen_cli.workflows.ahead import read_ahead
from changen_cli.workflows.budget import Budget
from changen_cli.workflows.dataset import Dataset, Finish, is_the_samples
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
from changen_cli.workflows.results import RunResult, check_complete, result_before, result_of
from changen_cli.workflows.resume import find_past
from changen_cli.workflows.runlog import RunLog
from changen_cli.workflows.setup import Compute, check_output
from changen_cli.workflows.shards import Border, Todo, shard_items
from changen_cli.workflows.workers import plan_in_processes

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

Draw = Callable[[list[Plan]], list[Finish]]
"""Draws a batch of samples; called on the thread the run was called on."""


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
        done: What there is, where nothing is left to do; else None.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
    """

    def __init__(self, recipe: Recipe, progress: Progress) -> None:
        self._started = time.perf_counter()
        self.recipe, self.progress = recipe, progress
        self.done: RunResult | None = None
        with ExitStack() as stack:
            stack.enter_context(terminable())
            check_output(recipe)  # no lock is put into a stranger's folder
            stack.enter_context(OutputLock(recipe.output_path))
            self._past = find_past(recipe)
            self._log = stack.enter_context(RunLog(recipe.output_path))
            self._open()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _open(self) -> None:
        from changen_cli.sources.statement import read_statement

        recipe, progress = self.recipe, self.progress
        self.source = open_labelled_source(recipe)
        self._stated = read_statement(self.source.root)
        progress.note(f"{recipe.source.input}: {self.source.describe()}")
        self.kinds = event_kinds(recipe, self.source.schema)
        self.library: list[Exemplar] = []
        self.textures: list[Texture] = []
        self._stock: dict[str, str] = {}
        past = self._past
        if past is not None:
            past.check_source(self.source)
            if past.nothing_left(recipe):
                self.done = result_before(recipe, past)
                return
            progress.note(f"taking up {recipe.output_path}: {Ledger(past.records).samples} samples are there")
            self._stock = dict(past.manifest.stock)
        progress.note(_roles(self.source, recipe, self.kinds))

    def collect(self) -> None:
        """Collect what new things are made from, out of the first scenes; a run taken up again, out of the same."""
        recipe, schema = self.recipe, self.source.schema
        self.progress.stage("collecting exemplars")
        self.library, self.textures = gather(recipe, self.source, self._stock)
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
        """Make the dataset, or what is left of it.

        Args:
            draw: Draws a batch of samples, on the calling thread.
            model: What draws them.
            unchanged: How unchanged pixels are treated.
            compute: Where and how images are drawn; None where only masks are made.
            label_safe: Of the states of damage only destroyed can be drawn.

        Raises:
            OutputError: When the dataset's other images were drawn by another model.
            IncompleteError: When no sample could be made, and nothing is left behind; when more failed than allowed, or
                a budget was used up, and what was made is kept.
            KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
        """
        recipe, past = self.recipe, self._past
        if past is not None:
            past.check_model(model)
        manifest = self._promise(model, unchanged, compute, label_safe)
        if past is not None:
            past.carry_over(manifest)
            for line in past.notes:
                self.progress.note(line)
        dataset = Dataset(recipe, self.source, manifest, past, self._log)
        todo = Todo(past.records if past else (), recipe.variants)
        images = min(self.source.count_images(), recipe.limit or 2**62)
        self.progress.total(images)
        self._log.begin(manifest, todo.done, images)
        try:
            stop = self._loop(draw, dataset, todo, label_safe)
        except OSError:
            with suppress(OSError):
                dataset.give_up()
            raise
        except BaseException as error:
            self.progress.stage("closing")
            told = isinstance(error, KeyboardInterrupt)
            dataset.close("interrupted" if told else "failed", tables=not told)
            raise
        self.progress.stage("closing")
        manifest.changed |= todo.changed
        ledger, preview = dataset.close("interrupted" if stop else "complete")
        for line in todo.told():
            self.progress.note(line)
        result = result_of(recipe, ledger)
        result.preview, result.seconds = preview, time.perf_counter() - self._started
        check_complete(recipe, result, ledger, stop)
        return result

    def _promise(
        self, model: ModelRecord | None, unchanged: str, compute: Compute | None, label_safe: bool
    ) -> Manifest:
        recipe, schema = self.recipe, self.source.schema
        proposer = proposals_record(self.source)
        damage = damage_facts(recipe, not label_safe)
        if damage:
            self.progress.note(f"damage: {damage['note']}")
        return new_manifest(
            recipe,
            source={
                "name": self._stated.name,
                "license": list(recipe.source.license or self._stated.license),
                "attribution": self._stated.attribution,
                "layout": self.source.layout,
                "meaning_of_255": self.source.meaning_of_255,
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
            stock=self._stock,
            **(asdict(compute) if compute else {}),
        )

    def _loop(self, draw: Draw, dataset: Dataset, todo: Todo, label_safe: bool) -> str:
        """Take a batch of plans, draw it, hand it to the writing thread, shard by shard.

        Returns:
            Why it stopped before everything was done; empty when it did not.
        """
        recipe = self.recipe
        plan = plan_in_processes if recipe.run.workers > 1 else plan_samples
        items = shard_items(self.source, recipe, todo)
        work = plan(items, self.source, recipe, self.library, self.textures, label_safe, todo.made)
        ahead = read_ahead(work, depth=2 * recipe.run.batch_size)
        budget = Budget(recipe.run, self._started)
        writer = _Writer()
        stop, sealed = "", False
        batch: list[Plan] = []

        def flush() -> None:
            if batch:
                writer.submit(self._drawn(draw, batch, dataset))
                self.progress.scene(dataset.images, dataset.samples)
                self.progress.stage("reading")
                batch.clear()

        try:
            self.progress.stage("reading")
            for item in ahead:
                if sealed and not isinstance(item, Border):  # there is more to do
                    if recipe.run.disk_budget:
                        writer.finish()
                    if stop := budget.spent(dataset.bytes):
                        break
                    sealed = False
                if isinstance(item, Plan):
                    batch.append(item)
                    if len(batch) == recipe.run.batch_size:
                        flush()
                elif isinstance(item, Border):
                    flush()
                    writer.submit([partial(dataset.seal, dataset.next_shard())])
                    sealed = True
                else:
                    for line in dataset.note(item):
                        self.progress.note(line)
            writer.finish()
            self.progress.scene(dataset.images, dataset.samples)
        except BaseException as error:
            writer.close()
            if not isinstance(error, OSError):  # a full disk, say: nothing more can be written
                dataset.seal_unfinished()
            raise
        finally:
            writer.close()
            ahead.close()
        return stop

    def _drawn(self, draw: Draw, batch: list[Plan], dataset: Dataset) -> list[Callable[[], Any]]:
        """Draw a batch; where that fails, one sample after the other, and what still fails is noted.

        Returns:
            What is left to do on the writing thread.
        """
        shard = dataset.shard
        try:
            finished = draw(batch)
        except Exception as error:
            if not is_the_samples(error):
                raise
            caught = error
        else:
            return [partial(dataset.write, *pair, shard) for pair in zip(batch, finished, strict=True)]
        if len(batch) > 1:
            return [task for single in batch for task in self._drawn(draw, [single], dataset)]
        self.progress.note(f"sample {batch[0].id} failed: {' '.join(str(caught).split())}")
        return [partial(dataset.fail, batch[0], caught, shard)]


class _Writer:
    """One thread that writes, in order, what it is handed; a batch at most waits."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: list[Future[Any]] = []

    def submit(self, tasks: list[Callable[[], Any]]) -> None:
        """Hand over tasks, once those before are done: that bounds memory, and their errors surface soon."""
        self.finish()
        self._pending = [self._pool.submit(task) for task in tasks]

    def finish(self) -> None:
        """Wait for all tasks; raises what went wrong."""
        for future in self._pending:
            future.result()
        self._pending = []

    def close(self) -> None:
        """End the thread once it is done."""
        self._pool.shutdown(wait=True)


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
