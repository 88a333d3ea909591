"""One tree of errors. Each carries the exit code the command line ends with."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from changen_cli.core.secrets import masked

_LONGEST = 1500


def one_line(text: str) -> str:
    """A message as a terminal and a manifest can take it, whatever names and values of others it repeats."""
    text = masked(text)
    text = " ".join(text.split()) if "\n" in text or "\r" in text else text
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 500]} … {text[-490:]}"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class ChangenError(Exception):
    """A failure the user can act on: one line naming the file, the reason and the fix.

    What cannot be printed, such as the escapes that steer a terminal, is written out; tokens are not shown; long texts
    are cut.

    Args:
        message: What is wrong, naming the file or option.
        fix: What to do about it; appended to the message.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(one_line(f"{message}. {fix}".rstrip() if fix else message))


class UsageError(ChangenError):
    """The request itself cannot be carried out: bad option, bad recipe, unsupported input."""

    exit_code = 2


class SceneError(ChangenError):
    """One scene cannot be read. The run records it as a skip and goes on."""


class BrokenImageError(SceneError):
    """What a model drew holds values that are no numbers."""


class ModelError(ChangenError):
    """A model cannot be found, read or used."""


class OutputError(ChangenError):
    """The output folder cannot be written as asked."""


class IncompleteError(ChangenError):
    """The run ended, but too much of what was asked for could not be made."""

    exit_code = 3


class LockedError(ChangenError):
    """Another run is writing to the output folder."""

    exit_code = 4


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say of a disk that is full or may not be written to which folder is meant, and what to do.

    The system's own message names a file at best, and none where a file that is open already cannot grow.

    Args:
        folder: Where the block writes to.

    Raises:
        OutputError: The disk is full, the user's share of it is, or it is read-only; other errors pass as they are.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = "Make room and run the same command again: what is finished is kept"
        elif error.errno == errno.EROFS:
            fix = "Make it writable, or choose another --output"
        else:
            raise
        raise OutputError(f"{folder} cannot be written to: {error.strerror}", fix) from error
