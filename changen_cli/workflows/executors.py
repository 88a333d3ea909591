"""Where shards are made: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Exemplar, Texture
from changen_cli.workflows.budget import Budget
from changen_cli.workflows.dataset import Dataset
from changen_cli.workflows.drawing import Facts, open_drawing
from changen_cli.workflows.loop import make_shards
from changen_cli.workflows.making import ShardMaker
from changen_cli.workflows.plans import plan_samples
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.ranks import Share
from changen_cli.workflows.runlog import RunLog
from changen_cli.workflows.shards import Todo, plan_tasks, shard_items, task_items
from changen_cli.workflows.storage import Storage
from changen_cli.workflows.workers import plan_in_processes

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes:
        recipe: The recipe.
        source: The scenes.
        library: Exemplars to create objects from.
        textures: Pieces of every class.
        dataset: What it goes into.
        todo: What of it is left to do.
        facts: How samples are drawn.
        progress: Who wants to know how far it is.
        log: Is told of sealed shards.
        share: What of it is this process's.
        storage: Where the dataset lies, if not in its folder.
        started: When the run began, by :func:`time.perf_counter`.
    """

    recipe: Recipe
    source: Source
    library: list[Exemplar]
    textures: list[Texture]
    dataset: Dataset
    todo: Todo
    facts: Facts
    progress: Progress
    log: RunLog
    share: Share
    storage: Storage | None
    started: float


class Executor(Protocol):
    """Makes shards."""

    def facts(self) -> Facts:
        """How it draws."""
        ...

    def make(self, job: Job) -> str:
        """Make what is left to do.

        Returns:
            Why it stopped before everything was done; empty when it did not.
        """
        ...


def open_executor(recipe: Recipe, *, images: bool) -> AbstractContextManager[Executor]:
    """The executor a recipe names; within the block it holds what it draws with.

    Raises:
        UsageError: For a device torch does not have, or a cluster that does not answer.
        ModelError: When the model cannot be loaded.
    """
    return _on_ray(recipe, images) if recipe.run.executor == "ray" else nullcontext(Here(recipe, images))


@contextmanager
def _on_ray(recipe: Recipe, images: bool) -> Iterator[Executor]:
    from changen_cli.workflows.cluster import OnRay

    pool = OnRay(recipe, images)
    try:
        yield pool
    finally:
        pool.close()


class Here:
    """Makes one shard after the other in this process; reading, drawing and writing overlap."""

    def __init__(self, recipe: Recipe, images: bool) -> None:
        self._drawing = open_drawing(recipe, images=images)

    def facts(self) -> Facts:
        """How it draws."""
        return self._drawing.facts

    def make(self, job: Job) -> str:
        """Make what is left to do; what a shard has when that is cut off is kept."""
        recipe, source, dataset = job.recipe, job.source, job.dataset
        draw = self._drawing.fit(source.schema, job.library, job.textures, job.progress)
        share, storage = job.share, job.storage
        numbers = share.numbers(dataset.next_number)
        maker = ShardMaker(recipe, source.schema, numbers, dataset.title, share.name, storage)
        maker.sealed = job.log.sealed
        before = dataset.before
        maker.samples, maker.images, maker.bytes = before.samples, before.complete_images, before.bytes
        plan = plan_in_processes if (recipe.run.workers or 1) > 1 else plan_samples
        if share.is_whole:
            items = shard_items(source, recipe, job.todo)
        else:
            tasks = plan_tasks(source, recipe, job.todo, share.rank, share.world_size)
            items = (item for task in tasks for item in task_items(task, source))
        work = plan(items, source, recipe, job.library, job.textures, job.facts.label_safe, job.todo.made)
        budget = Budget(recipe.run, job.started)
        try:
            return make_shards(work, draw, maker, recipe, job.progress, lambda: budget.spent(maker.bytes))
        except OSError:  # a full disk, say: nothing more can be written
            raise
        except BaseException:
            maker.seal_unfinished()
            raise
