"""Parquet shards with embedded PNG images, as the Hub's viewer, ``datasets`` and torchange read them.

    OUT/data/<split>-00000-of-00012.parquet

Columns, in this order: ``t1_image t2_image t1_mask t2_mask change_mask image_name``, then ``t3_image … t3_mask …
change_masks`` for series of more than two dates, then ``t1_instances t2_instances …``, then the metadata columns, then
``objects`` and ``events``.

- Column ``t1`` is date 0. ``change_mask`` always belongs to ``t1`` and ``t2``, so that these five are a correct pair
  for readers of pairs; ``change_masks`` lists the change mask of every step. There are no lists of images or
  semantic masks: they would store every pixel twice.
- ``events`` is a JSON array in a string: the keys differ by event kind, and a string loads the same everywhere.
- ``t<n>_instances`` are 16-bit PNG, ``objects`` is a JSON object in a string: number → object id.
- Samples without images leave the columns ``t<n>_image`` out.
- Georeferenced scenes keep PNG bytes; their georeference is in the columns ``crs`` and ``transform``.

Names of shards hold their number, which only the end of a run knows. Encoded samples therefore wait on disk under
``OUT/.staging`` (about the size of the result, freed at the end); ``close`` copies them into shards in id order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changen_cli.core.checksums import HashingFile
from changen_cli.core.errors import OutputError
from changen_cli.core.files import atomic_path, sha256
from changen_cli.core.types import ClassSchema, TimeSeries
from changen_cli.writers.base import (
    check_sample,
    close_checksums,
    event_row,
    metadata_row,
    object_names,
)
from changen_cli.writers.columns import Columns
from changen_cli.writers.images import change_image, encode_plain, numbers_image
from changen_cli.writers.staging import STAGING, Row, Staging, dump

if TYPE_CHECKING:
    import datasets

MAX_SHARD_BYTES = 500_000_000
MAX_GROUP_BYTES = 32_000_000
MAX_GROUP_ROWS = 100

# Types of columns that may be empty throughout; all others are inferred from their values.
_NULLABLE = {"gsd_m": "float64", "crs": "string", "transform": "float64 list"}
_PIECES = "_pieces"
_TEXTS = ("objects", "events")

Encoded = tuple[str, bytes]
"""Suffix and content of one image."""
Piece = tuple[str, str, bytes]
"""Column, file name and content of one image."""


class ParquetWriter:
    """Writes samples as rows of Parquet shards; implements :class:`changen_cli.writers.base.SampleWriter`.

    Args:
        out: The dataset folder.
        schema: The classes of the masks.
        max_shard_bytes: Image bytes after which a new shard begins.
        part: As of :class:`~changen_cli.writers.staging.Staging`.
    """

    def __init__(self, out: Path, schema: ClassSchema, max_shard_bytes: int = MAX_SHARD_BYTES, part: str = "") -> None:
        self.out = out
        self.schema = schema
        self.max_shard_bytes = max_shard_bytes
        self.staging = Staging(out, part)

    def write(self, sample: TimeSeries, note: Mapping[str, Any] | None = None) -> Row:
        """Encode one sample, park it on disk and return its metadata row."""
        check_sample(sample)
        self.staging.check_dates(sample)
        row = metadata_row(sample)
        events = dump([event_row(event, self.schema, sample.calendar) for event in sample.events])
        texts = ("objects", object_names(sample)), ("events", events)
        pieces = [*_encode(sample), *((name, "", text.encode()) for name, text in texts)]
        row |= {_PIECES: [[name, path, len(data)] for name, path, data in pieces]}
        self.staging.put(sample.id, row, {_blob(sample.id): b"".join(data for _, _, data in pieces)}, note)
        return {key: value for key, value in row.items() if key != _PIECES}

    def finished(self) -> frozenset[str]:
        """Ids of the samples that are encoded."""
        return self.staging.ids()

    def tables(self, order: Sequence[str] | None = None, kept: Mapping[str, int] | None = None) -> list[Path]:
        """Write all shards, then give them their final names and checksums. Without any sample nothing is written.

        Shards kept get a new name, as it says how many there are; their bytes stay.

        Raises:
            OutputError: The columns differ from those of the shards kept.
        """
        columns = Columns(self._rows(order))
        if not columns.count and not kept:
            return []
        features = self._features(columns, order) if columns.count else None
        plan: list[tuple[str, int, Path | list[str]]] = []  # split, number, the shard that is there or its samples
        for split in sorted({*columns.splits, *(kept or {})}):
            parts: list[Path | list[str]] = [*_existing(self.out, split)[: (kept or {}).get(split, 0)]]
            parts += self._cut(split, order)
            plan += [(f"{split}-{{:05d}}-of-{len(parts):05d}.parquet", i, part) for i, part in enumerate(parts)]
        # All shards are complete before the first gets its name: a set with a gap would load without complaint.
        moves: list[tuple[Path, Path]] = []
        digests: list[tuple[Path, str]] = []
        for pattern, number, part in plan:
            final = self.out / "data" / pattern.format(number)
            if isinstance(part, Path):
                if features is not None:
                    _check_columns(part, features)
                moves.append((part, final))
                digests.append((final, sha256(part)))
                continue
            assert features is not None  # a part to be written has rows
            parked = self.staging.folder / "shards" / final.name
            with atomic_path(parked) as partial:
                value = write_shard(partial, (self._load(row, columns) for row in self.staging.rows(part)), features)
            moves.append((parked, final))
            digests.append((final, value))
        (self.out / "data").mkdir(parents=True, exist_ok=True)
        for stray in {*_existing(self.out, "*")} - {source for source, _ in moves}:
            stray.unlink()  # left by a closing that was cut off
        for source, final in moves:
            source.replace(final)
        close_checksums(self.out, (), digests)
        return [final for _, final in moves]

    def close(self, order: Sequence[str] | None = None) -> list[Path]:
        """Write the tables and drop the staging folder."""
        paths = self.tables(order)
        self.staging.clear()
        return paths

    def abandon(self) -> None:
        """Throw away all samples written since the last :meth:`close`."""
        self.staging.clear()

    def _rows(self, order: Sequence[str] | None) -> Iterator[Row]:
        for row in self.staging.rows(order):
            del row[_PIECES]
            yield row

    def _features(self, columns: Columns, order: Sequence[str] | None) -> datasets.Features:
        first = next(self.staging.rows(order))
        images = any(name == "t1_image" for name, _, _ in first[_PIECES])
        return shard_features(map(columns.unify, self._rows(order)), int(first["dates"]), images=images)

    def _cut(self, split: str, order: Sequence[str] | None) -> list[list[str]]:
        """Cut the samples of a split into shards of at most ``max_shard_bytes`` image bytes, at least one each."""
        parts: list[list[str]] = []
        filled = 0
        for row in self.staging.rows(order):
            if row["split"] != split:
                continue
            size = sum(length for _, _, length in row[_PIECES])
            if not parts or filled + size > self.max_shard_bytes:
                parts.append([])
                filled = 0
            parts[-1].append(row["image_name"])
            filled += size
        return parts

    def _load(self, row: Row, columns: Columns) -> tuple[Row, int]:
        """Return the full row of one parked sample, images included, and its size in bytes."""
        pieces = row.pop(_PIECES)
        with (self.out / _blob(row["image_name"])).open("rb") as file:
            read = [(name, path, file.read(length)) for name, path, length in pieces]
        texts = {name: data.decode() for name, _, data in read if name in _TEXTS}
        return fill_row(columns.unify(row), [piece for piece in read if piece[0] not in _TEXTS], texts)


def _blob(sample_id: str) -> str:
    """Where an encoded sample waits, below the dataset folder."""
    return f"{STAGING}/blobs/{sample_id}.bin"


def _existing(out: Path, split: str) -> list[Path]:
    """The shards of a split that are there, by number, whatever they say of how many they are."""
    return sorted(out.glob(f"data/{split}-?????-of-?????.parquet"))


def _check_columns(path: Path, features: datasets.Features) -> None:
    import pyarrow.parquet as pq

    there = pq.read_schema(path)
    if there.remove_metadata() != features.arrow_schema.remove_metadata():
        raise OutputError(
            f"{path} has other columns than the new samples: nothing can be added to it",
            "Make the dataset again with --mode overwrite, or another one",
        )


def _encode(sample: TimeSeries) -> list[Piece]:
    changes = (change_image(change) for change in sample.change_masks)
    images = () if sample.images is None else sample.images
    kinds = (images, sample.masks, numbers_image(sample.instances), changes)
    return image_pieces(sample.id, *([encode_plain(array) for array in kind] for kind in kinds))


def image_pieces(
    name: str,
    images: Sequence[Encoded],
    masks: Sequence[Encoded],
    instances: Sequence[Encoded],
    changes: Sequence[Encoded],
) -> list[Piece]:
    """Return (column, file name, content) of every image of a sample; ``change_masks`` repeats.

    Args:
        name: The sample's id.
        images: Suffix and content, one per date, or none.
        masks: Semantic masks, one per date.
        instances: Instance masks, one per date, or none.
        changes: Change masks, one per step.
    """
    pieces = [(f"t{t + 1}_image", f"{name}_t{t}.{suffix}", data) for t, (suffix, data) in enumerate(images)]
    pieces += [(f"t{t + 1}_mask", f"{name}_t{t}_mask.{suffix}", data) for t, (suffix, data) in enumerate(masks)]
    pieces += [
        (f"t{t + 1}_instances", f"{name}_t{t}_instances.{suffix}", data) for t, (suffix, data) in enumerate(instances)
    ]
    steps = [(f"{name}_t{t}_t{t + 1}.{suffix}", data) for t, (suffix, data) in enumerate(changes)]
    pieces.append(("change_mask", *steps[0]))
    return pieces + [("change_masks", *step) for step in steps] if len(masks) > 2 else pieces


def fill_row(row: Row, pieces: Iterable[Piece], texts: Mapping[str, str]) -> tuple[Row, int]:
    """Return the full row of one sample and its size in bytes.

    Args:
        row: Its metadata.
        pieces: Its images.
        texts: ``objects`` and ``events``, as JSON.
    """
    full: Row = {**row, **texts}
    total = sum(len(text.encode()) for text in texts.values())
    for name, path, data in pieces:
        total += len(data)
        if name == "change_masks":
            full.setdefault(name, []).append({"bytes": data, "path": path})
        else:
            full[name] = {"bytes": data, "path": path}
    return full, total


def shard_features(rows: Iterable[Row], dates: int, *, images: bool, instances: bool = True) -> datasets.Features:
    """Return the ``datasets`` features: images first, in the order readers of pairs expect.

    Args:
        rows: Metadata of all samples, all with the same keys; gone through once.
        dates: Dates of every sample.
        images: Whether the samples have images.
        instances: Whether they have instance masks.
    """
    from datasets import Features, Image, List, Value

    kinds = ("image", "mask") if images else ("mask",)
    columns: dict[str, Any] = {f"t{t}_{kind}": Image() for kind in kinds for t in (1, 2)}
    columns["change_mask"] = Image()
    columns["image_name"] = Value("string")
    if dates > 2:
        columns |= {f"t{t}_{kind}": Image() for kind in kinds for t in range(3, dates + 1)}
        columns["change_masks"] = List(Image())
    if instances:
        columns |= {f"t{t}_instances": Image() for t in range(1, dates + 1)}
    for key, value in _first_values(rows).items():
        if key in columns:
            continue
        kind = _NULLABLE.get(key) or _kind(value)
        if kind == "record list":
            # A figure that could not be measured is null; texts and counts are always there.
            fields = value[0].items()
            columns[key] = List({name: Value("float64" if item is None else _kind(item)) for name, item in fields})
        else:
            columns[key] = List(Value(kind.removesuffix(" list"))) if kind.endswith(" list") else Value(kind)
    columns |= {name: Value("string") for name in _TEXTS}
    return Features(columns)


def _first_values(rows: Iterable[Row]) -> Row:
    """Of each column, in order, the first value that tells its type; None where there is none."""
    found: Row = {}
    for row in rows:
        for key, value in row.items():
            if found.get(key) is None:
                found[key] = None if value == [] else value
    return found


def _kind(value: Any) -> str:
    """Return the name of the column type that holds ``value``; the writer made the columns uniform."""
    names = {bool: "bool", int: "int64", float: "float64", str: "string", dict: "record"}
    if isinstance(value, list):
        return f"{names.get(type(value[0]), 'string')} list"
    return "string" if value is None else names[type(value)]


def write_shard(path: Path, rows: Iterator[tuple[Row, int]], features: datasets.Features) -> str:
    """Write one shard, row group by row group, so that memory holds one group at a time; returns its SHA-256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The arrow schema carries the features: `datasets` and the Hub's viewer see images, not structs of bytes.
    schema = features.arrow_schema
    plain = [name for name in schema.names if not _holds_images(name)]
    group: list[Row] = []
    held = 0
    how: dict[str, Any] = {"compression": "snappy", "use_dictionary": plain, "write_statistics": plain}
    with HashingFile(path.open("wb")) as file:
        with pq.ParquetWriter(file, schema, **how) as target:
            for row, size in rows:
                if group and (held + size > MAX_GROUP_BYTES or len(group) >= MAX_GROUP_ROWS):
                    target.write_table(pa.Table.from_pylist(group, schema=schema))
                    group, held = [], 0
                group.append(row)
                held += size
            target.write_table(pa.Table.from_pylist(group, schema=schema))
        return file.hexdigest()


def _holds_images(column: str) -> bool:
    return column.startswith("change_mask") or column.endswith(("_image", "_mask", "_instances"))


def read_events(text: str) -> list[Row]:
    """Parse the ``events`` column of one row."""
    rows: list[Row] = json.loads(text)
    return rows
