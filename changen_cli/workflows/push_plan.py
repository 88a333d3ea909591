"""Which shards a dataset becomes on the Hub, and building them one at a time.

The plan is made from file sizes, before anything is built: it gives every shard its final name, and a key that changes
when its content would. From the same plan the same bytes are built, whenever and wherever.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.files import atomic_path
from changen_cli.core.manifest import library_versions
from changen_cli.exports.master import Master, Sample, Stored
from changen_cli.exports.splits import assign_splits, hub_name
from changen_cli.writers.base import Row
from changen_cli.writers.images import encode_plain
from changen_cli.writers.parquet import MAX_SHARD_BYTES, Encoded, fill_row, image_pieces, shard_features, write_shard

_PNG_OVER_TIFF = 1.25
"""A GeoTIFF's pixels as PNG take at most this many times its bytes; both are deflated row by row."""
_SHARD_NAME = re.compile(r"(?P<split>[^/]+)-\d{5}-of-(?P<count>\d{5})\.parquet")


@dataclass(frozen=True)
class Shard:
    """One Parquet file of the pushed dataset.

    Attributes:
        path: In the repository.
        split: Its split.
        rows: Samples in it.
        key: Changes when the content would.
        size: Bytes, estimated.
        source: The file, where it lies in the dataset as it is to be pushed.
    """

    path: str
    split: str
    rows: int
    key: str
    size: int
    source: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What a dataset becomes.

    Attributes:
        shards: All files, by split and number.
        places: Split of every place; empty where samples keep theirs.
    """

    shards: tuple[Shard, ...]
    places: dict[str, str] = field(repr=False)

    @property
    def splits(self) -> dict[str, int]:
        """Split → samples."""
        found: dict[str, int] = {}
        for shard in self.shards:
            found[shard.split] = found.get(shard.split, 0) + shard.rows
        return found

    def split_of(self, row: Row) -> str:
        """The split a sample goes to."""
        return self.places[str(row["group"])] if self.places else hub_name(str(row["split"]))


def make_plan(
    master: Master, *, shares: Sequence[float] = (), shard_bytes: int | None = None, folder: str = ""
) -> Plan:
    """Decide which samples go into which shard.

    Args:
        master: The dataset.
        shares: Shares of train, validation and test, by place; empty leaves every sample in its split.
        shard_bytes: Size a shard does not exceed; None: 500 MB, and shards the dataset has already stay as they are.
        folder: Folder of the repository, ending in ``/``, or empty.

    Raises:
        UsageError: There are fewer places than splits, or no samples.
        OutputError: A file of the dataset is missing.
    """
    places: dict[str, str] = {}
    if shares:
        assigned = assign_splits({str(row["group"]) for row in master.rows()}, shares)
        places = {group: hub_name(split) for group, split in assigned.items()}
    if master.layout == "parquet" and not places and shard_bytes is None:
        plan = Plan(tuple(_as_they_are(master.tables, folder)), places)
    else:
        plan = Plan((), places)
        plan = Plan(tuple(_cut(master, plan, shard_bytes or MAX_SHARD_BYTES, folder)), places)
    if not plan.shards:
        raise UsageError(f"{master.root} holds no sample", "There is nothing to push")
    return plan


def build(
    master: Master, plan: Plan, wanted: Iterable[Shard], target: Callable[[Shard], Path]
) -> Iterator[tuple[Shard, str]]:
    """Write shards, in the order of the plan, each when it is asked for; one row group is in memory at a time.

    Args:
        master: The dataset the plan is of.
        plan: All shards.
        wanted: Those to build.
        target: Says where a shard is to be written; called when its turn has come.

    Yields:
        Every shard that is complete under the path ``target`` gave, and its SHA-256.
    """
    left = set(wanted)
    features: Any = None
    for split in plan.splits:
        shards = [shard for shard in plan.shards if shard.split == split]
        if not left.intersection(shards):
            continue
        features = features or features_of(master)
        samples = (sample for sample in master.samples() if plan.split_of(sample.row) == split)
        for shard in shards:
            part = islice(samples, shard.rows)
            if shard in left:
                with atomic_path(target(shard)) as partial:
                    sha256 = write_shard(partial, (shard_row(sample, split) for sample in part), features)
                yield shard, sha256
            for _ in part:
                pass  # of a shard that is not wanted


def shard_row(sample: Sample, split: str) -> tuple[Row, int]:
    """Return a sample as a row of a shard, and its size in bytes."""
    pieces = image_pieces(sample.id, *([as_plain(stored) for stored in kind] for kind in _kinds(sample)))
    return fill_row({**sample.row, "split": split}, pieces, {"objects": sample.names, "events": event_list(sample)})


def as_plain(stored: Stored) -> Encoded:
    """Return suffix and content of an image without its georeference: PNG, which viewers show, keeps its bytes."""
    return ("png", stored.read()) if stored.suffix == ".png" else encode_plain(stored.array())


def event_list(sample: Sample) -> str:
    """The event log as one JSON array."""
    return sample.log if sample.log.startswith("[") else f"[{', '.join(sample.log.splitlines())}]"


def _kinds(sample: Sample) -> tuple[tuple[Stored, ...], ...]:
    return sample.images, sample.masks, sample.instances, sample.changes


def features_of(master: Master) -> Any:
    """The ``datasets`` features of the shards a dataset becomes."""
    from datasets import Features

    if master.layout == "parquet":
        import pyarrow.parquet as pq

        return Features.from_arrow_schema(pq.read_schema(master.tables[0]))
    first = next(master.rows())
    rows = ({key: value for key, value in row.items() if not _names_files(key)} for row in master.rows())
    return shard_features(
        rows, int(first["dates"]), images=master.has_images, instances="t1_instances_file_name" in first
    )


def _names_files(key: str) -> bool:
    return key.endswith(("_file_name", "_file_names")) or key in ("events_file", "objects_file")


def _as_they_are(tables: Sequence[Path], folder: str) -> Iterator[Shard]:
    import pyarrow.parquet as pq

    for table in tables:
        match = _SHARD_NAME.fullmatch(table.name)
        if match is None or int(match["count"]) != sum(other.name.startswith(f"{match['split']}-") for other in tables):
            raise OutputError(f"{table}: shards are missing, or this is none of them", "Make the dataset again")
        facts, rows = table.stat(), pq.read_metadata(table).num_rows
        key = _digest(str(table.resolve()), facts.st_size, facts.st_mtime_ns)
        path = f"{folder}data/{table.name.replace(match['split'], hub_name(match['split']), 1)}"
        yield Shard(path, hub_name(match["split"]), rows, key, facts.st_size, table)


def _cut(master: Master, plan: Plan, limit: int, folder: str) -> list[Shard]:
    """Cut the samples of every split into shards of at most ``limit`` bytes, at least one sample each."""
    made_by = _digest(library_versions(), limit)
    parts: dict[str, list[_Part]] = {}
    for sample in master.samples():
        split = plan.split_of(sample.row)
        mine = parts.setdefault(split, [])
        sizes = [_size(stored) for kind in _kinds(sample) for stored in kind]
        size = sum(sizes) + len(sample.log.encode()) + len(sample.names.encode())
        if not mine or mine[-1].size + size > limit:
            mine.append(_Part(hashlib.sha256(f"{made_by} {split}".encode())))
        mine[-1].add(sample, size)
    return [
        Shard(f"{folder}data/{split}-{i:05d}-of-{len(mine):05d}.parquet", split, part.rows, part.key, part.size)
        for split, mine in sorted(parts.items())
        for i, part in enumerate(mine)
    ]


class _Part:
    """A shard while it is planned."""

    def __init__(self, digest: Any) -> None:
        self._digest, self.rows, self.size = digest, 0, 0

    @property
    def key(self) -> str:
        return str(self._digest.hexdigest())

    def add(self, sample: Sample, size: int) -> None:
        self.rows += 1
        self.size += size
        stamps = [_stamp(stored) for kind in _kinds(sample) for stored in kind]
        self._digest.update(_digest(sample.row, sample.log, sample.names, stamps).encode())


def _stamp(stored: Stored) -> tuple[Any, ...]:
    """What tells one version of an image from another: its bytes, or size and time of its file."""
    if stored.path is None:
        return stored.name, hashlib.sha256(stored.data).hexdigest()
    facts = _stat(stored.path)
    return stored.name, facts.st_size, facts.st_mtime_ns


def _size(stored: Stored) -> int:
    if stored.path is None:
        return len(stored.data)
    size = int(_stat(stored.path).st_size)
    return size if stored.suffix == ".png" else int(size * _PNG_OVER_TIFF)


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except FileNotFoundError:
        raise OutputError(f"{path} is missing", "Run changen validate on the dataset") from None


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
