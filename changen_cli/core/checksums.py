"""``OUT/checksums.sha256``: the SHA-256 of every file of a dataset, as ``sha256sum -c`` reads it.

Writers hash bytes on their way to disk, so nothing is read again for it. The manifest holds the hash of this file.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from changen_cli.core.errors import OutputError
from changen_cli.core.files import atomic_path
from changen_cli.core.untrusted import read_lines

FILE_NAME = "checksums.sha256"
_LINE_BYTES = 8192
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n?")


class HashingFile(io.RawIOBase):
    """A binary file that is written once, from front to back, and hashed on the way.

    Args:
        file: Where the bytes go; closed with this.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        """Bytes can be written."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Hash and write."""
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def hexdigest(self) -> str:
        """SHA-256 of what was written so far, as hex."""
        return self._digest.hexdigest()


def write_checksums(out: Path, digests: Iterable[tuple[str, str]]) -> Path:
    """Write ``OUT/checksums.sha256`` line by line, atomically.

    Args:
        out: The dataset folder.
        digests: Path below ``out`` with ``/``, and SHA-256 as hex, in the order they are written.
    """
    path = out / FILE_NAME
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{digest}  {name}\n" for name, digest in digests)
    return path


def read_checksums(path: Path) -> Iterator[tuple[str, str]]:
    """Yield what :func:`write_checksums` was given, line by line.

    Raises:
        OutputError: A line is no checksum.
    """
    number = 0
    try:
        for number, line in enumerate(read_lines(path, _LINE_BYTES, "surrogateescape"), 1):
            match = _LINE.fullmatch(line)
            if not match:
                raise OutputError(f"{path}, line {number} is no checksum", "Make the dataset again")
            yield match[2], match[1]
    except ValueError:
        raise OutputError(f"{path}, line {number + 1} is no checksum", "Make the dataset again") from None
