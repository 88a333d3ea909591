"""Files that appear under their final name only when complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; on success flush it to disk and rename it into place.

    The temporary name keeps the suffix (image libraries choose the format by it) and starts with a dot.
    On any error the temporary file is removed and ``path`` is left as it was.

    Args:
        path: The file.
        durable: Whether it is to survive a power cut; a process that is killed leaves it in any case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    partial.unlink(missing_ok=True)  # a link that waits there would be written through
    try:
        yield partial
        if durable:
            flush_to_disk([partial])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def flush_to_disk(paths: Iterable[Path]) -> None:
    """Wait until files, or the names in folders, are where a power cut leaves them."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write ``text`` as UTF-8, atomically; see :func:`atomic_path`."""
    with atomic_path(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex, reading it in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
