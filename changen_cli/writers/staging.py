"""``OUT/.staging``: what a run has finished and no shard holds yet. A sample is there as a whole or not at all.

The files of a sample are written to ``.staging/new``. Then its row is put beside, by rename: from here on the sample
counts. Then its files are moved to their places. Whoever opens the folder after a kill moves the files of rows that are
there and drops all others, so that nothing half-written is ever left among the data. What a shard holds is on disk
before its record is, and survives a power cut; what none holds need not.

Several processes may write to one dataset, each with a part of the folder to itself: ``.staging/parts/<name>``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from changen_cli.core.errors import OutputError
from changen_cli.core.files import atomic_path, flush_to_disk, sha256, write_text
from changen_cli.core.shards import read_shards, record_path, rows_path
from changen_cli.core.types import TimeSeries
from changen_cli.core.untrusted import is_plain_name, parse_json, read_bytes, relative_name

Row = dict[str, Any]

STAGING = ".staging"
PARTS = "parts"
_DIGESTS, _NOTE = "_sha256", "_note"
_DEPTH = 2
"""Folders above a file of a sample."""


class Staging:
    """Rows of finished samples: those of sealed shards, and one small file for each of the others.

    Args:
        out: The dataset folder.
        part: The part of this process, where there are several.
    """

    def __init__(self, out: Path, part: str = "") -> None:
        self.out = out
        self.folder = out / STAGING / PARTS / part if part else out / STAGING
        self._new = self.folder / "new"
        self._dates: int | None = None
        self._size = 0
        self._unflushed: list[str] = []
        self._index: dict[str, tuple[Path, int]] | None = None
        self._recover()

    def check_dates(self, sample: TimeSeries) -> None:
        """Raise OutputError when ``sample`` has another number of dates than the others of this dataset."""
        if self._dates is None:
            first = self._any_row()
            self._dates = len(sample.masks) if first is None else int(first["dates"])
        if len(sample.masks) != self._dates:
            raise OutputError(
                f"sample {sample.id} has {len(sample.masks)} dates, the others have {self._dates}",
                "Write series of different lengths to different folders",
            )

    def put(self, sample_id: str, row: Row, files: Mapping[str, bytes], note: Mapping[str, Any] | None = None) -> None:
        """Store one sample.

        Args:
            sample_id: Its id.
            row: Its row.
            files: Its files by their path below the dataset folder, with ``/``.
            note: Figures that go with it.
        """
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        try:
            for name, data in files.items():
                path = self._new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            row = row | {_DIGESTS: digests, _NOTE: dict(note or {})}
            write_text(self._parked(sample_id), dump(row) + "\n", durable=False)
        except BaseException:
            if not self._parked(sample_id).is_file():
                shutil.rmtree(self._new, ignore_errors=True)
            raise
        self._move(digests)
        self._unflushed += digests
        self._size += sum(map(len, files.values()))
        if self._index is not None:
            self._index[sample_id] = (self._parked(sample_id), 0)

    def seal(self, number: int) -> tuple[list[str], int, str]:
        """Gather all parked rows in the lines of a shard; they stay parked until :meth:`forget`.

        Only here files are waited for: what no shard holds is dropped after a power cut, and the disk had time to write
        most of them.

        Returns:
            Ids of the samples, the size of their files in bytes, and the SHA-256 of the lines.
        """
        ids = sorted(self.parked())
        files = [self.out / name for name in self._unflushed]
        flush_to_disk([*files, *sorted({file.parent for file in files})])
        self._unflushed = []
        path = rows_path(self.out, number)
        with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(self._parked(sample_id).read_text(encoding="utf-8") for sample_id in ids)
        size, self._size = self._size, 0
        return ids, size, sha256(path)

    def forget(self, ids: Iterable[str]) -> None:
        """Remove parked rows: a shard holds them."""
        self._index = None
        for sample_id in ids:
            self._parked(sample_id).unlink(missing_ok=True)

    def parked(self) -> list[str]:
        """Ids of the samples that no shard holds."""
        if not self.folder.is_dir():
            return []
        return [p.name[:-5] for p in self.folder.iterdir() if p.suffix == ".json" and p.name[0] != "."]

    def drop(self) -> None:
        """Remove what no shard holds: samples of a run that was killed, with their files."""
        parked = self.parked()
        if not parked:
            return
        sealed = {sample_id for record in read_shards(self.out) for sample_id in record.samples}
        for sample_id in {*parked} - sealed:
            for name in self._names_of(sample_id):
                (self.out / name).unlink(missing_ok=True)
        self.forget(parked)
        self._size, self._unflushed = 0, []

    def ids(self) -> frozenset[str]:
        """Ids of all samples, in shards or parked."""
        return frozenset(self._places())

    def rows(self, order: Iterable[str] | None) -> Iterator[Row]:
        """Yield the rows in ``order``, or sorted by id, without digests and notes.

        Raises:
            OutputError: An id of ``order`` has no row.
        """
        for entry in self._entries(order):
            del entry[_DIGESTS], entry[_NOTE]
            yield entry

    def digests(self, order: Iterable[str] | None) -> Iterator[tuple[str, str]]:
        """Yield path and SHA-256 of all files of the samples, one sample after the other."""
        for entry in self._entries(order):
            yield from entry[_DIGESTS].items()

    def notes(self) -> Iterator[Row]:
        """Yield the notes of all samples, sorted by id."""
        for entry in self._entries(None):
            yield entry[_NOTE]

    def clear(self) -> None:
        """Remove the staging folder; sealed shards stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._dates = self._index = None

    def _any_row(self) -> Row | None:
        """One row of the dataset; looks no further than needed."""
        paths = [self._parked(sample_id) for sample_id in self.parked()[:1]]
        for path in paths or (rows_path(self.out, record.number) for record in read_shards(self.out) if record.samples):
            with path.open("rb") as file:
                return _entry(file.readline(), path)
        return None

    def _entries(self, order: Iterable[str] | None) -> Iterator[Row]:
        places = self._places()
        wanted = sorted(places) if order is None else list(order)
        if missing := [i for i in wanted if i not in places]:
            raise OutputError(f"{len(missing)} samples were never written, e.g. {missing[0]}", "Run again to make them")
        opened, file = None, None
        try:
            for sample_id in wanted:
                path, offset = places[sample_id]
                if file is None or path != opened:
                    if file is not None:
                        file.close()
                    opened, file = path, path.open("rb")
                file.seek(offset)
                yield _entry(file.readline(), path)
        finally:
            if file is not None:
                file.close()

    def _places(self) -> dict[str, tuple[Path, int]]:
        """Id → file and offset of its line. What lies in a shard counts, and of two shards the later one."""
        if self._index is None:
            places = {sample_id: (self._parked(sample_id), 0) for sample_id in self.parked()}
            for record in read_shards(self.out):
                path = rows_path(self.out, record.number)
                offsets, at, digest = [], 0, hashlib.sha256()
                with path.open("rb") as file:
                    for line in file:
                        offsets.append(at)
                        at += len(line)
                        digest.update(line)
                if digest.hexdigest() != record.rows or len(offsets) != len(record.samples):
                    record_path(self.out, record.number).unlink()
                    raise OutputError(
                        f"{path} is not what was written: its shard no longer counts",
                        "Run the same command again, which makes it anew",
                    )
                places |= {name: (path, offset) for name, offset in zip(record.samples, offsets, strict=True)}
            self._index = places
        return self._index

    def _parked(self, sample_id: str) -> Path:
        return self.folder / f"{sample_id}.json"

    def _names_of(self, sample_id: str) -> list[str]:
        """Files of a parked sample; none where a power cut left no row of it."""
        path = self._parked(sample_id)
        try:
            return list(_entry(read_bytes(path), path)[_DIGESTS])
        except (OutputError, OSError, ValueError):
            return []

    def _move(self, names: Iterable[str]) -> None:
        """Move files to their places; those that are no longer here are there."""
        for name in names:
            source, target = self._new / name, self.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source.replace(target)
            except FileNotFoundError:
                if not target.is_file():
                    raise

    def _recover(self) -> None:
        """Finish what was begun, drop what was not finished."""
        if not self.folder.is_dir():
            return
        for partial in self.folder.glob(".partial-*"):
            partial.unlink()
        for sample_id in self.parked() if self._new.is_dir() else ():
            self._move(name for name in self._names_of(sample_id) if (self._new / name).is_file())
        shutil.rmtree(self._new, ignore_errors=True)
        names = [name for sample_id in self.parked() for name in self._names_of(sample_id)]
        self._unflushed = [name for name in names if (self.out / name).is_file()]
        self._size = sum((self.out / name).stat().st_size for name in self._unflushed)


def shard_files(rows: Path) -> list[str]:
    """The files of a shard's samples, by their path below the dataset folder, from its rows."""
    with rows.open("rb") as file:
        return [name for line in file for name in _entry(line, rows)[_DIGESTS]]


def drop_all(out: Path) -> None:
    """Remove what no shard holds, of every process that ever wrote to a dataset; nobody may be writing to it."""
    parts = out / STAGING / PARTS
    for folder in sorted(parts.iterdir()) if parts.is_dir() else ():
        Staging(out, folder.name).drop()
    Staging(out).drop()
    shutil.rmtree(parts, ignore_errors=True)


def _entry(line: bytes, path: Path) -> Row:
    """A row as it was put. Whoever wrote it, its names are those of files in the dataset.

    Raises:
        OutputError: It is no such row.
    """
    try:
        entry: Row = parse_json(line.decode("utf-8"))
        names = [relative_name(name) for name, digest in entry[_DIGESTS].items() if isinstance(digest, str)]
        plain = len(names) == len(entry[_DIGESTS]) and all(map(is_plain_name, (entry["image_name"], entry["split"])))
        fits = plain and type(entry["dates"]) is int and isinstance(entry[_NOTE], dict)
    except (ValueError, KeyError, TypeError, AttributeError):
        fits, names = False, []
    if not fits or any(name.count("/") > _DEPTH for name in names):
        raise OutputError(f"{path} holds something that is no row of a sample", "Make it again: --mode overwrite")
    return entry


def dump(value: Any) -> str:
    """Return compact JSON on one line; refuses NaN and infinity, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
