"""The loop of a run: batches of plans are drawn on the caller's thread and written on another, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from changen_cli.core.recipe import Recipe
from changen_cli.workflows.ahead import read_ahead
from changen_cli.workflows.making import Finish, ShardMaker, is_the_samples
from changen_cli.workflows.plans import Plan, Used, Work
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.shards import Border

Draw = Callable[[list[Plan]], list[Finish]]
"""Draws a batch of samples; called on the thread the loop was called on."""
Spent = Callable[[], str]
"""Says which budget is used up, at the end of a shard; empty while none is."""


def make_shards(
    work: Iterator[Work], draw: Draw, maker: ShardMaker, recipe: Recipe, progress: Progress, spent: Spent = lambda: ""
) -> str:
    """Take plans batch by batch, draw them, hand them to the writing thread; seal a shard at every border.

    Memory does not grow with the number of scenes: the queues between the threads are bounded.

    Args:
        work: What to make, read and simulated ahead on a thread of its own.
        draw: Draws a batch.
        maker: Writes and seals.
        recipe: How large a batch is.
        progress: Who wants to know how far it is.
        spent: Asked before another shard is begun.

    Returns:
        Why it stopped before everything was done; empty when it did not.

    Raises:
        Exception: Whatever stands in the way; what the writing thread was handed before is written.
    """
    ahead = read_ahead(work, recipe.run.batch_size + 1, holds_pixels)
    writer = _Writer()
    stop, sealed = "", False
    batch: list[Plan] = []

    def flush() -> None:
        if batch:
            writer.submit(_drawn(draw, batch, maker, progress))
            progress.scene(maker.images, maker.samples)
            progress.stage("reading")
            batch.clear()

    try:
        progress.stage("reading")
        for item in ahead:
            if sealed and not isinstance(item, Border):  # there is more to do
                if recipe.run.disk_budget:
                    writer.finish()
                if stop := spent():
                    break
                sealed = False
            if isinstance(item, Plan):
                batch.append(item)
                if len(batch) == recipe.run.batch_size:
                    flush()
            elif isinstance(item, Border):
                flush()
                writer.follow(partial(maker.seal, maker.next_shard()))
                sealed = True
            else:
                for line in maker.note(item):
                    progress.note(line)
        writer.finish()
        progress.scene(maker.images, maker.samples)
    finally:
        writer.close()
        ahead.close()
    return stop


def holds_pixels(item: Work) -> bool:
    """Whether so much memory hangs on an item that few of its kind may wait."""
    return isinstance(item, Plan) or (isinstance(item, Used) and item.alone)


def _drawn(draw: Draw, batch: list[Plan], maker: ShardMaker, progress: Progress) -> list[Callable[[], Any]]:
    """Draw a batch; where that fails, one sample after the other, and what still fails is noted.

    Returns:
        What is left to do on the writing thread.
    """
    shard = maker.shard
    try:
        finished = draw(batch)
    except Exception as error:
        if not is_the_samples(error):
            raise
        caught = error
    else:
        return [partial(maker.write, *pair, shard) for pair in zip(batch, finished, strict=True)]
    if len(batch) > 1:
        return [task for single in batch for task in _drawn(draw, [single], maker, progress)]
    progress.note(f"sample {batch[0].id} failed: {' '.join(str(caught).split())}")
    return [partial(maker.fail, batch[0], caught, shard)]


class _Writer:
    """One thread that writes, in order, what it is handed; a batch at most waits. After an error it writes nothing."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._pending: list[Future[Any]] = []
        self._broken = False

    def submit(self, tasks: list[Callable[[], Any]]) -> None:
        """Hand over tasks, once those before are done: that bounds memory, and their errors surface soon."""
        self.finish()
        for task in tasks:
            self.follow(task)

    def follow(self, task: Callable[[], Any]) -> None:
        """Hand over a task without waiting; it is done after those before."""
        self._pending.append(self._pool.submit(self._do, task))

    def _do(self, task: Callable[[], Any]) -> None:
        if self._broken:  # a shard without one of its samples must not be sealed
            return
        try:
            task()
        except BaseException:
            self._broken = True
            raise

    def finish(self) -> None:
        """Wait for all tasks; raises what went wrong."""
        for future in self._pending:
            future.result()
        self._pending = []

    def close(self) -> None:
        """End the thread once it is done."""
        self._pool.shutdown(wait=True)
