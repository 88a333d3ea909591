"""Any sample of a dataset by its number, without reading those before it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from changen_cli.core import untrusted
from changen_cli.exports.master import Master, Sample, named, sample_of_cells, sample_of_row
from changen_cli.exports.reading import Row, identified, open_shard


class Lookup:
    """Where every sample of a dataset lies: in a table of a folder its line, in a Parquet file its row group.

    Memory grows by eight bytes per sample of a folder, and by nothing for Parquet.

    Args:
        master: The dataset.

    Raises:
        OutputError: A table cannot be read.
    """

    def __init__(self, master: Master) -> None:
        self._master = master
        folder = master.layout == "folder"
        self._starts = [list(named(_starts(table) if folder else _groups(table), table)) for table in master.tables]
        self._first = [0]
        for table, starts in zip(master.tables, self._starts, strict=True):
            rows = len(starts) if folder else open_shard(table).metadata.num_rows
            self._first.append(self._first[-1] + rows)

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, number: int) -> Sample:
        """The sample of this number, in the order of :meth:`Master.samples`, from 0.

        Raises:
            IndexError: There is none.
            OutputError: It cannot be read.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = bisect_right(self._first, number) - 1
        table, row = self._master.tables[which], number - self._first[which]
        read = _line if self._master.layout == "folder" else _cells
        return next(named(read(table, self._starts[which], row), table))


def _line(table: Path, starts: list[int], row: int) -> Iterator[Sample]:
    with table.open("rb") as file:
        file.seek(starts[row])
        found = untrusted.parse_json(file.readline(untrusted.LINE_BYTES).decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"row {row + 1} is no JSON object")
    yield sample_of_row(table.parent, identified(found))


def _cells(table: Path, starts: list[int], row: int) -> Iterator[Sample]:
    group = bisect_right(starts, row) - 1
    cells: Row = open_shard(table).read_row_group(group).slice(row - starts[group], 1).to_pylist()[0]
    yield sample_of_cells(identified(cells))


def _starts(table: Path) -> Iterator[int]:
    """The byte every line begins at."""
    position = 0
    for line in untrusted.read_lines(table):
        yield position
        position += len(line.encode("utf-8"))


def _groups(table: Path) -> Iterator[int]:
    """The row every row group begins with."""
    about = open_shard(table).metadata
    row = 0
    for group in range(about.num_row_groups):
        yield row
        row += about.row_group(group).num_rows
