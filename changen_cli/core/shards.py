"""Records of shards: what is finished, and what it was made of. A shard is done when its record is there.

    OUT/shards/00012.jsonl   one line per sample: its row, the hashes of its files, figures for the statistics
    OUT/shards/00012.json    the record, written last and by rename

Numbers only tell records apart. What is left to do follows from the images and samples they name, so shards of any
size, made in any order, add up to the same dataset.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from changen_cli.core.files import flush_to_disk, write_text
from changen_cli.core.untrusted import read_bytes

FOLDER = "shards"


_EXACT = ConfigDict(extra="forbid")


@dataclass(slots=True)
class SkipRecord:
    """Why an image, or a tile of it, was not used."""

    reason: str
    failed: bool


@dataclass(slots=True)
class ImageRecord:
    """A source image as a shard used it. No pydantic model: there are very many of them.

    Attributes:
        size: Bytes of the image and its label.
        mtime_ns: When the later of the two was changed.
        sha256: Hash of both; empty where it was not opened.
        complete: Whether it was gone through to its end and none of its samples failed.
        scenes: What reading gave, as the manifest lists it.
        skipped: What of it was not used.
    """

    size: int = 0
    mtime_ns: int = 0
    sha256: str = ""
    complete: bool = False
    scenes: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[SkipRecord] = field(default_factory=list)


for _kind in (SkipRecord, ImageRecord):
    setattr(_kind, "__pydantic_config__", _EXACT)  # noqa: B010 no field of theirs


class ShardRecord(BaseModel):
    """What a shard gave.

    Attributes:
        number: Its number.
        counts: Samples, failed samples, and skips.
        variants: Samples asked for per scene.
        images: Images gone through, by path below the input folder.
        samples: Ids of the samples made.
        failed: Id → reason of the samples that could not be made.
        rejected: Id → why each attempt at it was rejected, of the samples that were dropped; they are not made again.
        bytes: Size of the samples' files.
        rows: SHA-256 of the lines beside the record.
    """

    model_config = _EXACT

    number: int
    counts: dict[str, int]
    variants: int
    images: dict[str, ImageRecord]
    samples: list[str]
    failed: dict[str, str] = Field(default_factory=dict)
    rejected: dict[str, list[str]] = Field(default_factory=dict)
    bytes: int = 0
    rows: str = ""

    def unlike(self, hashes: Mapping[str, str]) -> list[str]:
        """Images that were not those of the given hashes when they were opened."""
        return [
            path
            for path, image in self.images.items()
            if image.sha256 and hashes.get(path, image.sha256) != image.sha256
        ]

    def save(self, out: Path) -> None:
        """Write the record; from here on the shard is done."""
        path = record_path(out, self.number)
        write_text(path, self.model_dump_json() + "\n")
        flush_to_disk([path.parent])


@contextmanager
def keeping_all() -> Iterator[None]:
    """Make very many objects that stay: the search for garbage, which goes through all, is paused and skips them."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if paused:
            gc.enable()


def record_path(out: Path, number: int) -> Path:
    """Where the record of a shard lies."""
    return out / FOLDER / f"{number:05d}.json"


def rows_path(out: Path, number: int) -> Path:
    """Where the rows of a shard lie."""
    return out / FOLDER / f"{number:05d}.jsonl"


def read_shards(out: Path) -> Iterator[ShardRecord]:
    """Yield all records of a dataset by number; those that cannot be read, or lack their rows, are left out."""
    for number in _numbers(out, ".json"):
        record = read_shard(out, number)
        if record is not None:
            yield record


def read_shard(out: Path, number: int) -> ShardRecord | None:
    """The record of a shard; None where it is not there, cannot be read, or lacks its rows."""
    try:
        record = ShardRecord.model_validate_json(read_bytes(record_path(out, number)))
    except (ValueError, OSError):
        return None
    return record if record.number == number and rows_path(out, number).is_file() else None


def shard_numbers(out: Path) -> list[int]:
    """Numbers of the shards that are done, as far as names tell."""
    return sorted({*_numbers(out, ".json")} & {*_numbers(out, ".jsonl")})


def remove_others(out: Path, kept: set[int]) -> list[int]:
    """Remove the files of all shards but those kept; returns the numbers of records that were there."""
    records = [number for number in _numbers(out, ".json") if number not in kept]
    for number in {*records, *_numbers(out, ".jsonl")} - kept:
        record_path(out, number).unlink(missing_ok=True)
        rows_path(out, number).unlink(missing_ok=True)
    for partial in (out / FOLDER).glob(".partial-*"):
        partial.unlink()
    return records


def _numbers(out: Path, suffix: str) -> list[int]:
    folder = out / FOLDER
    if not folder.is_dir():
        return []
    names = (name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
    return sorted(int(name) for name in names if name.isdecimal())
