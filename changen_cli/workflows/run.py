"""One run over a folder, whatever it makes: read → simulate → draw → write, shard by shard.

Where shards are made is the business of :mod:`~changen_cli.workflows.executors`. At the end of every shard its record
is written; a run that is cut off goes on from there, see docs/resume.md.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from changen_cli.core.errors import OutputError, disk_errors
from changen_cli.core.manifest import FILE_NAME as MANIFEST
from changen_cli.core.manifest import Manifest, new_manifest
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import read_shards
from changen_cli.core.signals import terminable
from changen_cli.core.types import EventKind, Exemplar, Texture
from changen_cli.workflows.dataset import Dataset
from changen_cli.workflows.drawing import Facts
from changen_cli.workflows.executors import Job, open_executor
from changen_cli.workflows.gate import unknown_note
from changen_cli.workflows.ledger import Ledger, damage_facts, labels_note, proposals_record
from changen_cli.workflows.plans import (
    drawable_anywhere,
    event_kinds,
    gather,
    matrix,
    needs_exemplars,
    open_labelled_source,
)
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.publish import Publisher
from changen_cli.workflows.ranks import closing, locked, share_of
from changen_cli.workflows.results import RunResult, check_complete, result_before, result_of
from changen_cli.workflows.resume import find_past
from changen_cli.workflows.runlog import RunLog
from changen_cli.workflows.setup import check_output
from changen_cli.workflows.shards import Todo, unrecorded
from changen_cli.workflows.storage import into, storage_of

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source


class Run:
    """One run in the making: checked on creation, then :meth:`go`.

    A context manager: within it the output folder is locked, and SIGTERM is like Ctrl-C.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.
        images: Whether images are wanted, or masks only.

    Attributes:
        source: The scenes.
        asked: The recipe as given; ``recipe`` writes to a folder of this machine.
        share: What of the dataset is made here.
        storage: Where it lies, if not in a folder.
        done: What there is, where nothing is left to do; else None.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
    """

    def __init__(self, recipe: Recipe, progress: Progress, *, images: bool) -> None:
        self._started = time.perf_counter()
        self._images = images
        self.share = share_of(recipe)
        if self.share.device and recipe.run.device == "auto" and images and _has_cuda():
            recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"device": self.share.device})})
        self.storage = storage_of(recipe, self.share.name)
        self.asked, self.progress = recipe, progress
        self.recipe = recipe = into(recipe, self.storage)
        self.done: RunResult | None = None
        with ExitStack() as stack:
            stack.enter_context(terminable())
            stack.enter_context(disk_errors(recipe.output_path))
            if self.storage is not None:
                stack.enter_context(self.storage.folder_of_its_own())
                self.storage.pull()
            check_output(recipe)  # no lock is put into a stranger's folder
            stack.enter_context(locked(recipe.output_path, self.share, self.storage))
            if self.storage is not None:
                self.storage.pull()  # what came between
            self._past = find_past(recipe, alone=self.share.is_whole)
            self._log = stack.enter_context(RunLog(recipe.output_path if self.storage is None else None))
            self._publisher = Publisher(self.asked, progress, self._log)
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
        self._stock: dict[str, str] = {}
        past = self._past
        if past is not None:
            past.check_source(self.source)
            if past.nothing_left(recipe):
                self.done = self._placed(result_before(recipe, past))
                with self._publisher.publishing(self.done, ""):
                    check_complete(recipe, self.done, Ledger(past.records), "")
                return
            progress.note(f"taking up {recipe.output_path}: {past.account.samples} samples are there")
            self._stock = dict(past.manifest.stock)
        if not self.share.is_whole:
            progress.note(f"{self.share} (by {self.share.said_by}): only the shards of this rank are made here")
        self._publisher.check_token()
        progress.note(_roles(self.source, recipe, self.kinds))
        if self._images and (line := unknown_note(recipe, self.source.schema)):
            progress.note(line)

    def _collect(self) -> tuple[list[Exemplar], list[Texture]]:
        """Collect what new things are made from, out of the first scenes; a run taken up again, out of the same."""
        recipe, schema = self.recipe, self.source.schema
        self.progress.stage("collecting exemplars")
        library, textures = gather(recipe, self.source, self._stock)
        if needs_exemplars(recipe, schema):
            self.progress.note(f"exemplar library: {len(library)} {schema.building_name}s")
        for line in _transitions(self.source, recipe, textures):
            self.progress.note(line)
        return library, textures

    def go(self) -> RunResult:
        """Make the dataset, or what is left of it.

        Raises:
            ModelError: When the model cannot be loaded; nothing is written.
            OutputError: When the dataset's other images were drawn by another model.
            IncompleteError: When no sample could be made, and nothing is left behind; when more failed than allowed, or
                a budget was used up, and what was made is kept.
            KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
        """
        return self.done or self._make()

    def _make(self) -> RunResult:
        # Device and model before anything slow: a typo should not cost a minute of reading.
        with open_executor(self.asked, images=self._images) as executor:
            job, manifest = self._begin(executor.facts())
            try:
                stop = executor.make(job)
            except BaseException as error:
                if self.share.is_whole:
                    self._break_off(job.dataset, error)
                raise
        self.progress.stage("closing")
        if not self.share.is_whole:
            return self._end_share(job, manifest, stop)
        manifest.changed |= job.todo.changed
        return self._end(job, stop)

    def _begin(self, facts: Facts) -> tuple[Job, Manifest]:
        """Promise the dataset, or find it promised."""
        recipe, past, share = self.recipe, self._past, self.share
        if past is not None:
            past.check_model(facts.model)
        library, textures = self._collect()
        manifest = self._promise(facts)
        self._publisher.check(manifest)
        if past is None and not share.is_whole and not self._claim(manifest):
            past = find_past(recipe, alone=False)  # another rank was first
        if past is not None:
            past.check_model(facts.model)
            past.carry_over(manifest)
            for line in past.notes:
                self.progress.note(line)
        dataset = Dataset(recipe, self.source.schema, manifest, past, alone=share.is_whole, storage=self.storage)
        todo = Todo(past.records if past else (), recipe.variants)
        storage, started = self.storage, self._started
        made_of = self.source, library, textures
        job = Job(recipe, *made_of, dataset, todo, facts, self.progress, self._log, share, storage, started)
        total = min(self.source.count_images(), recipe.limit or 2**62)
        self.progress.total(total)
        self._log.begin(manifest, todo.done, total, rank=share.rank)
        return job, manifest

    def _claim(self, manifest: Manifest) -> bool:
        """Promise the dataset unless another rank has."""
        if not manifest.claim(self.recipe.output_path):
            return False
        if self.storage is None or self.storage.claim():
            return True
        (self.recipe.output_path / MANIFEST).unlink()
        self.storage.pull()
        return False

    def _break_off(self, dataset: Dataset, error: BaseException) -> None:
        """Close a dataset whose run cannot go on."""
        self.progress.stage("closing")
        if isinstance(error, (OSError, OutputError)):  # a full disk, say: nothing more can be written
            with suppress(OSError, OutputError):
                dataset.give_up()
            return
        told = isinstance(error, KeyboardInterrupt)
        dataset.close("interrupted" if told else "failed", tables=not told)

    def _end_share(self, job: Job, manifest: Manifest, stop: str) -> RunResult:
        """Complete the dataset if the other ranks have made their shares."""
        recipe, share = self.recipe, self.share
        if self.storage is not None:
            self.storage.pull()  # what the others recorded
        if not stop and not unrecorded(self.source, recipe, read_shards(recipe.output_path)):
            with closing(recipe.output_path, share, self.storage) as mine:
                past = find_past(recipe, alone=False)
                if mine and past is not None and past.manifest.status != "complete":
                    past.carry_over(manifest)
                    return self._end(job, stop)
        result = result_of(recipe, Ledger(read_shards(recipe.output_path)))
        self._placed(result).seconds = time.perf_counter() - self._started
        if stop:
            check_complete(recipe, result, Ledger([]), stop)
        result.share = str(share)
        return result

    def _end(self, job: Job, stop: str) -> RunResult:
        ledger, preview = job.dataset.close("interrupted" if stop else "complete")
        job.todo.changed |= job.dataset.changed
        for line in job.todo.told():
            self.progress.note(line)
        result = result_of(self.recipe, ledger)
        result.preview, result.seconds = preview, time.perf_counter() - self._started
        self._placed(result)
        with self._publisher.publishing(result, stop):
            check_complete(self.recipe, result, ledger, stop)
        return result

    def _placed(self, result: RunResult) -> RunResult:
        """Say where a dataset in a store lies: the folder it is made in is gone when people read that."""
        if self.storage is not None:
            result.output, result.preview = self.storage.address, None
        return result

    def _promise(self, facts: Facts) -> Manifest:
        recipe, schema = self.recipe, self.source.schema
        proposer = proposals_record(self.source)
        damage = damage_facts(recipe, not facts.label_safe)
        if damage:
            self.progress.note(f"damage: {damage['note']}")
        return new_manifest(
            self.asked,
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
            images=self._images,
            model=facts.model,
            unchanged_pixels=facts.unchanged,
            stock=self._stock,
            **(asdict(facts.compute) if facts.compute else {}),
        )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


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
