"""How far a dataset is: what its records say is there, and what its log says about speed and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from changen_cli.core.lock import Holder, read_holder
from changen_cli.core.manifest import read_manifest
from changen_cli.core.shards import SkipRecord, record_path, shard_numbers
from changen_cli.workflows.runlog import Line, read_log

State = Literal["running", "complete", "interrupted", "failed", "killed"]
_RECENT_SHARDS = 20
_FIGURES = ("seconds", "samples", "images")


@dataclass(frozen=True)
class DatasetStatus:
    """How far a dataset is.

    Attributes:
        output: The dataset folder.
        state: ``running`` where a process holds the lock; ``killed`` where the last run ended without a word.
        holder: Who holds the lock.
        shards: Shards that are done.
        images: Source images with which nothing is left to do.
        images_total: Source images there are, as the last run counted them, or the limit; None where no log says so.
        samples: Samples made.
        failed_samples: Samples that could not be made; the next run tries them again.
        skipped: Images and tiles that were not used.
        failed_images: Images that are broken.
        samples_per_minute: Over the last 20 shards of one run; None before the first.
        seconds_left: Of work at that rate; None where that cannot be said.
        bytes: Size of the samples' files.
        last_error: What went wrong last, be it one image; empty where nothing did.
        last_error_time: When, by the clock of the machine it happened on.
        last_end: How the last run ended, as far as it could say so.
    """

    output: Path
    state: State
    holder: Holder | None
    shards: int
    images: int
    images_total: int | None
    samples: int
    failed_samples: int
    skipped: int
    failed_images: int
    samples_per_minute: float | None
    seconds_left: float | None
    bytes: int
    last_error: str
    last_error_time: str
    last_end: str


def dataset_status(out: Path) -> DatasetStatus:
    """Look at a dataset, whether a run is writing it or not; takes no lock and changes nothing.

    Raises:
        OutputError: The folder holds no dataset.
    """
    # First: a run that ends meanwhile is then told as one that runs, not as one that was killed.
    holder = read_holder(out)
    manifest = read_manifest(out)
    variants = int(manifest.recipe.get("variants", 1))
    counts = _Counts(out, variants)
    if not counts.shards:  # of a version that kept no records
        counts.samples = manifest.counts.get("samples", 0)
        counts.skipped, counts.failed_images = manifest.counts.get("skipped", 0), manifest.counts.get("failed", 0)
    lines = list(read_log(out))
    total = next((line["total"] for line in reversed(lines) if isinstance(line.get("total"), int)), None)
    samples_per_s, images_per_s = _rates(lines)
    left = [max(0, total - counts.images) / images_per_s] if total is not None and images_per_s else []
    if (limit := manifest.recipe.get("limit")) and samples_per_s:
        left.append(max(0, limit * variants - counts.samples) / samples_per_s)
    if manifest.status == "complete" and holder is None:
        # An image that gives more tiles than wanted is never gone through to its end.
        left, counts.images, total = [0.0], counts.opened, counts.opened
    error = next((line for line in reversed(lines) if "error" in line), {})
    return DatasetStatus(
        output=out,
        state="running" if holder else "killed" if manifest.status == "running" else manifest.status,
        holder=holder,
        shards=counts.shards,
        images=counts.images,
        images_total=total,
        samples=counts.samples,
        failed_samples=counts.failed_samples,
        skipped=counts.skipped,
        failed_images=counts.failed_images,
        samples_per_minute=None if samples_per_s is None else round(60 * samples_per_s, 3),
        seconds_left=round(min(left), 1) if left else None,
        bytes=counts.bytes,
        last_error=str(error.get("error", "")),
        last_error_time=str(error.get("time", "")),
        last_end=_last_end(lines),
    )


def _rates(lines: list[Line]) -> tuple[float | None, float | None]:
    """Samples and images a second, by the last shards of the last run that made one; None where none did."""
    runs: list[list[Line]] = [[]]
    for line in lines:
        if line["event"] == "start":
            runs.append([])
        elif line["event"] == "shard" and all(isinstance(line.get(key), int | float) for key in _FIGURES):
            runs[-1].append(line)
    recent = next((run for run in reversed(runs) if run), [])[-_RECENT_SHARDS:]
    seconds = sum(line["seconds"] for line in recent)
    if not seconds:
        return None, None
    return sum(line["samples"] for line in recent) / seconds, sum(line["images"] for line in recent) / seconds


def _last_end(lines: list[Line]) -> str:
    last = next((line for line in reversed(lines) if line["event"] in ("start", "end")), None)
    if last is None or last["event"] == "start":
        return ""
    reason = last.get("reason", last.get("error", ""))
    return f"{last.get('status')}: {reason}" if reason else str(last.get("status"))


@dataclass(slots=True)
class _Image:
    complete: bool
    skipped: list[SkipRecord]


@dataclass(slots=True)
class _Record:
    """Of a record what is counted: reading that takes a tenth of the time."""

    number: int
    variants: int
    images: dict[str, _Image]
    samples: list[str]
    failed: dict[str, str]
    bytes: int


class _Counts:
    """What the records of a dataset add up to; of what several say about one image or sample, the last counts."""

    def __init__(self, out: Path, variants: int) -> None:
        made: set[str] = set()
        failed: set[str] = set()
        images: dict[str, tuple[bool, int, bool]] = {}
        self.shards = self.bytes = 0
        for record in _records(out):
            self.shards += 1
            self.bytes += record.bytes
            made.update(record.samples)
            failed.update(record.failed)
            for path, image in record.images.items():
                broken = any(skip.failed for skip in image.skipped)
                images[path] = (image.complete and record.variants >= variants, len(image.skipped), broken)
        self.samples, self.failed_samples = len(made), len(failed - made)
        self.opened = len(images)
        self.images = sum(complete for complete, _, _ in images.values())
        self.skipped = sum(skips for _, skips, _ in images.values())
        self.failed_images = sum(broken for _, _, broken in images.values())


def _records(out: Path) -> Iterator[_Record]:
    reader = TypeAdapter(_Record)
    for number in shard_numbers(out):
        try:
            record = reader.validate_json(record_path(out, number).read_bytes())
        except (ValidationError, OSError):
            continue
        if record.number == number:
            yield record
