"""What a check of a dataset finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Problem = tuple[str, str]
"""What is wrong with a file, and what to do about it."""

_LONGEST = 160


@dataclass(frozen=True)
class Finding:
    """One thing wrong with one file.

    Attributes:
        file: Path relative to the folder that is checked; ``.`` for the folder itself.
        message: What is wrong.
        fix: What to do about it.
        severity: An ``error`` breaks a reader or a promise; a ``warning`` is worth a look.
    """

    file: str
    message: str
    fix: str = ""
    severity: Literal["error", "warning"] = "error"


def one_line(error: BaseException, path: Path | None = None) -> str:
    """The message of an error on one line, without the file it is about."""
    text = str(error) if path is None else str(error).replace(str(path), "")
    return " ".join(text.split())[:_LONGEST] or type(error).__name__


def guarded(problems: Iterator[Problem], what: str, fix: str) -> Iterator[Problem]:
    """Problems found in content that may be anything: where it cannot even be looked at, that is the problem.

    Args:
        problems: What a check yields; it takes the content for what it should be.
        what: What is looked at.
        fix: How it should be.
    """
    try:
        yield from problems
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        yield f"{what} is not as it should be: {one_line(error)}", fix
