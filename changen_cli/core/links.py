"""Links in a dataset folder that somebody else may have prepared: what is written there must not land elsewhere.

Files appear in a dataset by rename, which replaces a link instead of following it. Folders are followed, and so are the
few files that are opened to write. Who can change the folder while a run writes to it could do so anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from changen_cli.core.errors import OutputError

_FILES = frozenset(("manifest.json", "classes.json", "README.md", "preview.png", "checksums.sha256", "evaluation.json"))
_FOLDERS = frozenset(("train", "data", "shards", "rejected", ".staging", ".push", ".probe"))


def refuse_links(out: Path) -> None:
    """Check the places of a dataset folder that are read as a whole or written to; the folder itself may be a link.

    Raises:
        OutputError: One of them is a link that leads out of the folder.
        OSError: It cannot be listed.
    """
    for path in _links(out) if out.is_dir() else ():
        if not _leads_inside(path, out):
            name = path.relative_to(out).as_posix()
            raise OutputError(
                f"{out}: {name} is a link that leads out of the folder", "Put what it leads to in its place"
            )


def _links(out: Path) -> Iterator[Path]:
    with os.scandir(out) as entries:
        own = [
            entry
            for entry in entries
            if entry.name in _FILES or _is_folder(entry) or entry.name.startswith(("run.log", ".lock"))
        ]
    for entry in own:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir():
            yield from _below(Path(entry.path), deep=entry.name == ".staging")


def _below(folder: Path, *, deep: bool) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield Path(entry.path)
            elif deep and entry.is_dir():
                yield from _below(Path(entry.path), deep=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.name in _FOLDERS or os.path.lexists(os.path.join(entry.path, "metadata.jsonl"))


def _leads_inside(path: Path, out: Path) -> bool:
    try:
        return path.resolve().is_relative_to(out.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False
