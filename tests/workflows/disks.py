"""A small disk of its own, which can be full or read-only, and what a dataset on it must look like whatever happened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from changen_cli.core.files import sha256
from changen_cli.core.shards import read_shards, rows_path


class Disk:
    """A tmpfs. Root writes wherever modes allow it or not, so that a full or read-only disk needs a real one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        """Change its ``size=…``, ``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True, capture_output=True)

    def clear(self) -> None:
        """Remove everything on it."""
        subprocess.run(["find", str(self.path), "-mindepth", "1", "-delete"], check=True)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Disk]:
    """Mount it; where that is not allowed the test is skipped."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "changen-test", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if mounted.returncode:
        pytest.skip(f"a disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def check_sound(out: Path) -> int:
    """Check that every file of every recorded sample is what was written; returns how many samples are recorded."""
    samples = 0
    for record in read_shards(out):
        path = rows_path(out, record.number)
        assert sha256(path) == record.rows
        for line in path.read_text().splitlines():
            samples += 1
            for name, digest in json.loads(line)["_sha256"].items():
                if not name.startswith(".staging") or (out / ".staging").is_dir():
                    assert sha256(out / name) == digest, name
    return samples
