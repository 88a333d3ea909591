"""``OUT/run.log``: what runs on a dataset did, one JSON line per sealed shard, start, end and error.

A line is one write to a file opened for appending, so those of several processes never mix. Files change their names
when a run starts, and only then. Nothing is computed from times of day: a wrong clock makes wrong dates only.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from changen_cli import __version__
from changen_cli.core.errors import ChangenError, IncompleteError, one_line
from changen_cli.core.manifest import FILE_NAME, Manifest
from changen_cli.core.shards import ShardRecord
from changen_cli.core.signals import Terminated
from changen_cli.core.untrusted import open_regular
from changen_cli.workflows.ledger import count_reasons

LOGS = ("run.log", "run.log.1", "run.log.2", "run.log.3")
"""The file that is written, then those before it."""
MAX_BYTES = 5_000_000
_TAIL_BYTES = 1 << 18
# What lies there under the log's name may be a link out of a dataset of somebody else.
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)

Line = dict[str, Any]


class RunLog:
    """The log of one run, a context manager that writes the run's end; also of what it ran into before it began.

    A log that cannot be written stops nothing. Nothing is written to a folder without a manifest.

    Args:
        out: The dataset folder; None keeps no log, for there is nothing to append to in an object store.
    """

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._started = self._sealed = time.perf_counter()
        self._manifest: Manifest | None = None
        self._done = self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        if self._manifest is not None:
            status = self._manifest.status
            seconds = round(time.perf_counter() - self._started, 1)
            used_up = isinstance(error, IncompleteError) and status != "complete"
            key = "reason" if interrupted or used_up else "error"
            self._append("end", status=status, seconds=seconds, **({key: _words(error)} if error else {}))
        elif error is not None and not interrupted:
            self._append("error", error=_words(error))

    def begin(self, manifest: Manifest, done: int, total: int, rank: int = 0) -> None:
        """Write that the run starts; that of rank 0 begins a new file if the last one is long.

        Args:
            manifest: The promise; its status at the end of the run is told then.
            done: Images with which nothing is left to do.
            total: Images there are.
            rank: Whose share of them is made.
        """
        self._manifest, self._done, self._total = manifest, done, total
        if self._out is not None and rank == 0:
            _rotate(self._out)
        self._sealed = time.perf_counter()
        self._append("start", version=__version__, fingerprint=manifest.fingerprint, rank=rank, done=done, total=total)

    def sealed(self, record: ShardRecord) -> None:
        """Write that a shard is done, and how long the process that made it took."""
        now = time.perf_counter()
        seconds, self._sealed = round(now - self._sealed, 3), now
        images = sum(image.complete for image in record.images.values())
        self._done += images
        failures = [f"{name}: {reason}" for name, reason in record.failed.items()]
        failures += [
            f"{p}: {skip.reason}" for p, image in record.images.items() for skip in image.skipped if skip.failed
        ]
        reasons = {"reasons": count_reasons(record.rejected.values())} if record.rejected else {}
        self._append(
            "shard", shard=record.number, **record.counts, **reasons, images=images, done=self._done, total=self._total,
            seconds=seconds, bytes=record.bytes, **({"error": _clean(failures[-1])} if failures else {}),
        )  # fmt: skip

    def pushed(self, repo_id: str, commit: str, sent: int) -> None:
        """Write that the dataset is on the Hub."""
        self._append("pushed", repo_id=repo_id, commit=commit, files=sent)

    def _append(self, event: str, **facts: Any) -> None:
        if self._out is None or not (self._out / FILE_NAME).is_file():
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": now, "event": event, "pid": os.getpid(), "host": socket.gethostname(), **facts}
        try:
            file = os.open(self._out / LOGS[0], _APPEND, 0o666)
            try:
                os.write(file, json.dumps(line).encode() + b"\n")
            finally:
                os.close(file)
        except OSError:
            pass  # a full disk: that is told where data cannot be written


def read_log(out: Path) -> Iterator[Line]:
    """Yield the last thousand lines or so, oldest first; what is no line of ours is left out."""
    for name in reversed(LOGS[:2]):
        try:
            with open_regular(out / name) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read(_TAIL_BYTES).splitlines()
        except (OSError, ValueError):
            continue
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut off by a crash, or by where reading began
            if isinstance(line, dict) and isinstance(line.get("event"), str):
                yield line


def _rotate(out: Path) -> None:
    """Begin a new file where the current one is long, and a new line where it ends within one."""
    if (out / LOGS[0]).is_symlink():
        return
    try:
        if (out / LOGS[0]).stat().st_size > MAX_BYTES:
            for old, new in reversed([*pairwise(LOGS)]):
                if (out / old).is_file():
                    (out / old).replace(out / new)
            return
        with (out / LOGS[0]).open("rb+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
    except OSError:
        pass


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
    return _clean(str(error) if isinstance(error, ChangenError) else f"{type(error).__name__}: {error}")


def _clean(text: str) -> str:
    """A text on one line, as a terminal can take it, without tokens."""
    text = one_line(text)
    return text if len(text) <= 500 else f"{text[:499]}…"
