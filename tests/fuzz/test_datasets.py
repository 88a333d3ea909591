"""Datasets made by changen, as somebody else may hand them on: manifest, class table, rows, logs, checksums."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.manifest import read_manifest
from changen_cli.exports.check_master import check_master
from changen_cli.exports.master import open_master

from .mutations import as_json, examples, refusing, spoilt, spoilt_bytes

Spoil = Callable[[str, bytes], Path]


def read_all(folder: Path) -> None:
    """Everything an export reads; a check ends with findings, whatever it finds."""
    with refusing():
        master = open_master(folder)
        list(master.rows())
        list(master.logs())
        for sample in master.samples():
            for part in (*sample.images, *sample.masks, *sample.changes, *sample.instances):
                assert part.path is not None and part.path.resolve().is_relative_to(folder.resolve())
            assert isinstance(sample.events, list) and isinstance(sample.objects, dict)
    for finding in check_master(folder):
        assert finding.file and finding.message and "\n" not in finding.message
        f"{finding.file}{finding.message}".encode()


def spoilt_file(draw: st.DataObject, path: Path) -> bytes:
    """A JSON file, or JSON Lines, with one of them spoilt."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return draw.draw(st.one_of(spoilt(json.loads(data)).map(as_json), spoilt_bytes(data)))
    lines = data.splitlines()
    chosen = draw.draw(st.integers(0, len(lines) - 1))
    lines[chosen] = draw.draw(st.one_of(spoilt(json.loads(lines[chosen])).map(as_json), spoilt_bytes(lines[chosen])))
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("name", ["manifest.json", "classes.json", "train/metadata.jsonl", "events", "objects"])
@examples
@given(draw=st.data())
def test_tables_and_logs(dataset: Path, spoil: Spoil, name: str, draw: st.DataObject) -> None:
    path = dataset / name
    if not path.suffix:
        path = next(file for file in sorted((dataset / "train" / name).iterdir()) if file.stat().st_size > 10)
    folder = spoil(path.relative_to(dataset).as_posix(), spoilt_file(draw, path))
    read_all(folder)
    with refusing():
        read_manifest(folder)


@examples
@given(draw=st.data())
def test_checksums(dataset: Path, spoil: Spoil, draw: st.DataObject) -> None:
    whole = (dataset / "checksums.sha256").read_bytes()
    names = st.sampled_from(["../x", "/dev/zero", "a\\b", "train", "..", "\ud800"]).map(
        lambda name: f"{'0' * 64}  {name}\n"
    )
    data = draw.draw(st.one_of(spoilt_bytes(whole), names.map(lambda text: text.encode("utf-8", "surrogatepass"))))
    read_all(spoil("checksums.sha256", data))


@pytest.mark.parametrize("kind", ["images", "masks", "changes", "instances"])
@examples
@given(draw=st.data())
def test_pictures(dataset: Path, spoil: Spoil, kind: str, draw: st.DataObject) -> None:
    path = sorted((dataset / "train" / kind).iterdir())[0]
    folder = spoil(path.relative_to(dataset).as_posix(), draw.draw(spoilt_bytes(path.read_bytes(), edges=80)))
    read_all(folder)
    with refusing():
        for sample in open_master(folder).samples():
            for part in getattr(sample, kind):
                part.array()
