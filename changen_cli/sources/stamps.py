"""Whether a source file is still the one it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from changen_cli.core.untrusted import open_regular
from changen_cli.sources.candidates import Candidate


class Stamp(NamedTuple):
    """An image with its label, as it was when it was read.

    Attributes:
        size: Bytes of both.
        mtime_ns: When the later of the two was changed.
        sha256: Hash of both, one after the other; empty where nobody looked inside.
    """

    size: int
    mtime_ns: int
    sha256: str = ""


def look(candidate: Candidate) -> Stamp:
    """Size and time of an image and its label; zeros where a file is not there."""
    size = mtime_ns = 0
    for path in candidate.files:
        try:
            status = os.stat(path)
        except OSError:
            continue
        if S_ISREG(status.st_mode):
            size, mtime_ns = size + status.st_size, max(mtime_ns, status.st_mtime_ns)
    return Stamp(size, mtime_ns)


def stamp(candidate: Candidate) -> Stamp:
    """Size, time and hash of an image and its label. What cannot be read is left out: reading it tells why."""
    seen, digest = look(candidate), hashlib.sha256()
    for path in map(Path, candidate.files):
        try:
            with open_regular(path) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except (OSError, ValueError):
            continue
    return seen._replace(sha256=digest.hexdigest())


def is_untouched(candidate: Candidate, before: Stamp) -> bool:
    """Whether an image and its label have the size and time of before; neither is read."""
    return look(candidate)[:2] == before[:2]


def is_same(candidate: Candidate, before: Stamp) -> bool:
    """Whether an image and its label are those of before; they are only read where size or time differ."""
    if is_untouched(candidate, before):
        return True
    return bool(before.sha256) and look(candidate).size == before.size and stamp(candidate).sha256 == before.sha256
