"""What a check of a dataset finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
