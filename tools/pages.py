"""Pages of docs/ that tools write from the code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def write_or_check(target: Path, render: Callable[[], str], arguments: list[str]) -> int:
    """Write a page; with ``--check``, only say whether it is up to date. Returns the exit code."""
    text = render()
    if "--check" in arguments:
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            return 0
        print(f"{target} is out of date: run `make docs`", file=sys.stderr)
        return 1
    target.write_text(text, encoding="utf-8")
    print(target)
    return 0
