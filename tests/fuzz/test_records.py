"""Output folders that somebody else hands on, to be taken up again: records of shards, their rows, rows that wait."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.lock import OutputLock
from changen_cli.core.manifest import new_manifest
from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.shards import read_shards, record_path, rows_path
from changen_cli.core.untrusted import relative_name
from changen_cli.workflows.ledger import Ledger
from changen_cli.workflows.results import result_before, result_of
from changen_cli.workflows.resume import find_past
from changen_cli.workflows.setup import check_output
from changen_cli.workflows.shards import Todo
from changen_cli.writers.staging import Staging, drop_all

from .mutations import as_json, examples, refusing, spoilt_text

HELD = ("manifest.json", "classes.json", "shards")


@pytest.fixture(scope="module")
def place(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What is copied before every try, and where to."""
    root = tmp_path_factory.mktemp("records")
    return dataset, root / "out"


@cache
def read(path: Path) -> object:
    return json.loads(path.read_text())


def put_back(place: tuple[Path, Path]) -> tuple[Path, Recipe]:
    """A fresh copy of the dataset's records, with the recipe it is of."""
    dataset, out = place
    if out.parent.is_dir():
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name in HELD:
        (shutil.copytree if (dataset / name).is_dir() else shutil.copyfile)(dataset / name, out / name)
    values = dict(read(dataset / "manifest.json")["recipe"])  # type: ignore[index]
    return out, build_recipe(values | {"output": {"path": str(out), "mode": "extend"}})


def take_up(out: Path, recipe: Recipe) -> None:
    """Everything a run reads of what is there before it makes anything; and the end of one."""
    outside = sorted(path.name for path in out.parent.iterdir())
    with refusing():
        check_output(recipe)
        with OutputLock(out):
            past = find_past(recipe)
            if past is None:
                return
            past.nothing_left(recipe)
            past.carry_over(new_manifest(recipe, source={}))
            drop_all(out)
            Todo(past.records, recipe.variants)
            staging = Staging(out)
            ledger = Ledger(past.records, staging.notes())
            ledger.complete(past.manifest)
            result_of(recipe, ledger)
            for name, digest in staging.digests(None):
                assert relative_name(name) and isinstance(digest, str)
            for row in staging.rows(None):
                assert "/" not in row["image_name"] + row["split"]
            result_before(recipe, past)
    assert sorted(path.name for path in out.parent.iterdir()) == outside


@examples
@given(draw=st.data())
def test_records_of_shards(place: tuple[Path, Path], draw: st.DataObject) -> None:
    out, recipe = put_back(place)
    record = read(record_path(place[0], 0))
    record_path(out, 0).write_bytes(draw.draw(spoilt_text(record)))
    take_up(out, recipe)


@examples
@given(draw=st.data(), honest=st.booleans())
def test_rows_of_shards(place: tuple[Path, Path], draw: st.DataObject, honest: bool) -> None:
    """With ``honest`` their hash is still that of the record; else whoever wrote them took care that it fits."""
    out, recipe = put_back(place)
    rows = [json.loads(line) for line in rows_path(place[0], 0).read_text().splitlines()]
    chosen = draw.draw(st.integers(0, len(rows) - 1))
    spoilt = draw.draw(spoilt_text(rows[chosen])).replace(b"\n", b" ")
    data = b"".join(line + b"\n" for line in (*map(as_json, rows[:chosen]), spoilt, *map(as_json, rows[chosen + 1 :])))
    rows_path(out, 0).write_bytes(data)
    if not honest:
        record = next(read_shards(out))
        record.rows = hashlib.sha256(data).hexdigest()
        record.save(out)
    take_up(out, recipe)


@examples
@given(draw=st.data())
def test_rows_that_wait(place: tuple[Path, Path], draw: st.DataObject) -> None:
    out, recipe = put_back(place)
    row = json.loads(rows_path(place[0], 0).read_text().splitlines()[0])
    (out / ".staging" / "new").mkdir(parents=True)
    (out / ".staging" / f"{row['image_name']}.json").write_bytes(draw.draw(spoilt_text(row)))
    if draw.draw(st.booleans()):
        shutil.rmtree(out / "shards")
    take_up(out, recipe)


@examples
@given(draw=st.data())
def test_manifests_of_runs_to_take_up(place: tuple[Path, Path], draw: st.DataObject) -> None:
    out, recipe = put_back(place)
    (out / "manifest.json").write_bytes(draw.draw(spoilt_text(read(place[0] / "manifest.json"))))
    take_up(out, recipe)


@examples
@given(draw=st.data())
def test_locks(place: tuple[Path, Path], draw: st.DataObject) -> None:
    out, recipe = put_back(place)
    holder = {"pid": 1, "host": "elsewhere", "started": 1.5, "ticks": 7}
    (out / ".lock").write_bytes(draw.draw(spoilt_text(holder)))
    take_up(out, recipe)
