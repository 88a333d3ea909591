"""``OUT/run.log``: what runs did, line by line."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from changen_cli.core.errors import IncompleteError, ModelError
from changen_cli.core.manifest import new_manifest
from changen_cli.core.recipe import build_recipe
from changen_cli.core.signals import Terminated
from changen_cli.workflows import runlog
from changen_cli.workflows.generate import generate
from changen_cli.workflows.runlog import LOGS, RunLog, read_log
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import write_pairs

from .conftest import manifest
from .runs import Stop, change


@pytest.fixture
def masks(tmp_path, make_recipe):
    """A recipe over five scenes, one of them broken, in shards of two."""
    folder = write_pairs(tmp_path / "in", 5)
    (folder / "images" / "s1.png").write_bytes(b"broken")
    run = {"batch_size": 1, "shard_size": 2, "device": "cpu"}
    return make_recipe(folder, source={"max_skipped": 0.5}, output={"path": str(tmp_path / "out")}, run=run)


def lines(out: Path, *keys: str) -> list[tuple[object, ...]]:
    found = [json.loads(line) for line in (out / "run.log").read_text().splitlines()]
    return [tuple(line.get(key) for key in keys) for line in found]


def test_a_log_tells_shards_ends_and_errors(masks, monkeypatch) -> None:
    out = masks.output_path
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    with pytest.raises(Terminated):
        simulate_dataset(masks, Stop(3, Terminated()))
    with pytest.raises(IncompleteError):
        simulate_dataset(change(masks, run={"time_budget": 1e-3, "shard_size": 1}))
    model = change(masks, synthesis={"model": masks.synthesis.model})
    weights = Path(masks.synthesis.model)
    weights.rename(weights.with_suffix(".away"))
    try:
        with pytest.raises(ModelError):
            generate(model)
    finally:
        weights.with_suffix(".away").rename(weights)
    simulate_dataset(masks)
    assert lines(out, "event", "shard", "samples", "skipped", "images", "done", "total") == [
        ("start", None, None, None, None, 0, 5),
        ("shard", 0, 1, 1, 2, 2, 5),
        ("shard", 1, 1, 0, 0, 2, 5),  # what was finished of it
        ("end", None, None, None, None, None, None),
        ("start", None, None, None, None, 2, 5),
        ("shard", 2, 0, 0, 1, 3, 5),
        ("end", None, None, None, None, None, None),
        ("error", None, None, None, None, None, None),
        ("start", None, None, None, None, 3, 5),
        ("shard", 3, 2, 0, 2, 5, 5),
        ("end", None, None, None, None, None, None),
    ]
    told = [json.loads(line) for line in (out / "run.log").read_text().splitlines()]
    ends = [(line["status"], line.get("reason", "")[:13]) for line in told if line["event"] == "end"]
    assert ends == [("interrupted", "SIGTERM"), ("interrupted", "--time-budget"), ("complete", "")]
    assert told[0]["fingerprint"] == manifest(out)["fingerprint"] and told[0]["version"]
    assert "s1.png: " in told[1]["error"] and str(weights) in told[7]["error"]
    assert told[1]["bytes"] > 0 and told[1]["seconds"] > 0 and told[1]["pid"] and told[1]["host"]
    assert "hf_" not in (out / "run.log").read_text()
    before = (out / "run.log").read_bytes()
    assert simulate_dataset(masks).nothing_to_do
    assert (out / "run.log").read_bytes() == before, "cron does not fill the disk with runs that had nothing to do"


def test_an_error_is_one_line_without_tokens(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(OSError), RunLog(tmp_path):
        raise OSError("first\nsecond hf_abcdefGHIJK1234567890abc " + "x" * 9999)
    (error,) = lines(tmp_path, "error")[0]
    assert error.startswith("OSError: first second *** xxx") and len(error) == 500


def test_a_link_out_of_the_dataset_is_not_followed(tmp_path) -> None:
    promise = new_manifest(build_recipe({"source": {"input": "in"}}), source={})
    promise.save(tmp_path / "out")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out" / "run.log").symlink_to(tmp_path / "mine")
    with RunLog(tmp_path / "out") as log:
        log.begin(promise, 0, 1)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_without_a_dataset_gets_no_log(tmp_path) -> None:
    with pytest.raises(OSError), RunLog(tmp_path):
        raise OSError
    assert not list(tmp_path.iterdir())


def test_files_rotate_when_a_run_starts(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(runlog, "MAX_BYTES", 400)
    promise = new_manifest(build_recipe({"source": {"input": "in"}}), source={})
    promise.save(tmp_path)
    for done in range(30):
        with RunLog(tmp_path) as log:
            log.begin(promise, done, 30)
    assert {path.name for path in tmp_path.iterdir()} == {*LOGS, "manifest.json"}
    assert all((tmp_path / name).stat().st_size < 1000 for name in LOGS)
    assert [line["done"] for line in read_log(tmp_path) if line["event"] == "start"][-3:] == [27, 28, 29]


def test_a_line_that_was_cut_off_costs_no_other(tmp_path) -> None:
    promise = new_manifest(build_recipe({"source": {"input": "in"}}), source={})
    promise.save(tmp_path)
    (tmp_path / "run.log").write_bytes(b'{"event": "start"}\n[1]\n\xff\xfe\n{"event": "shar')
    with RunLog(tmp_path) as log:
        log.begin(promise, 0, 1)
    assert [line["event"] for line in read_log(tmp_path)] == ["start", "start", "end"]


def test_a_wrong_clock_changes_dates_only(masks, monkeypatch) -> None:
    hours = iter(range(0, -(10**6), -7))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600 * next(hours))
    simulate_dataset(masks)
    seconds = [value for (value,) in lines(masks.output_path, "seconds") if value is not None]
    assert len(seconds) == 4 and all(0 < value < 60 for value in seconds)


def _append(out: Path, count: int) -> None:
    with RunLog(out) as log:
        for _ in range(count):
            log.pushed("org/" + "n" * 2000, "c", 1)


def test_processes_do_not_mix_their_lines(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(tmp_path, 200)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert lines(tmp_path, "event") == [("pushed",)] * 800
