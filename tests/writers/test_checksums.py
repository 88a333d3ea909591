"""``checksums.sha256``: every file of a dataset, hashed on its way to disk, as coreutils read it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from changen_cli.core.checksums import HashingFile, read_checksums, write_checksums
from changen_cli.core.errors import OutputError
from changen_cli.writers import open_writer
from changen_cli.writers.classes import write_classes


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_every_file_is_listed_with_the_hash_of_its_bytes(make, schema, tmp_path, layout):
    write_classes(tmp_path, schema)
    # Two runs into one folder: what the first one stored is closed by the second.
    open_writer(layout, tmp_path, schema).write(make(2, dates=3, split="val"))
    writer = open_writer(layout, tmp_path, schema)
    writer.write(make(1, dates=3))
    writer.close()
    listed = list(read_checksums(tmp_path / "checksums.sha256"))
    there = {
        path.relative_to(tmp_path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "checksums.sha256"
    }
    assert dict(listed) == there and len(listed) == len(there) == (29 if layout == "folder" else 3)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")
def test_coreutils_read_it(make, schema, tmp_path):
    writer = open_writer("folder", tmp_path, schema)
    writer.write(make(1))
    writer.close()
    check = ["sha256sum", "--check", "--strict", "--quiet", "checksums.sha256"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    with (tmp_path / "train/events/scene1_v0.jsonl").open("a") as file:
        file.write("\n")
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "train/events/scene1_v0.jsonl: FAILED\n"


def test_a_hashing_file_counts_and_hashes_what_goes_through(tmp_path):
    with HashingFile((tmp_path / "a").open("wb")) as file:
        assert [file.write(b"abc"), file.write(b""), file.write(memoryview(b"de"))] == [3, 0, 2]
        assert file.tell() == 5
        assert file.hexdigest() == hashlib.sha256(b"abcde").hexdigest()
    assert (tmp_path / "a").read_bytes() == b"abcde"


def test_a_broken_list_is_refused(tmp_path):
    path = write_checksums(tmp_path, [("a b.png", "0" * 64), ("ä", "f" * 64)])
    assert list(read_checksums(path)) == [("a b.png", "0" * 64), ("ä", "f" * 64)]
    path.write_text(path.read_text() + "half a li")
    with pytest.raises(OutputError, match="line 3 is no checksum"):
        list(read_checksums(path))
