"""Reading what others wrote: text within bounds, JSON that ends, names that stay inside their folder.

Every function here raises ValueError with a reason that reads well after a file's name; callers make the error of it
that fits: a skip, a bad request, a broken dataset.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

JSON_BYTES = 1 << 28
"""The event log of a long series has tens of megabytes."""
LINE_BYTES = 1 << 24
"""One row of a table."""
_MAX_NAME, _MAX_PATH = 200, 2000
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PLAIN_PATH = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read; what is none would never end, or never begin.

    Raises:
        ValueError: It is something else.
        OSError: It cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        raise ValueError("is no file but a folder, a pipe or a device")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path, limit: int = JSON_BYTES, errors: str = "strict") -> str:
    """Read a UTF-8 file of at most ``limit`` bytes.

    Args:
        path: The file.
        limit: More bytes are not read.
        errors: What to do with bytes that are no UTF-8, as for ``bytes.decode``.

    Raises:
        ValueError: It is larger, no UTF-8, or no file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"is larger than {limit / 1e6:.0f} MB, and not read")
    return data.decode("utf-8", errors)


def read_lines(path: Path, limit: int = LINE_BYTES, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a UTF-8 file, of at most ``limit`` bytes each.

    Raises:
        ValueError: A line is longer, or no UTF-8, or it is no file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        while line := file.readline(limit + 1):
            if len(line) > limit:
                raise ValueError(f"has a line of more than {limit / 1e6:.0f} MB")
            yield line.decode("utf-8", errors)


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file; raises as :func:`read_text` and :func:`parse_json`."""
    return parse_json(read_text(path, limit))


def readable_text(value: Any, limit: int = 200) -> str:
    """Return a label's text as it can be stored anywhere: valid UTF-8, on one line, of at most ``limit`` characters."""
    text = str(value) if isinstance(value, str | int | float) else type(value).__name__
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "_" for letter in text[:limit])


def is_plain_name(name: Any) -> bool:
    """Whether a text can be the name of a file or folder, and of nothing elsewhere: no separator, no leading dot."""
    if isinstance(name, str) and len(name) <= _MAX_NAME and _PLAIN.fullmatch(name):
        return True  # as nearly all are
    try:
        return "/" not in relative_name(name) and name[0] != "." and len(name) <= _MAX_NAME
    except ValueError:
        return False


def relative_name(name: Any) -> str:
    """Return ``name`` if it is the path of something inside a folder, on every system.

    Raises:
        ValueError: It is empty, absolute, has a drive letter, a backslash or a NUL, is no UTF-8, is longer than systems
            allow, or leads out by ``..``.
    """
    if not isinstance(name, str):
        raise ValueError(f"{str(name)[:80]!r} is no file name")
    if len(name) <= _MAX_NAME and _PLAIN_PATH.fullmatch(name):
        return name  # as nearly all are
    path = PurePosixPath(name)
    bad = not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive
    written = name.encode("utf-8", "surrogatepass")
    long = len(written) > _MAX_PATH or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in path.parts)
    if bad or long or any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"{name[:80]!r} is no path inside its folder")
    return name


def inside(root: Path, name: Any) -> Path:
    """Return the path of a file that a table, a list or a label names, below the folder it belongs to.

    Args:
        root: The folder.
        name: What is named, with ``/``.

    Raises:
        ValueError: It lies outside, by its name or by a link.
    """
    path = root / relative_name(name)
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"{name!r} is a link that leads out of its folder: put the file in its place")
    except (OSError, RuntimeError):  # a link to itself
        raise ValueError(f"{name!r} is a link that leads nowhere") from None
    return path
