"""Tar shards, read back with webdataset."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from changen_cli.exports import webdataset as module
from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import open_master
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

webdataset = pytest.importorskip("webdataset")
check = FORMATS["webdataset"].check


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    known = {}

    def get(name: str):
        if name not in known:
            known[name] = tmp_path_factory.mktemp("webdataset") / name
            export(made(name), known[name], layout="webdataset", progress=Silent())
        return known[name]

    return get


def pixels(key: str, data: bytes):
    """The decoder of docs/exports.md: those webdataset brings along turn masks into RGB."""
    return np.asarray(Image.open(io.BytesIO(data))) if key.endswith((".png", ".tif")) else None


def read(pattern: str) -> dict[str, dict]:
    data = webdataset.WebDataset(pattern, shardshuffle=False).decode(pixels)
    return {entry["__key__"]: entry for entry in data}


@pytest.mark.parametrize("name", ["building", "georeferenced", "pairs", "parquet", "masks"])
def test_webdataset_reads_everything(name, made, exported) -> None:
    found = read(str(exported(name) / "train" / "train-{000000..000000}.tar"))
    samples = list(open_master(made(name)).samples())
    assert list(found) == [sample.id for sample in samples]
    for sample in samples:
        entry = found[sample.id]
        for t, numbers in enumerate(sample.instance_arrays):
            assert np.array_equal(entry[f"t{t + 1}_mask.png"], sample.mask_arrays[t])
            assert np.array_equal(entry[f"t{t + 1}_instances.png"], numbers)
            if sample.images:
                assert np.array_equal(entry[f"t{t + 1}_image.png"], sample.images[t].array())
        for t, change in enumerate(sample.changes):
            assert np.array_equal(entry[f"t{t + 1}_t{t + 2}_change.png"], change.array())
        told = entry["json"]
        assert told["events"] == sample.events
        assert {int(number): name for number, name in told["objects"].items()} == sample.objects
        assert {key: told[key] for key in sample.row} == sample.row
        assert ("t1_image.png" in entry) == (name != "masks")
    assert list(check(exported(name))) == []


def test_shards_are_cut_by_size_and_hold_whole_samples(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_SHARD_BYTES", 100_000)
    report = export(made("pairs"), tmp_path / "out", layout="webdataset", progress=Silent())
    shards = sorted((tmp_path / "out" / "train").iterdir())
    assert [path.name for path in shards] == [f"train-{n:06d}.tar" for n in range(len(shards))] and len(shards) == 3
    assert report.notes == ["train/train-{000000..000002}.tar"]
    found = read(str(tmp_path / "out" / report.notes[0]))
    assert len(found) == 3 and len({frozenset(set(e) - {"__url__"}) for e in found.values()}) == 1
    assert list(check(tmp_path / "out")) == []


def test_the_same_dataset_gives_the_same_bytes(made, exported, tmp_path) -> None:
    """Tar headers hold neither times nor owners."""
    export(made("building"), tmp_path / "again", layout="webdataset", progress=Silent())
    shard = exported("building") / "train" / "train-000000.tar"
    assert (tmp_path / "again" / "train" / shard.name).read_bytes() == shard.read_bytes()
    with tarfile.open(shard) as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_splits(made, tmp_path) -> None:
    report = export(made("pairs"), tmp_path / "out", layout="webdataset", shares=(0.4, 0.3, 0.3), progress=Silent())
    keys = [set(read(str(tmp_path / "out" / note))) for note in report.notes]
    assert [len(part) for part in keys] == [1, 1, 1] and len(set().union(*keys)) == 3


def test_keys_have_no_dots(made, tmp_path) -> None:
    copy = shutil.copytree(made("pairs"), tmp_path / "copy")
    table = copy / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row, name in zip(rows, ("a.b_v00", "a_b_v00", "a-b_v00"), strict=True):
        row["image_name"] = name
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    export(copy, tmp_path / "out", layout="webdataset", progress=Silent())
    found = read(str(tmp_path / "out" / "train" / "train-000000.tar"))
    assert sorted(entry["json"]["image_name"] for entry in found.values()) == ["a-b_v00", "a.b_v00", "a_b_v00"]


def rewrite(folder, change) -> None:
    """Take the members of the shard apart, change them, and put them together."""
    path = folder / "train" / "train-000000.tar"
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    members = change(members)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def replace(ending: str, data: bytes):
    return lambda members: [(name, data if name.endswith(ending) else old) for name, old in members]


def other_change(members):
    found = dict(members)
    pairs = [name for name in found if name.endswith("t1_t2_change.png")]
    found[pairs[0]] = found[pairs[0].replace("t1_t2", "t2_t3")]
    return list(found.items())


def tiny(members):
    buffer = io.BytesIO()
    Image.new("L", (3, 3)).save(buffer, "PNG")
    return replace("t2_mask.png", buffer.getvalue())(members)


DEFECTS = [
    (lambda f: shutil.rmtree(f / "train"), "holds no tar file"),
    (lambda f: (f / "train" / "train-000000.tar").write_bytes(b"x" * 600), "cannot be read"),
    (lambda f: (f / "train" / "train-000000.tar").rename(f / "train" / "train-000001.tar"), "lacks shard 0"),
    (lambda f: rewrite(f, lambda m: [*m, ("README", b"")]), "belongs to no sample"),
    (lambda f: rewrite(f, lambda m: m[1:]), "has other files than the first"),
    (lambda f: rewrite(f, lambda m: [*m[1:], m[0]]), "a second sample of this key"),
    (lambda f: rewrite(f, lambda m: [m[0], *m]), "twice"),
    (lambda f: rewrite(f, replace(".json", b"{")), "json that cannot be read"),
    (lambda f: rewrite(f, replace("t1_image.png", b"no image")), "t1_image.png that cannot be read"),
    (lambda f: rewrite(f, tiny), "several sizes"),
    (lambda f: rewrite(f, other_change), "differs from its masks"),
]


@pytest.mark.parametrize(("spoiling", "message"), DEFECTS, ids=[f"{i}-{m}" for i, (_, m) in enumerate(DEFECTS)])
def test_the_check_finds(spoiling, message, exported, tmp_path) -> None:
    folder = shutil.copytree(exported("building"), tmp_path / "copy")
    spoiling(folder)
    findings = list(check(folder))
    assert any(message in finding.message for finding in findings), findings
    assert all(finding.fix for finding in findings)
