"""Files on their way to the Hub: what they are there, how far they were read, and how they are cut into commits."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from changen_cli.core.files import sha256

Kind = Literal["dataset", "model"]
Addition: TypeAlias = Any
"""A ``CommitOperationAdd`` of huggingface_hub that knows whether its file is a large one; if so, it was sent."""
Told = Callable[[int], None]
"""Called with the position in the file that is being sent, in bytes."""

MAX_OPERATIONS = 99
"""Files of one commit: the Hub's advice is to stay below 100."""


@dataclass(frozen=True)
class Stored:
    """A large file, as the Hub knows it.

    Attributes:
        sha256: Hash of the content, hex.
        size: Bytes.
    """

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Stored:
        """Hash a file."""
        return cls(sha256(path), path.stat().st_size)


@dataclass(frozen=True)
class RemoteFile:
    """A file in the repository: its git id, and its hash where it is a large one."""

    oid: str
    sha256: str | None


class Counted(io.BufferedReader):
    """A file that tells how far it was read, and stops when asked to.

    Args:
        path: The file.
        told: Told the position.
        stop: Set to break off the reading.
    """

    def __init__(self, path: Path, told: Told, stop: threading.Event) -> None:
        super().__init__(io.FileIO(path))
        self._told, self._stop = told, stop

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on.

        Raises:
            InterruptedError: It is to stop.
        """
        if self._stop.is_set():
            raise InterruptedError("stopped")
        block = super().read(size)
        self._told(self.tell())
        return block


def _is_large(addition: Addition) -> bool:
    return bool(addition._upload_mode == "lfs")


def differences(
    additions: Sequence[Addition], deletions: Iterable[str], files: Mapping[str, RemoteFile]
) -> tuple[list[Any], list[Any], list[str]]:
    """Compare what is wanted with what is there.

    Args:
        additions: Operations of huggingface_hub, each with its upload mode.
        deletions: Files that should not be there.
        files: What is there.

    Returns:
        Large files to add, small files to add, files to delete.
    """
    large, small = [], []
    for item in additions:
        there = files.get(item.path_in_repo)
        if _is_large(item):
            if there is None or there.sha256 != item.upload_info.sha256.hex():
                large.append(item)
        elif not is_there(there, item.path_or_fileobj):
            small.append(item)
    return large, small, [path for path in deletions if path in files]


def is_there(file: RemoteFile | None, content: bytes) -> bool:
    """Whether a file of the repository has that content."""
    if file is None:
        return False
    if file.sha256:
        return file.sha256 == hashlib.sha256(content).hexdigest()
    return file.oid == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def batches(large: list[Any], small: list[Any], gone: list[str]) -> list[list[Any]]:
    """Cut operations into commits of at most :data:`MAX_OPERATIONS`.

    All in one where they fit; else large files first, then small ones together with what is to go.
    """
    from huggingface_hub import CommitOperationDelete

    deletions = [CommitOperationDelete(path, is_folder=False) for path in gone]
    room = MAX_OPERATIONS - len(small)
    full = [large[start : start + MAX_OPERATIONS] for start in range(0, max(0, len(large) - room), MAX_OPERATIONS)]
    rest = [*large[sum(map(len, full)) :], *small, *deletions]
    return [*full, *(rest[start : start + MAX_OPERATIONS] for start in range(0, len(rest), MAX_OPERATIONS))]
