"""What the quality gate turned down, for the report: pictures of the first attempts, with their reasons."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changen_cli.core.untrusted import read_bytes
from changen_cli.workflows.rejects import FOLDER, MAX_PICTURES

_NAME = re.compile(r"(?P<id>.{1,200})_a(?P<attempt>\d{1,3})_(?P<reason>[a-z]{1,20})\.jpg")
_PICTURE_BYTES, _ALL_BYTES = 200_000, 2_000_000
_JPEG = b"\xff\xd8\xff"


def rejects(out: Path) -> list[dict[str, Any]]:
    """Sample, attempt, reason and picture (a data address) of rejected attempts, by name; at most two megabytes.

    Args:
        out: The dataset. Without pictures of rejects the list is empty; files that are no such pictures are left out.
    """
    found, left = [], _ALL_BYTES
    for match, path in _pictures(out / FOLDER):
        try:
            data = read_bytes(path, _PICTURE_BYTES)
        except (OSError, ValueError):
            continue
        left -= len(data)
        if left < 0:
            break
        if data.startswith(_JPEG):
            picture = f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
            attempt = int(match["attempt"])
            found.append({"id": match["id"], "attempt": attempt, "reason": match["reason"], "picture": picture})
    return found


def _pictures(folder: Path) -> Iterator[tuple[re.Match[str], Path]]:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    for match in matches[:MAX_PICTURES]:
        path = folder / match[0]
        if not path.is_symlink():
            yield match, path
