"""Simulation on several processes. Every draw is derived from names, so which process makes it changes no byte."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import ChangenError
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Exemplar, MaskSeries, Scene, Skip, Texture
from changen_cli.workflows.plans import Plan, Used, Work, known_objects, sample_id, simulate
from changen_cli.workflows.shards import Item

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

Series = tuple[MaskSeries, bool]
"""A series, and whether it is a negative."""

_given: tuple[Any, ...] = ()
"""What all samples share; sent to each process once."""


def plan_in_processes(
    items: Iterable[Item],
    source: Source,
    recipe: Recipe,
    library: list[Exemplar],
    textures: Sequence[Texture] = (),
    label_safe: bool = False,
    made: Collection[str] = (),
) -> Iterator[Work]:
    """Do what :func:`~changen_cli.workflows.plans.plan_samples` does, simulating on ``recipe.run.workers`` processes.

    Scenes are read here, and samples come in their order; two for each process are in the making.

    Raises:
        ChangenError: When a process died.
    """
    workers = recipe.run.workers or 1
    context = get_context("spawn")  # not forked: there are threads already
    leash, held = context.Pipe(duplex=False)
    given = leash, source.schema, recipe, library, textures, label_safe
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=given)

    def tasks() -> Iterator[tuple[Scene, int, Future[Series] | None] | Item]:
        for item in items:
            if not isinstance(item, Scene):
                yield item
                continue
            for variant in range(recipe.variants):
                there = sample_id(item, variant) in made
                yield item, variant, None if there else pool.submit(_simulate, item, variant)

    failed = used = ""
    try:
        for task in _ahead(tasks(), 2 * workers):
            if not isinstance(task, tuple):
                yield task
                continue
            scene, variant, future = task
            if scene.id == failed:
                continue
            try:
                series = None if future is None else future.result()
            except ChangenError as error:
                yield Skip(scene.source_path, str(error))
                failed = scene.id
                continue
            if scene.id != used:
                yield Used(scene, alone=series is None)
            used = scene.id
            if series is not None:
                yield Plan(scene, variant, *series)
    except BrokenProcessPool as error:
        # Those left may wait to hand over a result that nobody takes, and the pool for them.
        held.close()
        raise ChangenError(
            "a process that simulates died, for want of memory perhaps",
            "Run the same command again to go on, with fewer --workers",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        leash.close()


def _begin(leash: Connection, *given: Any) -> None:
    global _given
    _given = given
    # Both reach every process of a group; the first one ends the others, …
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # … and if it is killed, or lets go of the leash, they end by themselves.
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    os._exit(1)


def _simulate(scene: Scene, variant: int) -> Series:
    schema, recipe, library, textures, label_safe = _given
    known = known_objects(scene, schema, recipe, library)
    plan = simulate(scene, schema, recipe, variant, known, textures, label_safe)
    return plan.series, plan.negative


def _ahead(items: Iterable[Any], depth: int) -> Iterator[Any]:
    """The same items, each asked for ``depth`` items early."""
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting
