"""An output folder that somebody else prepared: no link and no name in it makes a command write, remove or read elsewhere."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import ChangenError, LockedError, OutputError
from changen_cli.core.lock import OutputLock
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import read_shards, record_path, rows_path
from changen_cli.exports.master import open_master
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.push_record import PushRecord
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.workflows.validate import validate
from tests.conftest import write_pairs

from .conftest import tree
from .runs import change

LINKS = (
    "train", "train/masks", "data", "shards", "shards/.preview", "shards/00007.json", ".staging", ".staging/new",
    ".staging/new/train", ".push", ".push/shards.json", ".lock", "run.log", "run.log.1", "manifest.json", "classes.json",
    "README.md", "preview.png", "evaluation.json", "checksums.sha256", "other",
)  # fmt: skip
"""Places in a dataset that are read as a whole, or written to."""


@pytest.fixture
def recipe(tmp_path: Path, make_recipe: Callable[..., Recipe]) -> Recipe:
    """A recipe of which half is made, in folders and files beside which lie others."""
    folder = write_pairs(tmp_path / "in", 4)
    run = {"batch_size": 1, "shard_size": 1, "device": "cpu", "threads": 1}
    whole = make_recipe(folder, output={"path": str(tmp_path / "out")}, run=run, limit=4)
    simulate_dataset(change(whole, limit=2))
    outside = tmp_path / "outside"
    for name in ("masks/s2_v00_t0.png", "images/a.png", ".partial-1-a", "00003.json", "metadata.jsonl", "building-1/a"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text("mine")
    return whole


def put_link(out: Path, name: str, target: Path) -> None:
    place = out / name
    if place.is_dir() and not place.is_symlink():
        place.rename(out.parent / "removed")
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize("name", LINKS)
def test_no_link_leads_out(name: str, recipe: Recipe, tmp_path: Path) -> None:
    out, outside = recipe.output_path, tmp_path / "outside"
    file = "." in Path(name).name[1:] or name in (".lock", "README.md")
    put_link(out, name, outside / "metadata.jsonl" if file else outside)
    before, links = tree(outside), tree(out)
    for mode in ("resume", "extend", "overwrite"):
        with pytest.raises(ChangenError, match="is a link that leads out"):
            simulate_dataset(change(recipe, output={"mode": mode}))
    with pytest.raises(ChangenError):
        export(out, tmp_path / "export", layout="whu-cd", progress=Silent())
    with pytest.raises(ChangenError):
        open_master(out)
    found = validate(out, layout="changen")
    assert [finding.fix for finding in found.findings] == ["Do not trust this dataset: it was tampered with"]
    assert tree(outside) == before and tree(out) == links
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "removed") == ["in", "out", "outside"]


def test_pictures_of_rejected_attempts_are_not_written_elsewhere(recipe: Recipe, tmp_path: Path) -> None:
    put_link(recipe.output_path, "rejected", tmp_path / "outside" / "images")
    with pytest.raises(OutputError, match="rejected is a link that leads out"):
        simulate_dataset(recipe)


def test_links_inside_and_links_of_others_stay_what_they_are(recipe: Recipe, tmp_path: Path) -> None:
    out, outside = recipe.output_path, tmp_path / "outside"
    (out / "notes").symlink_to(outside / "images")
    (out / "train" / "masks").rename(out / "train" / "real")
    (out / "train" / "masks").symlink_to("real")
    before = tree(outside)
    tmp_path.joinpath("door").symlink_to(out)
    result = simulate_dataset(change(recipe, output={"path": str(tmp_path / "door")}))
    assert result.samples == 4 and len(list((out / "train" / "real").iterdir())) == 8
    simulate_dataset(change(recipe, output={"mode": "overwrite"}))
    assert tree(outside) == before


@pytest.mark.parametrize(("key", "value"), [("variants", "0"), ("limit", "all"), ("source", 3)])
def test_a_manifest_whose_recipe_is_none(key: str, value: object, recipe: Recipe) -> None:
    path = recipe.output_path / "manifest.json"
    content = json.loads(path.read_text())
    content["recipe"][key] = value
    path.write_text(json.dumps(content))
    for mode in ("resume", "extend"):
        with pytest.raises(OutputError, match="holds no recipe"):
            simulate_dataset(change(recipe, output={"mode": mode}))


ELSEWHERE = (
    "../outside/metadata.jsonl",
    "train/../../outside/metadata.jsonl",
    "{outside}/metadata.jsonl",
    "a/b/c/d",
    3,
)


def forge(line: dict[str, Any], key: str, outside: Path, name: object) -> None:
    """Make a row name something elsewhere."""
    name = name.format(outside=outside) if isinstance(name, str) else name
    if key == "_sha256":
        line["_sha256"] = {name: "0" * 64} | line["_sha256"] if isinstance(name, str) else [name]
    else:
        line[key] = name


@pytest.mark.parametrize("key", ["_sha256", "split", "image_name"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_rows_of_shards_name_files_of_the_dataset(key: str, name: object, recipe: Recipe, tmp_path: Path) -> None:
    out, outside = recipe.output_path, tmp_path / "outside"
    record = next(read_shards(out))
    line = json.loads(rows_path(out, 0).read_text())
    forge(line, key, outside, name)
    rows_path(out, 0).write_text(json.dumps(line) + "\n")
    record.rows = hashlib.sha256(rows_path(out, 0).read_bytes()).hexdigest()
    record.save(out)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="is no row of a sample"):
        simulate_dataset(recipe)
    assert tree(outside) == {n.removeprefix("outside/"): d for n, d in before.items() if n.startswith("outside/")}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("name", [*ELSEWHERE, "torn"])
def test_rows_that_wait_name_files_of_the_dataset(name: object, new: bool, recipe: Recipe, tmp_path: Path) -> None:
    """Others, and what a power cut leaves of one, are dropped, and the sample is made again."""
    out, outside = recipe.output_path, tmp_path / "outside"
    line = json.loads(rows_path(out, 1).read_text())
    rows_path(out, 1).unlink()
    record_path(out, 1).unlink()
    forge(line, "_sha256", outside, name)
    (out / ".staging" / ("new" if new else "")).mkdir(parents=True)
    (out / ".staging" / f"{line['image_name']}.json").write_text("" if name == "torn" else json.dumps(line))
    before = tree(outside)
    assert simulate_dataset(recipe).samples == 4
    assert tree(outside) == before
    assert not validate(out).findings


def test_a_lock_is_a_file_and_its_note_says_nothing_wrong(tmp_path: Path) -> None:
    lock, victim = tmp_path / "out" / ".lock", tmp_path / "victim"
    victim.write_text("mine")
    lock.parent.mkdir()
    lock.symlink_to(victim)
    with pytest.raises(OutputError, match=r"\.lock is no file"):
        OutputLock(lock.parent)
    assert victim.read_text() == "mine"
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(OutputError, match=r"\.lock is no file"):
        OutputLock(lock.parent)
    lock.unlink()
    for pid, started in ((-1, 0), (2**70, 0), ("1", 0), (1, 1e300), (1, "x"), ([], None)):
        lock.write_text(json.dumps({"pid": pid, "host": "elsewhere", "started": started, "ticks": 0}))
        OutputLock(lock.parent).release()
        lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"pid": 1, "host": "else\x1b[2Jwhere", "started": 0, "ticks": 0}))
    with pytest.raises(LockedError) as error:
        OutputLock(lock.parent)
    assert "\x1b" not in str(error.value)
    lock.write_text("[" * 5000)
    OutputLock(lock.parent).release()


def test_the_record_of_a_push_may_hold_anything(tmp_path: Path) -> None:
    for text in ("[" * 10**5, "{}", "[]", '{"a": 1}', '{"a": ["x", "y", 3]}', "\udcff"):
        (tmp_path / ".push").mkdir(exist_ok=True)
        (tmp_path / ".push" / "shards.json").write_text(text, errors="surrogateescape")
        assert PushRecord(tmp_path).get("a") is None
