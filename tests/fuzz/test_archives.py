"""Archives: nothing is written outside, and what is refused leaves nothing."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.errors import UsageError
from changen_cli.sources.archives import unpack

from .mutations import examples, refusing, spoilt_bytes


@cache
def seeds() -> dict[str, bytes]:
    """One of each kind."""
    names = {"images/a.png": b"1" * 700, "masks/" + "b" * 120 + ".png": b"2" * 512, "c/": b""}
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(data))
    return {"a.zip": zipped.getvalue(), "a.tar": tarred.getvalue()[:6144], "a.tgz": tarred.getvalue()[:6144]}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@examples
@given(draw=st.data())
def test_an_archive_is_unpacked_or_refused(tmp_path_factory, name: str, draw: st.DataObject) -> None:
    root: Path = tmp_path_factory.getbasetemp() / "archives"
    shutil.rmtree(root, ignore_errors=True)
    (root / "in").mkdir(parents=True)
    data = draw.draw(spoilt_bytes(seeds()[name], edges=300))
    (root / "in" / name).write_bytes(gzip.compress(data, 1) if name == "a.tgz" else data)
    with refusing(UsageError):
        unpack(root / "in" / name, root / "out" / "a")
    assert {path.name for path in root.iterdir()} <= {"in", "out"}
    assert [path.name for path in (root / "in").iterdir()] == [name]
    assert [path.name for path in (root / "out").iterdir()] in ([], ["a"])
    assert all(path.is_file() or path.is_dir() for path in root.rglob("*")) and not any(
        p.is_symlink() for p in root.rglob("*")
    )
