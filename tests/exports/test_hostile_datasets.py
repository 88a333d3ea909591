"""Datasets somebody else made: no name in them leads out of their folder, and whatever they hold ends with one line."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from changen_cli.core.errors import ChangenError
from changen_cli.exports.cards import read_front
from changen_cli.exports.check_master import check_master
from changen_cli.exports.coco_check import check_coco
from changen_cli.exports.master import open_master
from changen_cli.exports.reading import decode
from changen_cli.exports.stac_check import check_stac
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

OUTSIDE = ("../../secret.png", "/etc/hostname", "..\\..\\secret.png", "C:\\secret.png", "a\0b.png", 7, ["a"])
FILES = ("t1_image_file_name", "t2_mask_file_name", "change_mask_file_name", "events_file", "objects_file")


@pytest.fixture
def dataset(made, tmp_path: Path) -> Path:
    (tmp_path / "secret.png").write_bytes(b"secret")
    return shutil.copytree(made("pairs"), tmp_path / "out")


def change_row(dataset: Path, **values) -> None:
    table = dataset / "train" / "metadata.jsonl"
    first, *others = table.read_text().splitlines()
    table.write_text("\n".join([json.dumps(json.loads(first) | values), *others]) + "\n")


def refused(dataset: Path, target: Path, reason: str) -> None:
    for layout in ("whu-cd", "webdataset"):
        with pytest.raises(ChangenError, match=reason) as caught:
            export(dataset, target, layout=layout, progress=Silent())
        assert len(str(caught.value).splitlines()) == 1
        assert not target.exists()


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("column", FILES)
def test_files_of_rows_lie_in_the_dataset(dataset: Path, tmp_path: Path, column: str, name: object) -> None:
    change_row(dataset, **{column: name})
    refused(dataset, tmp_path / "export", r"metadata\.jsonl cannot be read: .* is no (path inside|file name)")
    assert list(check_master(dataset))


@pytest.mark.parametrize("column", ["image_name", "split"])
@pytest.mark.parametrize("name", ["../../up", "/tmp/up", ".hidden", "", None, "x" * 500])
def test_names_of_samples_and_splits_stay_names(dataset: Path, tmp_path: Path, column: str, name: object) -> None:
    change_row(dataset, **{column: name})
    refused(dataset, tmp_path / "export", "cannot be the name of a file")
    assert any(finding.file == "train/metadata.jsonl" for finding in check_master(dataset))
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    "row", [{"dates": 10**9}, {"dates": "2"}, {"dates": -1}, {"group": None}, {"t1_mask_file_name": 0}]
)
def test_rows_that_make_no_sense(dataset: Path, tmp_path: Path, row: dict) -> None:
    change_row(dataset, **row)
    with pytest.raises(ChangenError, match="Run changen validate"):
        export(dataset, tmp_path / "export", layout="whu-cd", progress=Silent())
    assert list(check_master(dataset))


@pytest.mark.parametrize("kind", ["images", "events"])
def test_a_link_out_of_the_dataset_is_not_followed(dataset: Path, tmp_path: Path, kind: str) -> None:
    path = sorted((dataset / "train" / kind).iterdir())[0]
    path.unlink()
    path.symlink_to(tmp_path / "secret.png")
    refused(dataset, tmp_path / "export", "is a link that leads out of its folder")
    assert any(finding.file == f"train/{kind}/{path.name}" for finding in check_master(dataset))


def test_checksums_name_files_of_the_dataset(dataset: Path) -> None:
    with (dataset / "checksums.sha256").open("a") as file:
        file.write(f"{'0' * 64}  ../secret.png\n{'0' * 64}  /dev/zero\n")
    found = [finding.message for finding in check_master(dataset) if "tampered" in finding.fix]
    assert len(found) == 2 and all("is no path inside its folder" in message for message in found)


@pytest.mark.parametrize("content", ["[" * 100_000, "3", "[]", "{", '{"classes": 3}', "null"])
@pytest.mark.parametrize("name", ["manifest.json", "classes.json"])
def test_tables_of_a_dataset_that_are_no_such(dataset: Path, name: str, content: str) -> None:
    (dataset / name).write_text(content)
    with pytest.raises(ChangenError):
        open_master(dataset)
    assert any(finding.file == name for finding in check_master(dataset))


def test_the_event_log_may_hold_anything(dataset: Path, tmp_path: Path) -> None:
    log = sorted((dataset / "train" / "events").iterdir())[0]
    for text in ("[" * 100_000, "3\n", '{"kind": 1}\n' * 3, "\0", '[{"a": [NaN]}]'):
        log.write_text(text)
        for layout in ("whu-cd", "xbd"):
            try:
                export(dataset, tmp_path / "export", layout=layout, progress=Silent(), overwrite=True)
            except ChangenError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017 some layouts need no events
        assert any(finding.file.endswith(log.name) for finding in check_master(dataset))


def test_postscript_called_png_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript; here a stand-in for it would leave a trace."""
    trace, program = tmp_path / "trace", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(ValueError, match="cannot identify"):
        decode(script)
    assert not trace.exists()


def test_bombs_in_a_dataset_are_findings(dataset: Path) -> None:
    import struct
    import zlib

    path = sorted((dataset / "train" / "masks").iterdir())[0]
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert any("could be decompression bomb" in finding.message for finding in check_master(dataset))


@pytest.mark.parametrize("kind", ["masks", "events", "objects"])
def test_a_pipe_in_a_dataset_is_not_waited_for(dataset: Path, tmp_path: Path, kind: str) -> None:
    path = sorted((dataset / "train" / kind).iterdir())[0]
    path.unlink()
    os.mkfifo(path)
    assert any(finding.file.endswith(path.name) for finding in check_master(dataset))
    with pytest.raises(ChangenError):
        export(dataset, tmp_path / "export", layout="webdataset", progress=Silent())
    with pytest.raises(ValueError, match="is no file but a folder, a pipe or a device"):
        decode(path)


def test_catalogues_and_annotations_lead_to_files_of_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    images = [{"id": 1, "file_name": name, "width": 8, "height": 8} for name in ("../secret.png", "/etc/hostname")]
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    assert sum("is no path inside its folder" in finding.message for finding in check_coco(root)) == 2
    base = {"stac_version": "1.1.0", "id": "a", "description": "a", "type": "Catalog"}
    for href in ("../secret.json", "/etc/hostname", "a/../../secret.json", "a\0b"):
        (root / "catalog.json").write_text(json.dumps(base | {"links": [{"rel": "child", "href": href}]}))
        assert [finding.message[:26] for finding in check_stac(root)] == ["leads out of the catalogue"]


def test_a_card_that_takes_minutes_to_read_has_no_front_matter(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert read_front(tmp_path / "README.md") == {"license": "mit"}
    (tmp_path / "README.md").write_text(f"---\nlicense: mit\na: [{'a,a:' * 100_000}]\n---\n")
    started = time.perf_counter()
    assert read_front(tmp_path / "README.md") == {}
    assert time.perf_counter() - started < 2
