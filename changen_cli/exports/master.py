"""Datasets made by changen, read back: folders and Parquet alike, one sample at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.links import refuse_links
from changen_cli.core.types import BoolArray, ClassSchema, Int32Array, UInt8Array
from changen_cli.core.untrusted import inside, open_regular, read_json, read_text, relative_name
from changen_cli.exports.cards import read_front
from changen_cli.exports.findings import one_line
from changen_cli.exports.formats import PairMode
from changen_cli.exports.reading import (
    Pixels,
    Row,
    decode,
    holds_pixels,
    identified,
    parse_log,
    parse_objects,
    read_cells,
    read_lines,
)

T = TypeVar("T")

_BATCH_ROWS = 4
_MANIFEST_BYTES = 1 << 30
_TEXTS = ("objects", "events")
"""Long texts of a sample, which are no metadata."""
_CHECK = "Run changen validate on the dataset"


@dataclass(frozen=True)
class Stored:
    """One image or mask as it is stored.

    Attributes:
        name: File name, without folders.
        path: Where it lies; None inside a Parquet shard.
        data: Its bytes, inside a Parquet shard.
    """

    name: str
    path: Path | None = None
    data: bytes = b""

    @property
    def suffix(self) -> str:
        """``.png`` or ``.tif``."""
        return Path(self.name).suffix

    def read(self) -> bytes:
        """The encoded file.

        Raises:
            OutputError: It is missing, or may not be read.
        """
        if self.path is None:
            return self.data
        try:
            with open_regular(self.path) as file:
                return file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"{self.path} cannot be read: {reason}", _CHECK) from None

    def array(self) -> Pixels:
        """The pixels: uint8 ``[H, W, 3]`` or ``[H, W]``; object numbers have 16 or 32 bits.

        Raises:
            OutputError: They cannot be decoded.
        """
        try:
            return decode(self.read())[1]
        except ValueError as error:
            raise OutputError(f"{self.path or self.name} cannot be read: {error}", _CHECK) from None

    def put(self, target: Path) -> None:
        """Make ``target`` this file: a hard link where the file system can, else a copy.

        Raises:
            FileExistsError: There is such a file. It may be a link into the dataset, which writing would change.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.path is not None and self.path.is_file():
            try:
                os.link(self.path, target)
                return
            except FileExistsError:
                raise
            except OSError:
                pass  # another file system, or one without links
        data = self.read()
        with target.open("xb") as file:
            file.write(data)


@dataclass(frozen=True, eq=False)
class Sample:
    """One time series of the dataset; nothing is decoded before it is asked for.

    Attributes:
        row: Its metadata, as in ``metadata.jsonl``; see docs/outputs.md.
        images: One per date; empty where the dataset has no images.
        masks: Semantic masks, one per date.
        changes: Change masks, one per step.
        log: Its event log, JSON lines or a JSON array.
        instances: Masks of object numbers, one per date; empty in datasets older than these.
        names: The ids of its objects, a JSON object.
    """

    row: Row
    images: tuple[Stored, ...]
    masks: tuple[Stored, ...]
    changes: tuple[Stored, ...]
    log: str
    instances: tuple[Stored, ...] = ()
    names: str = "{}"

    @property
    def id(self) -> str:
        """Unique in the dataset, safe as a file name."""
        return str(self.row["image_name"])

    @property
    def group(self) -> str:
        """The place it shows."""
        return str(self.row["group"])

    @property
    def calendar(self) -> list[str]:
        """The calendar dates as given, e.g. ``2018-01``; empty where there are none."""
        return list(self.row.get("calendar") or ())

    @cached_property
    def events(self) -> list[Row]:
        """One row per event, as in docs/outputs.md.

        Raises:
            OutputError: The log is none.
        """
        return self._parse(parse_log, self.log)

    @cached_property
    def objects(self) -> dict[int, str]:
        """Number → object id of every object; empty where there are no instance masks.

        Raises:
            OutputError: The table of objects is none.
        """
        return self._parse(parse_objects, self.names)

    def _parse(self, parse: Callable[[str], T], text: str) -> T:
        try:
            return parse(text)
        except OutputError as error:
            raise OutputError(f"{self.id}: {error}", _CHECK) from None

    @cached_property
    def mask_arrays(self) -> UInt8Array:
        """Uint8 ``[T, H, W]``: the semantic masks of all dates."""
        return np.stack([mask.array() for mask in self.masks]).astype(np.uint8, copy=False)

    @cached_property
    def instance_arrays(self) -> Int32Array:
        """Int32 ``[T, H, W]``: the object numbers of all dates; there are instance masks."""
        return np.stack([numbers.array() for numbers in self.instances]).astype(np.int32, copy=False)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two dates of one sample, for layouts that know only pairs.

    Attributes:
        sample: The series.
        first: Its earlier date.
        second: Its later date.
    """

    sample: Sample
    first: int
    second: int

    @property
    def name(self) -> str:
        """The sample's id, with the two dates where it has more than two."""
        return self.sample.id if len(self.sample.masks) == 2 else f"{self.sample.id}_t{self.first}_t{self.second}"

    @property
    def images(self) -> tuple[Stored, Stored]:
        """The images of both dates."""
        return self.sample.images[self.first], self.sample.images[self.second]

    @property
    def masks(self) -> tuple[UInt8Array, UInt8Array]:
        """Uint8 ``[H, W]``: the semantic masks of both dates."""
        return self.sample.mask_arrays[self.first], self.sample.mask_arrays[self.second]

    @property
    def change(self) -> BoolArray:
        """Bool ``[H, W]``: where the two masks differ, whatever happened between."""
        before, after = self.masks
        return np.asarray(before != after)


def pairs(sample: Sample, mode: PairMode = "consecutive") -> list[Pair]:
    """The pairs of dates of a sample, earlier date first.

    Args:
        sample: The series.
        mode: Neighbouring dates, every two dates, or the first and the last one.
    """
    dates = len(sample.masks)
    if mode == "first-last":
        return [Pair(sample, 0, dates - 1)]
    reach = dates if mode == "all" else 2
    return [Pair(sample, a, b) for a in range(dates) for b in range(a + 1, min(a + reach, dates))]


@dataclass(frozen=True, eq=False)
class Master:
    """A finished dataset in the layout of docs/outputs.md.

    Attributes:
        root: Its folder.
        layout: ``folder`` or ``parquet``.
        schema: The classes of its masks.
        manifest: ``manifest.json``.
        tables: The files its rows are in.
    """

    root: Path
    layout: Literal["folder", "parquet"]
    schema: ClassSchema
    manifest: Row
    tables: tuple[Path, ...]

    @property
    def has_images(self) -> bool:
        """Whether images were drawn, or masks only."""
        return bool(self.manifest.get("images", True))

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.root.resolve().name

    @cached_property
    def card(self) -> Row:
        """The front matter of the dataset's card, which its owner may have edited; empty without one."""
        return read_front(self.root / "README.md")

    def rows(self) -> Iterator[Row]:
        """Metadata of all samples, in order, without pixels; those of a folder with their ``*_file_name`` columns.

        Raises:
            OutputError: A table cannot be read.
        """
        for table in self.tables:
            folder = self.layout == "folder"
            rows = read_lines(table) if folder else read_cells(table, 1024, _TEXTS, pixels=False)
            yield from named((identified(row) for row in rows), table)

    def logs(self) -> Iterator[tuple[Row, list[Row]]]:
        """Metadata and events of all samples, in order; no pixel is read.

        Raises:
            OutputError: A table or a log cannot be read.
        """
        for table in self.tables:
            if self.layout == "folder":
                samples = _from_folder(table)
            else:
                rows = read_cells(table, 256, ("objects",), pixels=False)
                samples = (Sample(row, (), (), (), row.pop("events")) for row in rows)
            yield from ((sample.row, sample.events) for sample in named(samples, table))

    def samples(self) -> Iterator[Sample]:
        """All samples, in order, one at a time.

        Raises:
            OutputError: A table cannot be read.
        """
        for table in self.tables:
            yield from named(_from_folder(table) if self.layout == "folder" else _from_shard(table), table)


def named(items: Iterator[T], table: Path) -> Iterator[T]:
    """Pass on what is read from a table; whatever it holds instead of that becomes an error that names it."""
    try:
        yield from items
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        missing = f"a row has no {error}" if isinstance(error, KeyError) else one_line(error, table)
        raise OutputError(f"{table} cannot be read: {missing}", _CHECK) from None


def open_master(root: Path) -> Master:
    """Open a dataset that changen made.

    Args:
        root: Its folder.

    Raises:
        UsageError: There is no such folder, or no dataset in it, or its run has not ended.
        OutputError: Its manifest or class table cannot be read, or a link leads out of it.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder", "Name a dataset made by changen generate or simulate")
    refuse_links(root)
    manifest, classes = _json(root / "manifest.json"), _json(root / "classes.json")
    if manifest.get("status") not in ("complete", "interrupted"):
        raise UsageError(
            f"{root}: its run has the status {manifest.get('status')!r}, so that files may be missing",
            "Run the command that made it again",
        )
    source = manifest.get("source", {})
    if not isinstance(source, dict):
        raise OutputError(f"{root / 'manifest.json'}: its source is no JSON object", _CHECK)
    shards, tables = sorted(root.glob("data/*.parquet")), sorted(root.glob("*/metadata.jsonl"))
    if not shards and not tables:
        raise UsageError(f"{root} holds no sample: neither */metadata.jsonl nor data/*.parquet")
    try:
        rows = sorted(classes["classes"], key=lambda row: row["id"])
        agnostic = str(source.get("labels", "")).startswith("class-agnostic")
        schema = ClassSchema(tuple(row["name"] for row in rows), class_agnostic=agnostic)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{root / 'classes.json'} is no class table: {error!r}", _CHECK) from None
    return Master(root, "parquet" if shards else "folder", schema, manifest, tuple(shards or tables))


def _json(path: Path) -> Row:
    try:
        value = read_json(path, _MANIFEST_BYTES)
    except FileNotFoundError:
        raise UsageError(
            f"{path.parent} has no {path.name}", "Name a dataset made by changen generate or simulate"
        ) from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read: {error}", _CHECK) from None
    if not isinstance(value, dict):
        raise OutputError(f"{path} is no JSON object", _CHECK)
    return value


def _from_folder(table: Path) -> Iterator[Sample]:
    for row in map(identified, read_lines(table)):
        yield sample_of_row(table.parent, row)


def sample_of_row(folder: Path, row: Row) -> Sample:
    """A row of a folder with the files it names, all of which lie in the dataset."""
    dates = row["dates"]

    def place(name: str) -> Path:
        return inside(folder.parent, f"{folder.name}/{relative_name(name)}")

    def files(names: list[str | None]) -> tuple[Stored, ...]:
        paths = [place(name) for name in names if name is not None]
        return tuple(Stored(path.name, path) for path in paths)

    images = row.get("image_file_names") or [row.get(f"t{t + 1}_image_file_name") for t in range(dates)]
    masks = row.get("mask_file_names") or [row[f"t{t + 1}_mask_file_name"] for t in range(dates)]
    changes = row.get("change_file_names") or [row["change_mask_file_name"]]
    numbers = row.get("instance_file_names") or [row.get(f"t{t + 1}_instances_file_name") for t in range(dates)]
    log, names = (read_text(place(row.pop(key))) if key in row else "{}" for key in ("events_file", "objects_file"))
    plain = {key: value for key, value in row.items() if not key.endswith(("_file_name", "_file_names"))}
    sample = Sample(plain, files(images), files(masks), files(changes), log, files(numbers), names)
    if len(sample.masks) != dates or len(sample.changes) != dates - 1 or len(sample.images) not in (0, dates):
        raise ValueError(f"{sample.id} names fewer or more files than {dates} dates have")
    return sample


def _from_shard(table: Path) -> Iterator[Sample]:
    for cells in map(identified, read_cells(table, _BATCH_ROWS)):
        yield sample_of_cells(cells)


def sample_of_cells(cells: Row) -> Sample:
    """A row of a Parquet shard, with the files it holds."""
    dates = int(cells["dates"])

    def stored(cell: Row | None) -> tuple[Stored, ...]:
        return () if cell is None else (Stored(cell["path"], data=cell["bytes"]),)

    images = tuple(s for t in range(dates) for s in stored(cells.get(f"t{t + 1}_image")))
    masks = tuple(s for t in range(dates) for s in stored(cells[f"t{t + 1}_mask"]))
    numbers = tuple(s for t in range(dates) for s in stored(cells.get(f"t{t + 1}_instances")))
    steps = cells.get("change_masks") or [cells["change_mask"]]
    changes = tuple(s for cell in steps for s in stored(cell))
    plain = {key: value for key, value in cells.items() if not holds_pixels(key) and key not in _TEXTS}
    return Sample(plain, images, masks, changes, cells["events"], numbers, cells.get("objects") or "{}")
