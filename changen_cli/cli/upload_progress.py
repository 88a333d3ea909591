"""Progress of a push: a bar with bytes and ETA on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from changen_cli.cli.common import LiveBar, duration, say


def size(count: int) -> str:
    """Bytes as people write them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


class UploadLines:
    """One line every few seconds, for logs. May be called from several threads.

    Args:
        every_s: Seconds between two lines.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self._every, self._last = every_s, time.monotonic()
        self._started = self._last
        self._lock = threading.Lock()

    def __enter__(self) -> UploadLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to tear down."""

    def note(self, text: str) -> None:
        """Print the note."""
        say(text)

    def sent(self, done: int, total: int) -> None:
        """Print how far the push is, now and then."""
        with self._lock:
            now = time.monotonic()
            if now - self._last < self._every or not done:
                return
            self._last = now
        rate = done / max(now - self._started, 1e-6)
        left = duration((total - done) / max(rate, 1.0))
        say(f"{size(done)} of {size(total)} sent, {size(int(rate))}/s, {left} left")


class QuietUpload(UploadLines):
    """No progress at all."""

    def note(self, text: str) -> None:
        """Ignore."""

    def sent(self, done: int, total: int) -> None:
        """Ignore."""


class UploadBar(LiveBar, UploadLines):
    """A live bar: bytes, bytes/s, ETA."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )
        from rich.progress import TimeRemainingColumn as Eta

        self._bar = Progress(
            TextColumn("[bold]sending"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(),
            TimeElapsedColumn(), TextColumn("ETA"), Eta(), console=Console(stderr=True),
        )  # fmt: skip
        self._task = self._bar.add_task("sending", total=None)

    def sent(self, done: int, total: int) -> None:
        """Advance the bar."""
        self._bar.update(self._task, completed=done, total=total)


def make_upload_progress(*, quiet: bool) -> UploadLines:
    """A bar on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return QuietUpload()
    return UploadBar() if sys.stderr.isatty() else UploadLines()
