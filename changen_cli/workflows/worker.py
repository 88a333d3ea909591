"""A worker: a process, on any machine, that makes whole shards and knows nothing of the others."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.core.addresses import is_address
from changen_cli.core.errors import UsageError
from changen_cli.core.manifest import library_versions
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Exemplar, Texture
from changen_cli.workflows.drawing import Drawing, Facts, open_drawing
from changen_cli.workflows.loop import make_shards
from changen_cli.workflows.making import ShardMaker
from changen_cli.workflows.plans import open_labelled_source, plan_samples
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.shards import Task, task_items
from changen_cli.workflows.storage import Storage, into, storage_of

if TYPE_CHECKING:
    from changen_cli.sources.masks import Meaning


@dataclass(frozen=True)
class Kit:
    """What all shards of a run share; sent to every worker once.

    Attributes:
        library: Exemplars to create objects from.
        textures: Pieces of every class.
        meaning_of_255: As of :class:`~changen_cli.sources.folder.Source`.
        facts: How the others draw.
    """

    library: list[Exemplar]
    textures: list[Texture]
    meaning_of_255: Meaning | None
    facts: Facts


@dataclass(frozen=True)
class Made:
    """What a shard gave.

    Attributes:
        images: Source images gone through.
        samples: Samples made.
        bytes: Size of their files.
        notes: Lines for people.
    """

    images: int
    samples: int
    bytes: int
    notes: tuple[str, ...]


class Worker:
    """Makes shards, one after the other, with one model.

    Args:
        recipe: What to make; paths are absolute.
        images: Whether images are wanted, or masks only.
        versions: What the others run with.
    """

    def __init__(self, recipe: Recipe, images: bool, versions: dict[str, str]) -> None:
        # What can go wrong goes wrong in the calls: an error in here would reach nobody as what it is.
        self._recipe, self._images, self._versions = recipe, images, versions
        self._drawing: Drawing | None = None

    def facts(self) -> Facts:
        """How it draws; loads what that takes.

        Raises:
            UsageError: Other versions are installed here, which would give other bytes; or there is no such device.
            ModelError: The model cannot be loaded.
        """
        if self._drawing is None:
            for name, version in library_versions().items():
                if self._versions.get(name) != version:
                    raise UsageError(
                        f"worker on {socket.gethostname()} has {name} {version}, the run was started with "
                        f"{self._versions.get(name)}",
                        "Install the same versions everywhere",
                    )
            self._drawing = open_drawing(self._recipe, images=self._images)
        return self._drawing.facts

    def prepare(self, kit: Kit) -> None:
        """Open the source and take what all shards share.

        Raises:
            UsageError: The input is not there, or this machine would draw other bytes than the others.
        """
        own = self.facts()
        if (own.model, own.label_safe, kind(own)) != (kit.facts.model, kit.facts.label_safe, kind(kit.facts)):
            raise UsageError(
                f"worker on {socket.gethostname()} draws with {describe(own)}, the others with {describe(kit.facts)}",
                "Put the same model everywhere, and name the --device and --dtype",
            )
        assert self._drawing is not None
        self._kit = kit
        self._source = open_labelled_source(self._recipe)
        self._source.meaning_of_255 = kit.meaning_of_255
        self._draw = self._drawing.fit(self._source.schema, kit.library, kit.textures, Silent())

    def make(self, task: Task, number: int) -> Made:
        """Make a shard and record it under a number nobody else uses."""
        recipe = self._recipe
        # An own folder, not that of the run: both may be on one machine, and one of them may be killed.
        storage = storage_of(recipe, f"{number:05d}-{os.getpid()}")
        with storage.folder_of_its_own() if storage else nullcontext():
            return self._make(task, number, into(recipe, storage), storage)

    def _make(self, task: Task, number: int, recipe: Recipe, storage: Storage | None) -> Made:
        kit = self._kit
        maker = ShardMaker(recipe, self._source.schema, iter([number]), part=f"{number:05d}", storage=storage)
        told = _Told()
        items = task_items(task, self._source)
        work = plan_samples(items, self._source, recipe, kit.library, kit.textures, kit.facts.label_safe, task.made)
        try:
            make_shards(work, self._draw, maker, recipe, told)
        except BaseException:
            maker.drop()
            raise
        return Made(maker.images, maker.samples, maker.bytes, tuple(told.notes))


class _Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def kind(facts: Facts) -> tuple[str, str]:
    """Type of device and precision: what decides how numbers are rounded."""
    compute = facts.compute
    return (compute.device.partition(":")[0], compute.dtype) if compute else ("", "")


def describe(facts: Facts) -> str:
    """Model, device and precision in words."""
    model = f"{facts.model.id} ({facts.model.sha256[:12]})" if facts.model else "no model"
    return " ".join([model, *kind(facts)]).rstrip()


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe as it can be carried out in any folder."""

    def absolute(text: str | None) -> str | None:
        return str(Path(text).resolve()) if text and Path(text).exists() else text

    path = recipe.output.path
    output = path if is_address(path) else str(recipe.output_path.resolve())
    source = {name: absolute(getattr(recipe.source, name)) for name in ("input", "sam_model")}
    synthesis = {name: absolute(getattr(recipe.synthesis, name)) for name in ("model", "vae")}
    return recipe.model_copy(
        update={
            "source": recipe.source.model_copy(update=source),
            "synthesis": recipe.synthesis.model_copy(update=synthesis),
            "output": recipe.output.model_copy(update={"path": output}),
        }
    )
