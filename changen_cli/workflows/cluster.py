"""Shards on a Ray cluster: where workers run, which nodes live and what waits for room is Ray's business.

A shard that loses its worker, with or without its node, is handed to another one. Nothing of it counts until its record
is there, and a shard whose record is there is not made again.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import ChangenError, UsageError
from changen_cli.core.manifest import library_versions
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import read_shard
from changen_cli.workflows.budget import Budget
from changen_cli.workflows.drawing import Facts
from changen_cli.workflows.shards import Task, plan_tasks
from changen_cli.workflows.worker import Kit, Made, Worker, with_absolute_paths

if TYPE_CHECKING:
    from changen_cli.workflows.executors import Job

_TRIES = 3
"""How often a shard is handed out: what takes three workers with it would take a fourth."""
_LOOK_S = 2.0
"""Seconds between looks at the cluster's head: once it is gone for a minute, Ray ends this process without a word."""
_MISSES = 3
"""Looks in a row that must fail."""
_ROOM_S = 60.0
"""After so long without a worker people are told what is waited for."""


class OnRay:
    """Makes shards on the workers of a Ray cluster.

    Args:
        recipe: What to make.
        images: Whether images are wanted, or masks only.

    Attributes:
        ray: The library.
        count: Workers wanted.
        workers: Those that were asked for and have no shard yet.

    Raises:
        UsageError: Ray is not installed, no cluster answers, or it has no room for a worker.
    """

    def __init__(self, recipe: Recipe, images: bool) -> None:
        self.ray = _import_ray()
        self._recipe, self._images = recipe, images
        section = recipe.run
        self._threads = section.threads or 1
        self._head = self._connect(section.ray_address)
        room = self.ray.cluster_resources()
        self._gpus = section.gpus_per_worker
        if self._gpus is None:
            self._gpus = float(images and section.device != "cpu" and room.get("GPU", 0) >= 1)
        fits = int(room.get("GPU", 0) / self._gpus if self._gpus else room.get("CPU", 0) / self._threads)
        if not fits:
            raise UsageError(
                f"the Ray cluster has no room for a worker of {self._threads} threads and {self._gpus:g} GPUs: it has "
                f"{room.get('CPU', 0):g} CPUs and {room.get('GPU', 0):g} GPUs",
                "Add nodes, or ask for less with --threads and --gpus-per-worker",
            )
        self.count = section.workers or fits
        self.workers = [self.hire() for _ in range(self.count)]
        self._misses, self._next_look = 0, 0.0

    def facts(self) -> Facts:
        """How the workers draw, as the first of them tells."""
        refs = [worker.facts.remote() for worker in self.workers]
        while refs:
            for ref in self.wait(refs):
                refs.remove(ref)
                with suppress(*self.lost):  # noticed again, and dealt with, when shards are made
                    facts: Facts = self.get(ref)
                    return facts
        raise ChangenError("all workers of the Ray cluster died at once", "Look at Ray's logs; is there memory enough?")

    def make(self, job: Job) -> str:
        """Hand out what is left to do, shard by shard."""
        note = job.progress.note
        note(f"Ray: {self.count} workers, each with {self._threads} CPU threads and {self._gpus:g} GPUs")
        job.progress.stage("making shards")
        return _Handing(self, job, self._recipe).run()

    def hire(self) -> Any:
        """Ask Ray for one more worker; it begins as soon as there is room for it."""
        recipe = with_absolute_paths(self._recipe)
        recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"threads": self._threads})})
        actor = self.ray.remote(Worker).options(num_cpus=self._threads, num_gpus=self._gpus, max_restarts=0)
        return actor.remote(recipe, self._images, library_versions())

    def wait(self, refs: list[Any]) -> list[Any]:
        """The first of some calls that is done; none when nothing happens for a while.

        Raises:
            ChangenError: The head of the cluster is gone.
        """
        done: list[Any] = self.ray.wait(refs, num_returns=1, timeout=_LOOK_S)[0]
        self._look_at_the_head()
        return done

    def get(self, ref: Any) -> Any:
        """The result of a call, or the error it raised, as it was raised there."""
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What a call ends with whose worker is gone."""
        known = self.ray.exceptions
        return known.RayActorError, known.WorkerCrashedError, known.NodeDiedError, known.ObjectLostError

    def close(self) -> None:
        """End the workers; a cluster that was there before stays."""
        with suppress(Exception):
            self.ray.shutdown()

    def _connect(self, address: str | None) -> tuple[str, int]:
        """Connect to a cluster, or begin one of this machine; returns where its head answers."""
        if address and ":" in address and "://" not in address:
            head = _host_and_port(address)
            try:  # Ray itself takes a minute to find out
                socket.create_connection(head, timeout=5).close()
            except OSError as error:
                raise UsageError(
                    f"no Ray cluster answers at {address}: {error.strerror or error}",
                    "Start one (ray start --head), or give its --ray-address",
                ) from None
        how: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        how |= {"address": address} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            with _own_signals():
                self.ray.init(**how)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"no Ray cluster can be reached at {address or 'this machine'}: {_short(error)}",
                "Start one (ray start --head), or give its --ray-address",
            ) from None
        return _host_and_port(str(self.ray.get_runtime_context().gcs_address))

    def _look_at_the_head(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_S
        try:
            socket.create_connection(self._head, timeout=_LOOK_S).close()
            self._misses = 0
        except OSError:
            self._misses += 1
            if self._misses >= _MISSES:
                raise ChangenError(
                    f"the head of the Ray cluster at {self._head[0]}:{self._head[1]} is gone; finished shards are kept",
                    "Start it again and run the same command, which goes on",
                ) from None


class _Handing:
    """Hands out the shards of one job."""

    def __init__(self, pool: OnRay, job: Job, recipe: Recipe) -> None:
        self._pool, self._job = pool, job
        self._tasks = plan_tasks(job.source, recipe, job.todo)
        self._upcoming = next(self._tasks, None)
        self._numbers = count(job.dataset.next_number)
        self._budget = Budget(recipe.run, job.started)
        self._tries: Counter[int] = Counter()
        self._again: deque[Task] = deque()
        self._left_out: list[Task] = []
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task | None, int]] = {}
        self._deaths = 0
        before = job.dataset.before
        self._images, self._samples, self._bytes = before.complete_images, before.samples, before.bytes
        self._stop = ""

    def run(self) -> str:
        """Hand out shards until none is left; returns why some are."""
        job = self._job
        kit = Kit(job.library, job.textures, job.source.meaning_of_255, job.facts)
        self._kit = self._pool.ray.put(kit)
        for worker in self._pool.workers:
            self._prepare(worker)
        told = time.monotonic()
        while self._left():
            for ref in self._pool.wait(list(self._busy)):
                told = time.monotonic()
                worker, task, number = self._busy.pop(ref)
                try:
                    made = self._pool.get(ref)
                except self._pool.lost as error:
                    self._bury(task, number, error)
                else:
                    if task is not None:
                        self._count(made, number)
                    self._idle.append(worker)
                while self._idle and (following := self._next()) is not None:
                    self._hand(self._idle.pop(), following)
            if time.monotonic() - told > _ROOM_S and not any(task for _, task, _ in self._busy.values()):
                told = time.monotonic()
                job.progress.note("no worker has a place yet: the cluster is full, or nodes are missing")
        if self._left_out and not self._stop:
            images = [image for image in self._left_out[0].images if hasattr(image, "relative")]
            self._stop = (
                f"{len(self._left_out)} shards took {_TRIES} workers each with them, the first from "
                f"{images[0].relative} to {images[-1].relative}"
            )
        if job.storage is not None:
            job.storage.pull()  # what the workers recorded
        return self._stop

    def _left(self) -> bool:
        waiting = self._again or (self._upcoming is not None and not self._stop)
        return bool(waiting) or any(task for _, task, _ in self._busy.values())

    def _next(self) -> Task | None:
        """The shard to be made next; None where none is left, or a budget is used up."""
        if self._again:
            return self._again.popleft()
        task = self._upcoming
        if task is None or self._stop:
            return None
        self._stop = self._budget.spent(self._bytes) if self._tries else ""
        if self._stop:
            return None
        self._upcoming = next(self._tasks, None)
        return task

    def _prepare(self, worker: Any) -> None:
        self._busy[worker.prepare.remote(self._kit)] = worker, None, -1

    def _hand(self, worker: Any, task: Task) -> None:
        # A number is used once, not once a shard: a worker thought lost may still be writing.
        number = next(self._numbers)
        self._tries[task.index] += 1
        self._busy[worker.make.remote(task, number)] = worker, task, number

    def _count(self, made: Made, number: int) -> None:
        self._deaths = 0
        if (record := read_shard(self._job.dataset.output, number)) is not None:
            self._job.log.sealed(record)
        self._images, self._samples = self._images + made.images, self._samples + made.samples
        self._bytes += made.bytes
        for line in made.notes:
            self._job.progress.note(line)
        self._job.progress.scene(self._images, self._samples)

    def _bury(self, task: Task | None, number: int, error: Exception) -> None:
        """Replace a worker that is gone, and see to its shard."""
        self._deaths += 1
        if self._deaths > _TRIES * (self._pool.count + 1):
            raise ChangenError(
                f"{self._deaths} workers in a row died: {_short(error)}",
                "Look at Ray's logs, give them more memory, or make --batch-size smaller",
            )
        self._prepare(self._pool.hire())
        if task is None:
            return
        note = self._job.progress.note
        if self._job.storage is not None:
            self._job.storage.pull()
        record = read_shard(self._job.dataset.output, number)
        if record is not None:  # it died after its work was done
            self._count(Made(len(record.images), len(record.samples), record.bytes, ()), number)
        elif self._tries[task.index] < _TRIES:
            note(f"shard {task.index} lost its worker and is made again ({_short(error)})")
            self._again.append(task)
        else:
            note(f"shard {task.index} is left out: it took {_TRIES} workers with it")
            self._left_out.append(task)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise UsageError(f"--ray-address {address} names no port", "Give host:port, e.g. 10.0.0.1:6379, or auto")
    return host, int(port)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our own reaction to SIGTERM: Ray sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _import_ray() -> Any:
    try:
        with _own_signals():
            import ray
    except ImportError:
        raise UsageError("--executor ray needs Ray", 'Install it: pip install "changen[ray]"') from None
    return ray


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}…"
