"""Building and sending the shards of one push: as many at a time as there are workers, on disk and on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from changen_cli.core.files import sha256
from changen_cli.exports.master import Master
from changen_cli.workflows.push_plan import Plan, Shard, build
from changen_cli.workflows.push_record import Built, PushRecord
from changen_cli.workflows.push_target import Sized, UploadProgress
from changen_cli.writers.hub import Repository
from changen_cli.writers.hub_files import Addition

WORKERS = 4


class ShardPush:
    """The shards of one push.

    Args:
        master: The dataset.
        plan: What it becomes.
        repo: Where it goes.
        record: What earlier pushes remember.
        workers: Shards sent at a time.
        progress: Told what happens.
    """

    def __init__(
        self, master: Master, plan: Plan, repo: Repository, record: PushRecord, workers: int, progress: UploadProgress
    ) -> None:
        self.master, self.plan, self.repo, self.record = master, plan, repo, record
        self.workers, self.progress = workers, progress
        self._lock = threading.Lock()
        self._positions: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self.built: dict[str, Built] = {}
        """Path → what is known of the shard; complete after :meth:`compare` and :meth:`send`."""

    def compare(self, *, ask: bool) -> tuple[list[Sized], list[Sized]]:
        """Build what was never built, to learn its hash, and send nothing.

        Args:
            ask: Whether to ask the Hub what it holds.

        Returns:
            Shards the Hub holds, and the rest.
        """
        self._recall()
        with self.record.workplace() as workplace:
            unknown = [shard for shard in self.plan.shards if shard.path not in self.built]
            for shard, path in self._made(unknown, workplace, lambda: None):
                _drop(shard, path)
        stored = {shard.path: self.built[shard.path].stored for shard in self.plan.shards}
        held = self.repo.held(stored.values()) if ask else set()
        rows = [(path, item.size, item in held) for path, item in stored.items()]
        return [row[:2] for row in rows if row[2]], [row[:2] for row in rows if not row[2]]

    def send(self) -> tuple[list[Addition], list[Sized], list[Sized]]:
        """Send what the Hub does not hold.

        Returns:
            What to commit, shards the Hub held already, and shards sent.
        """
        self._recall()
        there = self.repo.held(item.stored for item in self.built.values())
        held = {path: item.stored for path, item in self.built.items() if item.stored in there}
        additions = {path: self.repo.addition(path, stored) for path, stored in held.items()}
        todo = [shard for shard in self.plan.shards if shard.path not in held]
        if held:
            self.progress.note(f"{len(held)} of {len(self.plan.shards)} shards are on the Hub already.")
        self._sizes = {shard.path: shard.size for shard in todo}
        self._tell()
        additions |= self._send(todo)
        return (
            [additions[shard.path] for shard in self.plan.shards],
            [(path, stored.size) for path, stored in held.items()],
            [(shard.path, self.built[shard.path].stored.size) for shard in todo],
        )

    def _recall(self) -> None:
        """Take over what earlier pushes of the same content wrote down."""
        known = ((shard.path, self.record.get(shard.key)) for shard in self.plan.shards)
        self.built = {path: built for path, built in known if built}

    def _send(self, todo: list[Shard]) -> dict[str, Addition]:
        slots = threading.Semaphore(self.workers)
        futures: dict[str, Future[Addition]] = {}

        def turn() -> None:
            # No shard is built before there is room for it, nor after one has failed.
            slots.acquire()
            for future in futures.values():
                if future.done():
                    future.result()

        def send(shard: Shard, path: Path) -> Addition:
            try:
                stored = self.built[shard.path].stored
                return self.repo.send(shard.path, path, stored, lambda position: self._at(shard, position))
            finally:
                _drop(shard, path)
                slots.release()

        with self.record.workplace() as workplace, ThreadPoolExecutor(self.workers) as pool:
            try:
                for shard, path in self._made(todo, workplace, turn):
                    self._sizes[shard.path] = self.built[shard.path].stored.size
                    futures[shard.path] = pool.submit(send, shard, path)
                return {path: future.result() for path, future in futures.items()}
            except KeyboardInterrupt:
                self.repo.stop.set()
                raise
            finally:
                for future in futures.values():
                    future.cancel()

    def _made(self, todo: Sequence[Shard], workplace: Path, turn: Callable[[], None]) -> Iterator[tuple[Shard, Path]]:
        """Yield shards with their files, each made after ``turn`` returned, and written down."""
        for shard in todo:
            if shard.source:
                turn()
                self._remember(shard, shard.source, sha256(shard.source))
                yield shard, shard.source

        def target(shard: Shard) -> Path:
            turn()
            return workplace / Path(shard.path).name

        for shard, digest in build(self.master, self.plan, [s for s in todo if not s.source], target):
            path = workplace / Path(shard.path).name
            self._remember(shard, path, digest)
            yield shard, path

    def _remember(self, shard: Shard, path: Path, digest: str) -> None:
        self.built[shard.path] = Built.of(path, digest)
        self.record.put(shard.key, self.built[shard.path])

    def _at(self, shard: Shard, position: int) -> None:
        with self._lock:
            self._positions[shard.path] = position
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            done, total = sum(self._positions.values()), sum(self._sizes.values())
        self.progress.sent(min(done, total), total)


def _drop(shard: Shard, path: Path) -> None:
    """Delete a shard that was built; those of the dataset stay."""
    if shard.source is None:
        path.unlink(missing_ok=True)
