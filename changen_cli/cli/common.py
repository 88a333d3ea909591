"""What all commands share: printing to the right stream, progress, and small parsers."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def say(text: str) -> None:
    """Print a line for people: to stderr, so that stdout holds results only."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def result(text: str) -> None:
    """Print a result to stdout."""
    print(text, flush=True)  # noqa: T201


def result_json(value: dict[str, Any]) -> None:
    """Print a result to stdout as one JSON object."""
    result(json.dumps(value, ensure_ascii=False, default=str))


def split_list(text: str | None) -> tuple[str, ...] | None:
    """``"a, b"`` to ``("a", "b")``."""
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def duration(seconds: float) -> str:
    """Seconds as people write them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class PlainProgress:
    """Progress as lines, for logs: one per note and one every few seconds.

    Args:
        every_s: Seconds between two lines.
        items: What is gone through.
        made: What comes of it.
    """

    def __init__(self, every_s: float = 10.0, items: str = "images", made: str = "samples") -> None:
        self._every, self._last = every_s, time.monotonic()
        self._items, self._made = items, made
        self._started, self._images, self._stage = time.monotonic(), 0, ""
        self._done = self._samples = 0

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to tear down."""

    def note(self, text: str) -> None:
        """Print the note."""
        say(text)

    def stage(self, name: str) -> None:
        """Remember the stage for the next line."""
        self._stage = name

    def total(self, images: int) -> None:
        """Remember how much there is."""
        self._images = images

    def scene(self, images_done: int, samples_done: int) -> None:
        """Print how far the run is, now and then."""
        self._done, self._samples = images_done, samples_done
        self._tick("")

    def windows(self, done: int, total: int) -> None:
        """Print how far the current date is, now and then."""
        self._tick(f", window {done}/{total}")

    def _tick(self, detail: str) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = self._samples / (now - self._started)
        done, made = f"{self._done}/{self._images} {self._items}", f"{self._samples} {self._made} ({rate:.2f}/s)"
        say(f"{done}, {made}, {self._stage}{detail}")


class LiveBar:
    """What all live bars share: they show themselves while in use, and print notes above."""

    _bar: Bar

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print the note above the bar."""
        from rich.markup import escape

        self._bar.console.print(escape(text), highlight=False)


class RichProgress(LiveBar):
    """Progress as a live bar: scenes, samples/s, ETA and the current stage.

    Args:
        items: What is gone through.
        made: What comes of it.
    """

    def __init__(self, items: str = "images", made: str = "samples") -> None:
        self._made = made
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Eta

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(f"{items}  {{task.fields[rate]}}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            Eta(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("starting", total=None, rate="")
        self._started = time.monotonic()

    def stage(self, name: str) -> None:
        """Show the stage."""
        self._bar.update(self._task, description=name)

    def total(self, images: int) -> None:
        """Set the bar's length."""
        self._bar.update(self._task, total=images)
        self._started = time.monotonic()

    def scene(self, images_done: int, samples_done: int) -> None:
        """Advance the bar."""
        rate = samples_done / max(1e-6, time.monotonic() - self._started)
        self._bar.update(self._task, completed=images_done, rate=f"{samples_done} {self._made}, {rate:.2f}/s")

    def windows(self, done: int, total: int) -> None:
        """Show how far the current date is."""
        stage = str(self._bar.tasks[0].description).split(",")[0]
        self._bar.update(self._task, description=f"{stage}, window {done}/{total}")


class QuietProgress(PlainProgress):
    """No progress at all."""

    def note(self, text: str) -> None:
        """Ignore."""

    def _tick(self, detail: str) -> None:
        """Ignore."""


def make_progress(*, quiet: bool, items: str = "images", made: str = "samples") -> PlainProgress | RichProgress:
    """A bar on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        return QuietProgress()
    return RichProgress(items, made) if sys.stderr.isatty() else PlainProgress(items=items, made=made)
