"""How far a dataset is: what its records say is there, and what its log says about speed and errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from changen_cli.core.lock import FILE_NAME as LOCK
from changen_cli.core.lock import Holder, read_holder
from changen_cli.core.manifest import Status, read_manifest
from changen_cli.core.shards import SkipRecord, record_path, shard_numbers
from changen_cli.core.untrusted import read_text
from changen_cli.workflows.ledger import count_reasons
from changen_cli.workflows.runlog import Line, read_log

State = Literal["running", "complete", "interrupted", "failed", "killed"]
_RECENT_SHARDS = 20
_FIGURES = ("seconds", "samples", "images")


@dataclass(frozen=True)
class DatasetStatus:
    """How far a dataset is.

    Attributes:
        output: The dataset folder.
        state: ``running`` where a process writes it; ``killed`` where the last run ended without a word.
        holders: Who writes it: one process, or several ranks of a job array.
        shards: Shards that are done.
        images: Source images with which nothing is left to do.
        images_total: Source images there are, as the last run counted them, or the limit; None where no log says so.
        samples: Samples made.
        failed_samples: Samples that could not be made; the next run tries them again.
        rejected: Samples that the quality gate dropped, by reason; they are not tried again.
        skipped: Images and tiles that were not used.
        failed_images: Images that are broken.
        samples_per_minute: Over the last 20 shards of every process that writes it, or of the last one that did; None
            before the first.
        seconds_left: Of work at that rate; None where that cannot be said.
        bytes: Size of the samples' files.
        last_error: What went wrong last, be it one image; empty where nothing did.
        last_error_time: When, by the clock of the machine it happened on.
        last_end: How the last run ended, as far as it could say so.
    """

    output: Path
    state: State
    holders: tuple[Holder, ...]
    shards: int
    images: int
    images_total: int | None
    samples: int
    failed_samples: int
    rejected: dict[str, int]
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
    holders = tuple(holder for path in sorted(out.glob(f"{LOCK}*")) if (holder := read_holder(out, path.name)))
    manifest = read_manifest(out)
    variants = int(manifest.recipe.get("variants", 1))
    counts = _Counts(out, variants)
    if not counts.shards:  # of a version that kept no records
        counts.samples = manifest.counts.get("samples", 0)
        counts.skipped, counts.failed_images = manifest.counts.get("skipped", 0), manifest.counts.get("failed", 0)
    lines = list(read_log(out))
    total = next((line["total"] for line in reversed(lines) if isinstance(line.get("total"), int)), None)
    samples_per_s, images_per_s = _rates(lines, holders)
    left = [max(0, total - counts.images) / images_per_s] if total is not None and images_per_s else []
    if (limit := manifest.recipe.get("limit")) and samples_per_s:
        left.append(max(0, limit * variants - counts.samples) / samples_per_s)
    if manifest.status == "complete" and not holders:
        # An image that gives more tiles than wanted is never gone through to its end.
        left, counts.images, total = [0.0], counts.opened, counts.opened
    error = next((line for line in reversed(lines) if "error" in line), {})
    return DatasetStatus(
        output=out,
        state=_state(manifest.status, holders, lines),
        holders=holders,
        shards=counts.shards,
        images=counts.images,
        images_total=total,
        samples=counts.samples,
        failed_samples=counts.failed_samples,
        rejected=counts.rejected,
        skipped=counts.skipped,
        failed_images=counts.failed_images,
        samples_per_minute=None if samples_per_s is None else round(60 * samples_per_s, 3),
        seconds_left=round(min(left), 1) if left else None,
        bytes=counts.bytes,
        last_error=str(error.get("error", "")),
        last_error_time=str(error.get("time", "")),
        last_end=_last_end(lines),
    )


def _state(status: Status, holders: tuple[Holder, ...], lines: list[Line]) -> State:
    if holders or status != "running":
        return "running" if holders else status
    # A rank whose share is done leaves a dataset that is not complete, too.
    return "interrupted" if lines and lines[-1]["event"] == "end" else "killed"


def _rates(lines: list[Line], holders: tuple[Holder, ...]) -> tuple[float | None, float | None]:
    """Samples and images a second; None where no shard was made."""
    runs: dict[tuple[object, object], list[Line]] = {}
    last: list[Line] = []
    began: set[tuple[object, object]] = set()
    for line in lines:
        process = line.get("host"), line.get("pid")
        if line["event"] == "start":
            began.add(process)
        elif line["event"] == "shard" and all(isinstance(line.get(key), int | float) for key in _FIGURES):
            if process in began:  # in a container all processes may have one number
                began.remove(process)
                runs[process] = []
            last = runs.setdefault(process, [])
            last.append(line)
    now = [found for holder in holders if (found := runs.get((holder.host, holder.pid)))] or [last]
    rates = [_rate(found[-_RECENT_SHARDS:]) for found in now if found]
    return (sum(s for s, _ in rates), sum(i for _, i in rates)) if rates else (None, None)


def _rate(lines: list[Line]) -> tuple[float, float]:
    """Samples and images a second."""
    seconds = max(sum(line["seconds"] for line in lines), 1e-3)
    return sum(line["samples"] for line in lines) / seconds, sum(line["images"] for line in lines) / seconds


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
    rejected: dict[str, list[str]] = field(default_factory=dict)


class _Counts:
    """What the records of a dataset add up to; of what several say about one image or sample, the last counts."""

    def __init__(self, out: Path, variants: int) -> None:
        made: set[str] = set()
        failed: set[str] = set()
        rejected: dict[str, list[str]] = {}
        images: dict[str, tuple[bool, int, bool]] = {}
        self.shards = self.bytes = 0
        for record in _records(out):
            self.shards += 1
            self.bytes += record.bytes
            made.update(record.samples)
            failed.update(record.failed)
            rejected |= record.rejected
            for path, image in record.images.items():
                broken = any(skip.failed for skip in image.skipped)
                images[path] = (image.complete and record.variants >= variants, len(image.skipped), broken)
        self.samples, self.failed_samples = len(made), len(failed - made - rejected.keys())
        self.rejected = count_reasons(reasons for name, reasons in rejected.items() if name not in made)
        self.opened = len(images)
        self.images = sum(complete for complete, _, _ in images.values())
        self.skipped = sum(skips for _, skips, _ in images.values())
        self.failed_images = sum(broken for _, _, broken in images.values())


def _records(out: Path) -> Iterator[_Record]:
    reader = TypeAdapter(_Record)
    for number in shard_numbers(out):
        try:
            record = reader.validate_json(read_text(record_path(out, number)))
        except (ValueError, OSError):
            continue
        if record.number == number:
            yield record
