"""The tables of a dataset in the master layout, opened so that what is broken becomes a finding and not an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from changen_cli.core.untrusted import inside, is_plain_name, parse_json, read_lines, read_text
from changen_cli.exports.check_sample import AGAIN, Opened, Part, Rules
from changen_cli.exports.findings import Finding, one_line
from changen_cli.exports.master import Stored
from changen_cli.exports.reading import MAX_DATES, Row, open_shard

Expected = Callable[[str, str, str], bool]
"""Whether a row asks for a file: split, folder, file name."""

PAIR = ("t1_image", "t2_image", "t1_mask", "t2_mask", "change_mask", "image_name")
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")
_LARGE = ("change_masks", "objects", "events")
_BATCH_ROWS = 4
FOLDERS = ("images", "masks", "instances", "changes", "events", "objects")
"""Folders of a split."""
_STRAY = "no row asks for it; readers of folders take it for data"


class Table(Protocol):
    """One file with rows.

    Attributes:
        name: Its path below the dataset folder.
        layout: ``folder`` or ``parquet``.
        split: The split it holds.
    """

    name: str
    layout: Literal["folder", "parquet"]
    split: str

    def samples(self, rules: Rules) -> Iterator[Opened | Finding]:
        """Open its rows, one after the other; a row that cannot be opened is a finding."""
        ...

    def strays(self, expected: Expected) -> Iterator[Finding]:
        """Files beside it that no row asks for."""
        ...


def open_tables(folder: Path) -> list[Table]:
    """All tables of a dataset, sorted."""
    tables: list[Table] = [FolderTable(folder, path) for path in sorted(folder.glob("*/metadata.jsonl"))]
    return tables + [ShardTable(folder, path) for path in sorted(folder.glob("data/*.parquet"))]


class FolderTable:
    """``<split>/metadata.jsonl`` and the files beside it; implements :class:`Table`."""

    layout: Literal["folder", "parquet"] = "folder"

    def __init__(self, folder: Path, path: Path) -> None:
        self._path = path
        self.name = path.relative_to(folder).as_posix()
        self.split = path.parent.name

    def samples(self, rules: Rules) -> Iterator[Opened | Finding]:
        """Open its rows."""
        try:
            for number, line in enumerate(read_lines(self._path, errors="replace"), 1):
                yield self._row(number, line, rules)
        except (OSError, ValueError) as error:
            yield Finding(self.name, f"cannot be read on: {one_line(error)}", AGAIN)

    def _row(self, number: int, line: str, rules: Rules) -> Opened | Finding:
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            return Finding(self.name, f"line {number} is no row: {line.strip()[:40]!r}", AGAIN)
        if not is_plain_name(row.get("image_name")):
            shown = str(row.get("image_name"))[:80]
            return Finding(self.name, f"line {number}: image_name {shown!r} cannot be the name of a file", AGAIN)
        return self._open(row, rules)

    def _open(self, row: Row, rules: Rules) -> Opened:
        """Name the files of a sample as the writer does; those a row names otherwise are missing."""
        count, name = _dates(row), str(row.get("image_name"))
        suffix = "png" if row.get("crs") is None or row.get("transform") is None else "tif"

        def part(column: str, file: str, label: str) -> Part:
            try:
                path = inside(self._path.parents[1], f"{self.split}/{file}")
            except ValueError as error:
                return Part(f"{self.split}/{file}", label, None, str(error))
            if path.is_file() and column and row.get(f"{column}_file_name") != file:
                return Part(f"{self.split}/{file}", label, None, f"is not what {column}_file_name of its row names")
            return Part(f"{self.split}/{file}", label, Stored(path.name, path) if path.is_file() else None)

        images = [
            part(f"t{t + 1}_image", f"images/{name}_t{t}.{suffix}", f"image of date {t}")
            for t in range(count if rules.images else 0)
        ]
        masks = [
            part(f"t{t + 1}_mask", f"masks/{name}_t{t}.{suffix}", f"semantic mask of date {t}") for t in range(count)
        ]
        changes = [
            part("change_mask" if t == 0 else "", f"changes/{name}_t{t}_t{t + 1}.{suffix}", f"change mask of step {t}")
            for t in range(count - 1)
        ]
        numbers = []
        if row.get("objects_file") or row.get("t1_instances_file_name"):
            for t in range(count):
                # Numbers that no PNG can hold are in a TIFF, georeferenced or not.
                there = (Path(str(row.get(f"t{t + 1}_instances_file_name"))).suffix or ".png")[1:]
                file = f"instances/{name}_t{t}.{there if there == 'tif' else suffix}"
                numbers.append(part(f"t{t + 1}_instances", file, f"instance mask of date {t}"))
        log, names = f"events/{name}.jsonl", f"objects/{name}.json"
        # A row that names another file has none.
        texts = [
            self._text(file) if row.get(key) == file else None
            for key, file in (("events_file", log), ("objects_file", names))
        ]
        return Opened(
            self.name,
            row,
            images,
            masks,
            changes,
            f"{self.split}/{log}",
            texts[0],
            numbers,
            f"{self.split}/{names}",
            texts[1],
        )

    def _text(self, name: str) -> str | None:
        try:
            path = inside(self._path.parents[1], f"{self.split}/{name}")
            return read_text(path, errors="replace") if path.is_file() else None
        except (OSError, ValueError):
            return None

    def strays(self, expected: Expected) -> Iterator[Finding]:
        """Files in its folders that no row asks for."""
        for kind in FOLDERS:
            folder = self._path.parent / kind
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if not path.name.startswith(".partial-") and not expected(self.split, kind, path.name):
                    yield Finding(f"{self.split}/{kind}/{path.name}", _STRAY, "Delete it, if you put it there")


class ShardTable:
    """``data/<split>-00000-of-00012.parquet``; implements :class:`Table`."""

    layout: Literal["folder", "parquet"] = "parquet"

    def __init__(self, folder: Path, path: Path) -> None:
        self._path = path
        self.name = path.relative_to(folder).as_posix()
        match = _SHARD.fullmatch(path.name)
        self.split = match["split"] if match else path.stem

    def samples(self, rules: Rules) -> Iterator[Opened | Finding]:
        """Open its rows, a few at a time."""
        import pyarrow as pa

        yield from self._number()
        pair = [name for name in PAIR if rules.images or not name.endswith("_image")]
        try:
            file = open_shard(self._path)
            if (names := file.schema_arrow.names)[: len(pair)] != pair:
                yield Finding(self.name, f"columns begin {', '.join(names[:6])}, not {', '.join(pair)}", AGAIN)
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield self._open(row, rules)
        except (pa.ArrowException, OSError) as error:
            yield Finding(self.name, f"cannot be read: {one_line(error)}", AGAIN)

    def _number(self) -> Iterator[Finding]:
        """Shards are numbered through: one that is missing would not be missed by readers."""
        match = _SHARD.fullmatch(self._path.name)
        if not match:
            yield Finding(self.name, "is not named like a shard, e.g. train-00000-of-00012.parquet", AGAIN)
            return
        count = int(match["count"])
        names = [f"{match['split']}-{i:05d}-of-{count:05d}.parquet" for i in range(count)]
        if int(match["number"]) >= count:
            yield Finding(self.name, f"is no shard of {count}", AGAIN)
        for name in names if self._path.name == _first(self._path.parent, names) else ():
            if not (self._path.parent / name).is_file():
                yield Finding(f"data/{name}", "is missing; the others say it belongs to them", AGAIN)

    def _open(self, cells: Row, rules: Rules) -> Opened:
        count, name = _dates(cells), str(cells.get("image_name"))

        def part(column: str, cell: Row | None) -> Part:
            data = (cell or {}).get("bytes")
            stored = None if data is None else Stored(str((cell or {}).get("path") or f"{column}.png"), data=data)
            return Part(self.name, f"{name}, {column}", stored)

        steps = cells.get("change_masks") or [cells.get("change_mask")]
        steps = [*steps, *[None] * (count - 1 - len(steps))]
        return Opened(
            self.name,
            {key: value for key, value in cells.items() if not isinstance(value, dict) and key not in _LARGE},
            [part(f"t{t + 1}_image", cells.get(f"t{t + 1}_image")) for t in range(count if rules.images else 0)],
            [part(f"t{t + 1}_mask", cells.get(f"t{t + 1}_mask")) for t in range(count)],
            [part(f"change mask of step {t}", cell) for t, cell in enumerate(steps[: max(0, count - 1)])],
            self.name,
            cells.get("events"),
            [part(f"t{t + 1}_instances", cells.get(f"t{t + 1}_instances")) for t in range(count)]
            if "objects" in cells
            else (),
            self.name,
            cells.get("objects"),
            f"{name}: ",
        )

    def strays(self, expected: Expected) -> Iterator[Finding]:
        """Files among the shards are no stray: readers take only ``*.parquet``, which are checked."""
        yield from ()


def _dates(row: Row) -> int:
    """Dates of a row; 0 for what cannot be a number of dates, which the check of the row tells."""
    dates = row.get("dates")
    return dates if isinstance(dates, int) and 0 <= dates <= MAX_DATES else 0


def _first(folder: Path, names: list[str]) -> str:
    """The first shard of a set that is there: it speaks for those that are not."""
    return next((name for name in names if (folder / name).is_file()), "")
