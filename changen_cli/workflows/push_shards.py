"""Building and sending the shards of one push: as many at a time as there are workers, on disk and on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from changen_cli.exports.master import Master
from changen_cli.workflows.push_plan import Plan, Shard, build
from changen_cli.workflows.push_record import PushRecord
from changen_cli.workflows.push_target import Sized, UploadProgress
from changen_cli.writers.hub import Repository
from changen_cli.writers.hub_files import Addition, Stored

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

    def compare(self, *, ask: bool) -> tuple[list[Sized], list[Sized]]:
        """Build what was never built, to learn its hash, and send nothing.

        Args:
            ask: Whether to ask the Hub what it holds.

        Returns:
            Shards the Hub holds, and the rest.
        """
        unknown = [shard for shard in self.plan.shards if self.record.get(shard.key) is None]
        fresh = {}
        with self.record.workplace() as workplace:
            for shard, path, stored in self._built(unknown, workplace, lambda: None):
                fresh[shard] = stored
                _drop(shard, path)
        known = {shard: fresh.get(shard) or self.record.get(shard.key) for shard in self.plan.shards}
        files = {shard: item for shard, item in known.items() if item}
        held = self.repo.held(files.values()) if ask else set()
        rows = [(shard.path, item.size, item in held) for shard, item in files.items()]
        return [row[:2] for row in rows if row[2]], [row[:2] for row in rows if not row[2]]

    def send(self) -> tuple[list[Addition], list[Sized], list[Sized]]:
        """Send what the Hub does not hold.

        Returns:
            What to commit, shards the Hub held already, and shards sent.
        """
        known = {shard: stored for shard in self.plan.shards if (stored := self.record.get(shard.key))}
        there = self.repo.held(known.values())
        additions = {shard: self.repo.addition(shard.path, s) for shard, s in known.items() if s in there}
        todo = [shard for shard in self.plan.shards if shard not in additions]
        held = [(shard.path, known[shard].size) for shard in additions]
        if held:
            self.progress.note(f"{len(held)} of {len(self.plan.shards)} shards are on the Hub already.")
        self._sizes = {shard.path: shard.size for shard in todo}
        self._tell()
        additions |= self._send(todo)
        sent = [(shard.path, self._sizes[shard.path]) for shard in todo]
        return [additions[shard] for shard in self.plan.shards], held, sent

    def _send(self, todo: list[Shard]) -> dict[Shard, Addition]:
        slots = threading.Semaphore(self.workers)
        futures: dict[Shard, Future[Addition]] = {}

        def turn() -> None:
            # No shard is built before there is room for it, nor after one has failed.
            slots.acquire()
            for future in futures.values():
                if future.done():
                    future.result()

        def send(shard: Shard, path: Path, stored: Stored) -> Addition:
            try:
                return self.repo.send(shard.path, path, stored, lambda position: self._at(shard, position))
            finally:
                _drop(shard, path)
                slots.release()

        with self.record.workplace() as workplace, ThreadPoolExecutor(self.workers) as pool:
            try:
                for shard, path, stored in self._built(todo, workplace, turn):
                    self._sizes[shard.path] = stored.size
                    futures[shard] = pool.submit(send, shard, path, stored)
                return {shard: future.result() for shard, future in futures.items()}
            except KeyboardInterrupt:
                self.repo.stop.set()
                raise
            finally:
                for future in futures.values():
                    future.cancel()

    def _built(
        self, todo: Sequence[Shard], workplace: Path, turn: Callable[[], None]
    ) -> Iterator[tuple[Shard, Path, Stored]]:
        """Yield shards with their files, each made after ``turn`` returned, and write down their hashes."""
        for shard, path, stored in self._made(todo, workplace, turn):
            self.record.put(shard.key, stored)
            yield shard, path, stored

    def _made(
        self, todo: Sequence[Shard], workplace: Path, turn: Callable[[], None]
    ) -> Iterator[tuple[Shard, Path, Stored]]:
        for shard in todo:
            if shard.source:
                turn()
                yield shard, shard.source, Stored.of(shard.source)

        def target(shard: Shard) -> Path:
            turn()
            return workplace / Path(shard.path).name

        for shard, sha256 in build(self.master, self.plan, [s for s in todo if not s.source], target):
            path = workplace / Path(shard.path).name
            yield shard, path, Stored(sha256, path.stat().st_size)

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
