"""Datasets in an object store: a real S3 server on loopback gets what a folder gets, byte for byte."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from changen_cli.core.errors import IncompleteError, LockedError, OutputError, UsageError
from changen_cli.core.recipe import Recipe
from changen_cli.workflows import executors
from changen_cli.workflows.generate import generate
from changen_cli.workflows.storage import Storage
from tests.conftest import write_pairs

from .runs import Stop, Told, change, content
from .test_executors import Elsewhere

ADDRESS = "s3://bucket/sets/one"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("CHANGEN_WORK", str(tmp_path / "work"))
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    store.mkdir("bucket")
    yield store
    store.invalidate_cache()
    store.rm("bucket", recursive=True)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def recipe(tmp_path: Path, make_recipe) -> Recipe:
    folder = write_pairs(tmp_path / "in", 3)
    return make_recipe(
        folder,
        output={"path": ADDRESS},
        run={"batch_size": 1, "shard_size": 1, "device": "cpu", "threads": 1},
    )


def fetched(store: fsspec.AbstractFileSystem, to: Path) -> Path:
    """A copy of what lies in the store."""
    store.invalidate_cache()
    for path in store.find("bucket/sets/one"):
        target = to / path.removeprefix("bucket/sets/one/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.cat_file(path))
    return to


def expected(recipe: Recipe, tmp_path: Path):
    whole = change(recipe, output={"path": str(tmp_path / "whole" / "one")})
    generate(whole)
    return content(whole.output_path)


def test_a_store_holds_what_a_folder_would(bucket, recipe, tmp_path) -> None:
    result = generate(recipe)
    assert (result.output, result.samples) == (ADDRESS, 3)
    assert content(fetched(bucket, tmp_path / "copy")) == expected(recipe, tmp_path)
    assert not list((tmp_path / "work" / "changen" / "work").iterdir()), "nothing is left here"
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["recipe"]["output"]["path"] == ADDRESS
    assert "very-secret" not in "".join(
        path.read_text(errors="ignore") for path in (tmp_path / "copy").rglob("*") if path.is_file()
    )
    assert generate(recipe).nothing_to_do


def test_a_run_that_was_cut_off_goes_on_from_another_machine(bucket, recipe, tmp_path, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(recipe, Stop(1))
    there = [path for path in bucket.find("bucket/sets/one/shards") if path.endswith(".json")]
    assert 1 <= len(there) < 3
    monkeypatch.setenv("CHANGEN_WORK", str(tmp_path / "elsewhere"))
    told = Told()
    assert generate(change(recipe, run={"shard_size": 3}), told).samples == 3
    assert any("samples are there" in note for note in told.notes)
    assert content(fetched(bucket, tmp_path / "copy")) == expected(recipe, tmp_path)


def test_ranks_and_workers_share_a_store(bucket, recipe, tmp_path, monkeypatch) -> None:
    assert generate(change(recipe, run={"rank": 1, "world_size": 2})).share
    assert generate(change(recipe, run={"rank": 0, "world_size": 2})).samples == 3
    there = content(fetched(bucket, tmp_path / "copy"))
    assert there == expected(recipe, tmp_path)
    monkeypatch.setattr(executors, "Here", Elsewhere)
    generate(change(recipe, output={"mode": "overwrite"}))
    assert content(fetched(bucket, tmp_path / "again")) == there


def test_overwriting_leaves_what_is_not_ours(bucket, recipe) -> None:
    generate(change(recipe, limit=2))
    before = set(bucket.find("bucket/sets/one"))
    bucket.pipe_file("bucket/sets/one/mine/notes.txt", b"mine")
    bucket.pipe_file("bucket/sets/other", b"mine")
    with pytest.raises(OutputError, match=r"seed was 0, is 7"):
        generate(change(recipe, seed=7))
    generate(change(recipe, limit=1, output={"mode": "overwrite"}))
    bucket.invalidate_cache()
    after = set(bucket.find("bucket/sets/one"))
    assert "bucket/sets/one/mine/notes.txt" in after and bucket.cat_file("bucket/sets/other") == b"mine"
    assert before - after and all("s1" not in path or "_v" in path for path in after)


def test_a_store_is_locked_like_a_folder(bucket, recipe, monkeypatch) -> None:
    storage = Storage(ADDRESS)
    with storage.locked(), pytest.raises(LockedError, match=f"process {os.getpid()}"):
        generate(recipe)
    assert not bucket.exists(f"{ADDRESS}/.lock")
    stale = json.dumps({"pid": 1, "host": "gone", "until": 1.0})
    bucket.pipe_file("bucket/sets/one/.lock", stale.encode())
    assert generate(change(recipe, limit=1)).samples == 1


def test_what_a_store_cannot_do_is_told(bucket, recipe, monkeypatch) -> None:
    bucket.pipe_file("bucket/sets/one/theirs.txt", b"theirs")
    with pytest.raises(OutputError, match="is not empty and was not made by changen"):
        generate(recipe)
    for path, reason in (
        ("s3://nowhere/x", "cannot be"),
        ("s3://key:secret@bucket/x", "names a user"),
        ("nothing://bucket/x", "nothing"),
    ):
        with pytest.raises((OutputError, UsageError), match=reason) as caught:
            generate(change(recipe, output={"path": path}))
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="Parquet"):
        generate(change(recipe, output={"format": "parquet"}))


def test_when_all_are_rejected_the_pictures_are_where_it_says(bucket, recipe) -> None:
    none = change(recipe, gate={"enabled": True, "visible": 500.0, "retries": 0}, limit=1)
    with pytest.raises(IncompleteError, match="Look at s3://bucket/sets/one/rejected"):
        generate(none)
    assert [path.rpartition("/")[2] for path in bucket.find("bucket/sets/one/rejected")] == ["s0_v00_a0_invisible.jpg"]
