"""What a kill leaves of samples being written, and shards that hold what is finished."""

from __future__ import annotations

import os

import pytest

from changen_cli.core.errors import OutputError
from changen_cli.core.shards import ShardRecord, read_shards, record_path, remove_others, rows_path
from changen_cli.writers import open_writer
from changen_cli.writers.staging import Staging

FILES = {"train/images/a_t0.png": b"one", "train/events/a.jsonl": b"two"}


def there(out):
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def record(number, samples, rows):
    counts = {"samples": len(samples), "failed": 0, "skipped": 0}
    return ShardRecord(number=number, counts=counts, variants=1, images={}, samples=samples, rows=rows)


def row(name: str, **more: int) -> dict[str, object]:
    return {"image_name": name, "split": "train", "dates": 2, **more}


class Killed(BaseException):
    """The process ends here."""


def test_a_kill_before_the_row_leaves_nothing(tmp_path, monkeypatch) -> None:
    staging = Staging(tmp_path)
    (tmp_path / ".staging" / "new" / "train" / "images").mkdir(parents=True)
    (tmp_path / ".staging" / "new" / "train" / "images" / "a_t0.png").write_bytes(b"on")
    (tmp_path / ".staging" / ".partial-1-a.json").write_text("{")
    staging = Staging(tmp_path)
    assert there(tmp_path) == set() and staging.ids() == frozenset()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_after_the_row_keeps_the_sample(tmp_path, monkeypatch, moved) -> None:
    staging = Staging(tmp_path)
    move = staging._move

    def some(names) -> None:
        move(list(names)[:moved])
        raise Killed

    monkeypatch.setattr(staging, "_move", some)
    with pytest.raises(Killed):
        staging.put("a", row("a"), FILES, {"met": 1})
    assert len(there(tmp_path) & set(FILES)) == moved
    again = Staging(tmp_path)
    assert there(tmp_path) == {*FILES, ".staging/a.json"}
    assert (tmp_path / "train/images/a_t0.png").read_bytes() == b"one"
    assert list(again.rows(None)) == [row("a")] and list(again.notes()) == [{"met": 1}]
    assert again.seal(0)[1] == 6, "bytes of the files, those of before the kill too"


def test_sealed_rows_survive_and_later_shards_win(tmp_path) -> None:
    staging = Staging(tmp_path)
    for number, ids in enumerate((["b", "a"], ["c", "a"])):
        for name in ids:
            staging.put(name, row(name, shard=number), {f"{name}{number}": b"x"})
        sealed, size, digest = staging.seal(number)
        assert (sealed, size) == (sorted(ids), 2)
        assert [r.number for r in read_shards(tmp_path)] == list(range(number)), "nothing counts without a record"
        record(number, sealed, digest).save(tmp_path)
        staging.forget(sealed)
    assert not list((tmp_path / ".staging").glob("*.json"))
    again = Staging(tmp_path)
    assert [(made["image_name"], made["shard"]) for made in again.rows(None)] == [("a", 1), ("b", 0), ("c", 1)]
    assert [made["image_name"] for made in again.rows(["c", "b"])] == ["c", "b"]
    assert len(dict(again.digests(None))) == 3


def test_a_shard_is_on_disk_before_its_lines_are(tmp_path, monkeypatch) -> None:
    """Nothing is waited for sample by sample; when a shard is sealed, all its files and their folders are."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")))
    staging = Staging(tmp_path)
    staging.put("a", row("a"), FILES)
    assert flushed == []
    again = Staging(tmp_path)  # a process that takes it up waits for them, too
    for number, current in enumerate((staging, again)):
        current.seal(number)
        places = [str(tmp_path / name) for name in (*FILES, "train/events", "train/images")]
        assert flushed[:4] == places and "shards" in flushed[4]
        flushed.clear()
    record(0, ["a"], "").save(tmp_path)
    assert flushed[-1] == str(tmp_path / "shards"), "the name of the record, too"


def test_a_damaged_shard_no_longer_counts(tmp_path) -> None:
    staging = Staging(tmp_path)
    staging.put("a", row("a"), {"a": b"x"})
    sealed, _, digest = staging.seal(3)
    record(3, sealed, digest).save(tmp_path)
    staging.forget(sealed)
    rows_path(tmp_path, 3).write_text('{"id": "b", "_sha256": {}, "_note": {}}\n')
    with pytest.raises(OutputError, match=r"00003.jsonl is not what was written.*Run the same command again"):
        Staging(tmp_path).ids()
    assert Staging(tmp_path).ids() == frozenset()


@pytest.mark.parametrize("content", ["", "{", '{"number": 5}', "\x00"])
def test_a_broken_record_is_none(tmp_path, content) -> None:
    record(4, [], "").save(tmp_path)
    rows_path(tmp_path, 4).write_text("")
    record_path(tmp_path, 5).write_text(content)
    record(6, [], "").save(tmp_path)  # without rows
    rows_path(tmp_path, 7).write_text("")  # without a record
    assert [r.number for r in read_shards(tmp_path)] == [4]
    assert remove_others(tmp_path, {4}) == [5, 6]
    assert there(tmp_path) == {"shards/00004.json", "shards/00004.jsonl"}


def test_parquet_shards_are_added_to_and_keep_their_bytes(make, schema, tmp_path) -> None:
    import pyarrow.parquet as pq

    writer = open_writer("parquet", tmp_path, schema)
    writer.write(make(1))
    (first,) = writer.close()
    before = first.read_bytes()
    writer = open_writer("parquet", tmp_path, schema)
    writer.write(make(0))
    paths = writer.tables(kept={"train": 1})
    assert [path.name for path in paths] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert paths == writer.tables(kept={"train": 1}), "cut off before it was noted, it is done once more"
    assert sorted(paths) == sorted((tmp_path / "data").iterdir())
    assert paths[0].read_bytes() == before
    assert [pq.read_table(path)["image_name"].to_pylist() for path in paths] == [["scene1_v0"], ["scene0_v0"]]
    writer.staging.clear()
    writer.write(make(2, info={"other": 1}))
    with pytest.raises(OutputError, match="has other columns"):
        writer.tables(kept={"train": 2})
