"""``changen status`` as people and scripts read it."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.lock import OutputLock
from changen_cli.workflows.simulate import simulate_dataset
from tests.workflows.runs import Stop


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["status", *map(str, arguments)])


def test_status(pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    (pairs_tree / "images" / "s0.png").write_bytes(b"\x1b[2Jbroken")
    run_settings = {"shard_size": 1, "batch_size": 1, "device": "cpu"}
    recipe = make_recipe(pairs_tree, source={"max_skipped": 0.9}, output={"path": str(out)}, run=run_settings)
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(recipe, Stop(2))
    with (out / "run.log").open("a") as log:
        log.write('{"event": "error", "time": "2026-01-01T00:00:00+00:00", "error": "red \\u001b[31m"}\n')
    said = run(out)
    assert said.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in said.stdout.splitlines())
    assert rows["state"] == "interrupted: Ctrl-C"
    assert rows["images"] == "1 of 3 done (33%)"
    assert rows["samples"] == "1 made, 0 failed"
    assert rows["skipped"] == "1 images or tiles; 1 images are broken"
    assert rows["rate"].endswith(" samples a minute") and rows["left"].endswith(" of work at this rate")
    assert rows["size"].endswith("kB in 2 shards")
    assert rows["error"] == r"2026-01-01T00:00:00+00:00  red \x1b[31m"
    with OutputLock(out):
        assert f"running: process {os.getpid()} on " in run(out).stdout
        found = json.loads(run(out, "--json").stdout)
    assert found["state"] == "running" and found["holders"][0]["pid"] == os.getpid()
    assert (found["images"], found["images_total"], found["samples"]) == (1, 3, 1)


def test_an_object_store_is_no_folder() -> None:
    said = run("s3://bucket/set")
    assert said.exit_code == 2 and "s3://bucket/set is no folder" in said.stderr


def test_a_folder_that_is_no_dataset(tmp_path) -> None:
    said = run(tmp_path)
    assert said.exit_code == 1 and said.stdout == ""
    assert said.stderr.count("\n") == 1 and "holds no manifest.json" in said.stderr
