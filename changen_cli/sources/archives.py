"""Archives as inputs: ``.zip``, ``.tar`` and ``.tar.gz`` are unpacked into a folder, which is then read like any other.

Whoever made an archive may want it to write elsewhere, to fill the disk, or to fill the memory. Only plain files and
folders are unpacked, below the folder meant for them; sizes are bounded before and while they are written; and one
entry that is not as it should be refuses the whole archive, because a part of it would pass for all.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from changen_cli.core.archives import is_archive
from changen_cli.core.errors import UsageError
from changen_cli.core.untrusted import relative_name

__all__ = ["is_archive", "unpack"]

MAX_ENTRIES = 2_000_000
_RATIO, _SMALL = 200, 1 << 30
"""What is unpacked may be a gigabyte, or so many times as large as the archive."""
_KEPT_FREE = 1 << 28
_HEADER_BYTES = 1 << 20
"""Names and other headers between two files of a tar."""
_BLOCK = 1 << 18
_FIX = "Unpack it yourself, look at it, and give the folder"
_BROKEN = (
    EOFError, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, NotImplementedError, RuntimeError,
    ValueError, struct.error, OverflowError,
)  # fmt: skip

Entry = tuple[str, IO[bytes] | None]
"""Name and content of a file; no content for a folder."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder that does not exist, or leave nothing.

    Hidden files are left out: they would not be read.

    Args:
        archive: The archive; what kind it is follows its content.
        folder: The folder to make.

    Raises:
        UsageError: The archive is broken, larger than allowed or than the disk, encrypted, or holds links, devices,
            names that lead out of it, or one name twice.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        _unpack(archive, partial)
        partial.rename(folder)
    except _BROKEN as error:
        reason = " ".join(str(error).split()).rstrip(".") or "it ends early"
        raise UsageError(f"{archive} cannot be unpacked: {reason}", _FIX) from error
    except (FileExistsError, NotADirectoryError) as error:
        name = os.path.relpath(str(error.filename), partial)
        raise UsageError(f"{archive} holds {name} twice, or below a file of that name", _FIX) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{archive} cannot be unpacked into {folder.parent}: {reason}", _FIX) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Budget:
    """What may still be unpacked."""

    def __init__(self, archive: Path, folder: Path) -> None:
        size, free = archive.stat().st_size, shutil.disk_usage(folder).free
        self._entries = MAX_ENTRIES
        self._disk = max(0, free - _KEPT_FREE)
        self._bytes = _SMALL + _RATIO * size

    def entry(self) -> None:
        """Take one entry."""
        self._entries -= 1
        if self._entries < 0:
            raise ValueError(f"it holds more than {MAX_ENTRIES} entries")

    def take(self, count: int) -> None:
        """Take some bytes."""
        self._bytes -= count
        self._disk -= count
        if self._bytes < 0:
            raise ValueError(f"it unpacks to more than {_RATIO} times its size")
        if self._disk < 0:
            raise ValueError("it unpacks to more than the disk has room for")


def _unpack(archive: Path, folder: Path) -> None:
    budget = _Budget(archive, folder)
    with archive.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        entries = _zip_entries(file, budget) if head[:2] == b"PK" else _tar_entries(file, head, budget)
        for name, content in entries:
            budget.entry()
            path = PurePosixPath(name)
            if not path.parts:  # "./"
                continue
            relative_name(name)
            if any(part.startswith(".") for part in path.parts):
                continue
            target = folder / path
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as copy:
                shutil.copyfileobj(content, copy, _BLOCK)


def _zip_entries(file: IO[bytes], budget: _Budget) -> Iterator[Entry]:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            budget.take(info.file_size)
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"it holds {info.filename[:80]!r}, a link or device")
            if not info.filename:  # zipfile itself fails on it
                raise ValueError("it holds an entry without a name")
            if info.flag_bits & 1:
                raise ValueError("it is encrypted")
            if info.is_dir():
                yield info.filename, None
                continue
            with archive.open(info) as content:
                yield info.filename, content


def _check_directory(file: IO[bytes]) -> None:
    """Bound the list of entries, which ``zipfile`` reads as a whole, by the size its end states."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end < 22:
        raise ValueError("it is no whole zip file: its end is missing")
    length = int(struct.unpack("<I", tail[end + 12 : end + 16])[0])
    locator = tail[end - 20 : end] if end >= 20 else b""
    if locator.startswith(b"PK\x06\x07"):
        file.seek(min(size, struct.unpack("<Q", locator[8:16])[0]))
        record = file.read(56)
        length = max(length if length < 2**32 - 1 else 0, struct.unpack("<Q", record[40:48])[0])
    # An entry has 46 bytes and its name.
    if length > 46 * MAX_ENTRIES * 2:
        raise ValueError(f"it holds more than {MAX_ENTRIES} entries")
    file.seek(0)


class _Stream:
    """A tar, read once from front to back.

    ``tarfile`` reads headers as long as they say they are, into memory; here a read ends where it may.

    Attributes:
        allowance: So many bytes may be read before the next entry.
        last: The bytes read last.
    """

    def __init__(self, file: Any, budget: _Budget) -> None:
        self._file, self._budget, self._at = file, budget, 0
        self.allowance = _HEADER_BYTES
        self.last = b""

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        if not 0 <= size <= self.allowance:
            raise ValueError(f"it has headers of more than {_HEADER_BYTES >> 20} MB")
        self.last = self._file.read(size)
        self._at += len(self.last)
        self.allowance -= len(self.last)
        self._budget.take(len(self.last))
        return bytes(self.last)

    def tell(self) -> int:
        """Bytes read and passed over."""
        return self._at

    def seek(self, position: int, whence: int = 0) -> int:
        """Pass over what lies before ``position``."""
        while self._at < position and (data := self._file.read(min(_BLOCK, position - self._at))):
            self._at += len(data)
            self._budget.take(len(data))
        return self._at

    def close(self) -> None:
        """Left to who opened it."""


def _tar_entries(file: IO[bytes], head: bytes, budget: _Budget) -> Iterator[Entry]:
    plain = gzip.GzipFile(fileobj=file) if head[:2] == b"\x1f\x8b" else file
    stream = _Stream(plain, budget)
    with tarfile.TarFile(fileobj=stream, mode="r") as archive:  # type: ignore[arg-type]
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if member.isdir():
                yield member.name, None
            elif not member.isreg() or member.issparse():
                raise ValueError(f"it holds {member.name[:80]!r}, a link or device")
            else:
                stream.allowance = member.size + _HEADER_BYTES
                with archive.extractfile(member) as content:  # type: ignore[union-attr]
                    yield member.name, content
                if stream.tell() < member.offset_data + member.size:
                    _pass_over(stream, member)
            stream.allowance = _HEADER_BYTES
    if len(stream.last) != tarfile.BLOCKSIZE or any(stream.last):  # tarfile takes any other end for the end
        raise ValueError(f"it is broken or cut off at byte {stream.tell()}")


def _pass_over(stream: _Stream, member: tarfile.TarInfo) -> None:
    stream.seek(member.offset_data + member.size)
    if stream.tell() < member.offset_data + member.size:
        raise ValueError("it ends early")
