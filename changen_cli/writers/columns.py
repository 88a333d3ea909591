"""Uniform columns: what readers of tables need, found in one pass over the rows and applied in another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]


class Columns:
    """The keys of all rows, in order, and the type of each column. Memory does not grow with the rows.

    Table readers infer a column's type from its first rows: a key that comes later, or an int among floats, makes the
    whole dataset unreadable.

    Args:
        rows: All rows, gone through once.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.count = 0
        self._seen: Counter[str] = Counter()
        self._kinds: dict[str, set[type]] = {}
        self._filled: dict[str, set[str]] = {}
        self.splits: dict[str, int] = {}
        for row in rows:
            self.count += 1
            split = str(row.get("split", ""))
            self.splits[split] = self.splits.get(split, 0) + 1
            self._seen.update(row.keys())
            for key, value in row.items():
                if value is not None:
                    self._kinds.setdefault(key, set()).add(type(value))
                    self._filled.setdefault(key, set()).add(split)
        # Keys that only some samples have must not depend on which of them comes first.
        self.keys = [key for key, times in self._seen.items() if times == self.count]
        self.keys += sorted(key for key, times in self._seen.items() if times < self.count)
        self._casts = {key: cast for key, kinds in self._kinds.items() if (cast := _cast(kinds))}

    def unreadable(self) -> list[str]:
        """Columns that are empty throughout one split but not in another: readers infer types per split."""
        return sorted(key for key in self.keys if 0 < len(self._filled.get(key, ())) < len(self.splits))

    def unify(self, row: Row) -> Row:
        """Return a row with all keys: None where it lacks one, ints as floats, mixed kinds as text."""
        unified = {key: row.get(key) for key in self.keys}
        for key, cast in self._casts.items():
            if unified.get(key) is not None:
                unified[key] = cast(unified[key])
        return unified


def _cast(kinds: set[type]) -> Callable[[Any], Any] | None:
    """What makes all values of a column one kind; None where they are."""
    if len(kinds) == 1 and kinds <= {bool, int, float, str, list}:
        return None
    return float if kinds <= {int, float} else _text


def unify(rows: Sequence[Row]) -> list[Row]:
    """Give all rows the same keys in the same order and each column one type; see :class:`Columns`."""
    columns = Columns(rows)
    return [columns.unify(row) for row in rows]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
