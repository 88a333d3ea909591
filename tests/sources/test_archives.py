"""Archives: what honest ones hold is unpacked as it is, and of others nothing is."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.sources import archives
from changen_cli.sources.archives import unpack

Write = Callable[[Path, dict[str, bytes]], Path]


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo()
            info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED  # as given: the constructor cuts at NUL
            archive.writestr(info, data)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def listed(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, reason: str) -> None:
    folder = archive.parent / "cache" / "scenes"
    with pytest.raises(UsageError, match=reason) as caught:
        unpack(archive, folder)
    assert str(archive) in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not list((archive.parent / "cache").iterdir()), "something was left"


KINDS = [("a.zip", write_zip), ("a.tar", write_tar), ("a.tar.gz", write_tar), ("a.tgz", write_tar)]


@pytest.mark.parametrize(("name", "write"), KINDS)
def test_plain_archives(tmp_path: Path, name: str, write: Write) -> None:
    files = {
        "images/a.png": os.urandom(100_000), "./masks/a.png": b"", "deep/er/b ä.txt": b"x" * 512, f"{'n' * 150}/c": b"1",
    }  # fmt: skip
    hidden = {"__MACOSX/._a.png": b"fork", ".git/config": b"", "images/.DS_Store": b""}
    unpack(write(tmp_path / name, files | hidden), tmp_path / "out")
    assert listed(tmp_path / "out") == {name.removeprefix("./"): data for name, data in files.items()}
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_other_programs_pack(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    for number in range(50):
        path = source / f"images/{number}" / f"{'x' * (number + 1)}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(number * 37))
    kind = {"a.zip": "zip", "a.tar": "tar", "a.tar.gz": "gztar"}[name]
    shutil.make_archive(str(tmp_path / "a"), kind, source)
    unpack(tmp_path / name, tmp_path / "out")
    assert listed(tmp_path / "out") == listed(source)


@pytest.mark.parametrize(("name", "write"), KINDS[:3])
@pytest.mark.parametrize(
    "entry", ["../up.png", "a/../../up.png", "/tmp/up.png", "C:\\up.png", "c:up.png", "a\\..\\up.png", "a\nb.png"]
)
def test_no_name_leads_out(tmp_path: Path, name: str, write: Write, entry: str) -> None:
    refused(write(tmp_path / name, {"images/a.png": b"1", entry: b"2"}), "is no path inside its folder")
    assert not (tmp_path / "up.png").exists() and not Path("/tmp/up.png").exists()


@pytest.mark.parametrize(("name", "write"), KINDS[:3])
def test_a_name_is_there_once(tmp_path: Path, name: str, write: Write) -> None:
    refused(write(tmp_path / name, {"a/b.png": b"1", "./a/b.png": b"2"}), r"holds a/b\.png twice")
    refused(write(tmp_path / name, {"a": b"1", "a/b/c.png": b"2"}), "holds a.* twice, or below a file of")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_tars_hold_plain_files_only(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("images")
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
    refused(tmp_path / "a.tar", "holds 'images', a link or device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_zips_hold_plain_files_only(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("images")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc")
    refused(tmp_path / "a.zip", "holds 'images', a link or device")


@pytest.mark.parametrize(("name", "write"), KINDS[:3])
def test_bombs_are_stopped(tmp_path: Path, name: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_SMALL", 1 << 20)
    path = write(tmp_path / name, {"a.png": bytes(1 << 26)})
    if name == "a.tar":  # as large as what it holds
        unpack(path, tmp_path / "out")
        return
    refused(path, "unpacks to more than 200 times its size")
    monkeypatch.setattr(archives, "_RATIO", 10**9)
    monkeypatch.setattr(archives, "_KEPT_FREE", shutil.disk_usage(tmp_path).free - (1 << 25))
    refused(path, "more than the disk has room for")
    monkeypatch.setattr(archives, "MAX_ENTRIES", 5)
    refused(write(tmp_path / name, {str(number): b"" for number in range(50)}), "holds more than 5 entries")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.png": bytes(1 << 20)})
    data = bytearray(path.read_bytes())
    for start, offset in ((data.index(b"PK\x03\x04"), 22), (data.index(b"PK\x01\x02"), 24)):
        data[start + offset : start + offset + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "Bad CRC|cannot be unpacked")
    data = bytearray(write_zip(path, {"a.png": b"1"}).read_bytes())
    end = data.index(b"PK\x05\x06")
    data[end + 12 : end + 16] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "more than 2000000 entries")


def test_headers_of_gigabytes_are_not_read_into_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    with gzip.open(tmp_path / "a.tar.gz", "wb", 1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1 << 22))
    refused(tmp_path / "a.tar.gz", "headers of more than 1 MB")


@pytest.mark.parametrize(("name", "write"), KINDS[:3])
def test_every_truncation_is_noticed(tmp_path: Path, name: str, write: Write) -> None:
    path = write(tmp_path / name, {f"{number}.png": os.urandom(700) for number in range(5)})
    data = path.read_bytes()
    ends = sum(1 for byte in range(0, len(data), 97))
    noticed = 0
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        try:
            unpack(path, tmp_path / f"out{length}")
        except UsageError:
            noticed += 1
        else:  # only padding was lost
            assert len(listed(tmp_path / f"out{length}")) == 5
    assert noticed >= ends * 0.4
    if name != "a.tar":
        assert noticed == ends


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x05\x06", b"\x1f\x8b", b"\x1f\x8b\x08\0garbage", b"text" * 500, bytes(100)]
)
@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_what_is_no_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "cannot be unpacked")


def test_a_zip_entry_without_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", b"1")
        archive.infolist()[0].filename = ""
    refused(tmp_path / "a.zip", "holds an entry without a name")


def test_encrypted_and_foreign_zips(tmp_path: Path) -> None:
    data = bytearray(write_zip(tmp_path / "a.zip", {"a.png": b"1"}).read_bytes())
    locked = bytearray(data)
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(locked)
    refused(tmp_path / "a.zip", "is encrypted")
    for start, offset in ((data.index(b"PK\x03\x04"), 8), (data.index(b"PK\x01\x02"), 10)):
        data[start + offset] = 99
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", "compression")
