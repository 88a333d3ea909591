"""Rows of the tables and logs of a dataset, checked before any of their names becomes that of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changen_cli.core.errors import OutputError
from changen_cli.core.untrusted import is_plain_name, parse_json, read_lines

Row = dict[str, Any]
MAX_DATES = 65
"""Dates of the longest series a recipe can ask for."""


def unreadable(what: Path | str, error: Exception) -> OutputError:
    """The error of a dataset's file that is not what it should be."""
    reason = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
    return OutputError(f"{what} cannot be read: {reason}", "Run changen validate on the dataset")


def parse_rows(text: str) -> list[Row]:
    """Parse an event log: JSON Lines, or a JSON array.

    Raises:
        ValueError: It is neither, or holds something else than objects.
    """
    rows = parse_json(text) if text.startswith("[") else [parse_json(line) for line in text.splitlines()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("it holds something that is no event")
    return list(rows)


def checked_row(table: Path | str, row: Any) -> Row:
    """Return a row whose names may become those of files and folders.

    Args:
        table: Where it stands, for the message.
        row: What stands there.

    Raises:
        OutputError: They may not, or it is no row.
    """
    try:
        for key in ("image_name", "split"):
            if not is_plain_name(row[key]):
                raise ValueError(f"{key} {str(row[key])[:80]!r} cannot be the name of a file")
        if type(row["dates"]) is not int or not 1 < row["dates"] <= MAX_DATES:
            raise ValueError(f"a series has 2 to {MAX_DATES} dates")
        if not isinstance(row["group"], str):
            raise ValueError("its group is no text")
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(table, error) from None
    return dict(row)


def read_rows(table: Path) -> Iterator[tuple[int, Row]]:
    """Yield number, from 1, and content of the rows of a ``metadata.jsonl``.

    Raises:
        OutputError: One is no row, or cannot be read.
    """
    number = 0
    try:
        for number, line in enumerate(read_lines(table), 1):
            yield number, checked_row(f"{table}, line {number}", parse_json(line))
    except ValueError as error:
        raise unreadable(f"{table}, line {max(1, number)}", error) from None
