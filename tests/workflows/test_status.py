"""How far a dataset is, in every state it can be in."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from changen_cli.core.errors import IncompleteError, OutputError
from changen_cli.core.lock import OutputLock
from changen_cli.core.shards import ImageRecord, ShardRecord, read_shards, record_path, rows_path
from changen_cli.workflows.ledger import Ledger
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.workflows.status import DatasetStatus, dataset_status
from tests.conftest import write_pairs

from .runs import Stop, change


@pytest.fixture
def masks(tmp_path, make_recipe):
    """A recipe over five scenes, one of them broken, in shards of two."""
    folder = write_pairs(tmp_path / "in", 5)
    (folder / "images" / "s1.png").write_bytes(b"broken")
    run = {"batch_size": 1, "shard_size": 2, "device": "cpu"}
    return make_recipe(folder, source={"max_skipped": 0.5}, output={"path": str(tmp_path / "out")}, run=run)


def figures(found: DatasetStatus) -> tuple[object, ...]:
    return found.state, found.images, found.images_total, found.samples, found.skipped, found.failed_images


def test_interrupted_running_killed_finished(masks) -> None:
    out = masks.output_path
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(masks, Stop(4))
    found = dataset_status(out)
    assert figures(found) == ("interrupted", 2, 5, 3, 1, 1)
    assert found.last_end == "interrupted: Ctrl-C" and found.holders == ()
    assert found.samples_per_minute and found.seconds_left and "s1.png" in found.last_error
    assert found.bytes == sum(path.stat().st_size for path in (out / "train").rglob("*.[pj]*") if path.name[0] == "s")
    text = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(text.replace('"interrupted"', '"running"'))
    log = out / "run.log"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # as if it had been killed
    assert dataset_status(out).state == "killed"
    with OutputLock(out):
        found = dataset_status(out)
        assert found.state == "running" and found.holders[0].pid
    with pytest.raises(IncompleteError):
        simulate_dataset(change(masks, run={"time_budget": 1e-3, "shard_size": 1}))
    assert dataset_status(out).last_end.startswith("interrupted: --time-budget 0 s is used up")
    simulate_dataset(masks)
    found = dataset_status(out)
    assert figures(found) == ("complete", 5, 5, 4, 1, 1)
    assert (found.seconds_left, found.last_end) == (0, "complete")


def test_a_limit_counts_tiles(tmp_path, make_recipe) -> None:
    folder = write_pairs(tmp_path / "in", 4, size=192)
    recipe = make_recipe(folder, source={"res": 96}, output={"path": str(tmp_path / "out")}, limit=6)
    with pytest.raises(IncompleteError):
        simulate_dataset(change(recipe, run={"shard_size": 1, "time_budget": 1e-3}))
    found = dataset_status(tmp_path / "out")
    assert (found.images, found.images_total, found.samples) == (1, 4, 4)
    assert found.seconds_left == pytest.approx(60 * 2 / found.samples_per_minute, rel=0.1, abs=0.1)
    simulate_dataset(recipe)
    found = dataset_status(tmp_path / "out")
    assert (found.images, found.images_total, found.samples, found.seconds_left) == (2, 2, 6, 0)


def test_further_variants_are_work_that_is_left(masks) -> None:
    simulate_dataset(masks)
    more = change(masks, variants=2, output={"mode": "extend"})
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(more, Stop(8))
    found = dataset_status(masks.output_path)
    assert found.images < found.images_total == 5 and found.samples > 4


def test_ranks_are_one_dataset(masks) -> None:
    ranks = [change(masks, run={"rank": rank, "world_size": 2, "shard_size": 1}) for rank in (0, 1)]
    simulate_dataset(ranks[0])
    found = dataset_status(masks.output_path)
    assert figures(found)[:4] == ("interrupted", 3, 5, 3) and found.seconds_left
    with OutputLock(masks.output_path, ".lock-00001-of-00002"):
        assert dataset_status(masks.output_path).state == "running"
    simulate_dataset(ranks[1])
    assert figures(dataset_status(masks.output_path)) == ("complete", 5, 5, 4, 1, 1)


def test_the_rates_of_ranks_add_up(masks) -> None:
    simulate_dataset(masks)
    with OutputLock(masks.output_path), OutputLock(masks.output_path, ".lock-00000-of-00002"):
        (holder, _) = dataset_status(masks.output_path).holders
        text = json.dumps({"event": "shard", "samples": 8, "images": 4, "seconds": 60, "host": holder.host})
        lines = [text[:-1] + f', "pid": {pid}}}\n' for pid in (1, holder.pid, 2)]
        (masks.output_path / "run.log").write_text("".join(lines))
        assert dataset_status(masks.output_path).samples_per_minute == 16, "two locks, both of them ours"


def test_a_dataset_without_log_or_with_a_damaged_one(masks) -> None:
    simulate_dataset(masks)
    log = masks.output_path / "run.log"
    log.write_text(
        '{"event": "shard", "seconds": "x"}\n{"event": "end"}\n{"event": "start", "total": null}\nnull\n\x00'
    )
    found = dataset_status(masks.output_path)
    assert figures(found) == ("complete", 5, 5, 4, 1, 1) and found.samples_per_minute is None
    log.unlink()
    record_path(masks.output_path, 0).write_text("{")
    assert dataset_status(masks.output_path).samples == 3


def test_a_folder_that_holds_no_dataset(tmp_path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(OutputError, match=r"holds no manifest\.json\. Name a folder"):
            dataset_status(folder)
    (tmp_path / "manifest.json").write_text('{"name": "app"}')
    with pytest.raises(OutputError, match="cannot be read as a manifest"):
        dataset_status(tmp_path)


def test_the_rate_is_that_of_the_last_shards_of_one_run(masks) -> None:
    simulate_dataset(masks)
    shard = {"event": "shard", "samples": 8, "images": 4}
    lines = [{"event": "start", "total": 300}, *({**shard, "seconds": 100} for _ in range(9))]
    lines += [{"event": "start", "total": 405}, *({**shard, "seconds": 60} for _ in range(30))]
    lines += [{**shard, "seconds": 30} for _ in range(20)]
    lines += [{"event": "start", "total": 405}]  # this one has made none yet
    (masks.output_path / "run.log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with OutputLock(masks.output_path):
        found = dataset_status(masks.output_path)
    assert found.samples_per_minute == 16
    assert found.seconds_left == (405 - 5) / 4 * 30


def test_many_shards_take_seconds(masks) -> None:
    simulate_dataset(masks)
    out: Path = masks.output_path
    images = {
        f"images/{i:02d}.png": ImageRecord(complete=True, scenes=[{"id": f"{i:02d}", "notes": {}}]) for i in range(16)
    }
    counts = {"samples": 16, "failed": 0, "skipped": 0}
    text = ShardRecord(number=0, counts=counts, variants=1, images=images, samples=["NUMBER_v00"]).model_dump_json()
    for number in range(10, 2010):
        changed = text.replace('"number":0', f'"number":{number}').replace("NUMBER", str(number))
        record_path(out, number).write_text(changed.replace('"images/', f'"images/{number}_'))
        rows_path(out, number).touch()
    started = time.monotonic()
    found = dataset_status(out)
    assert time.monotonic() - started < 5, "ten thousand take three"
    assert (found.shards, found.images, found.samples) == (2003, 32_005, 2004)


def test_what_failed_and_was_rejected_then_is_no_failure(masks) -> None:
    simulate_dataset(masks)
    out = masks.output_path
    images = {"images/gone.png": ImageRecord(complete=True)}
    kept = {"counts": {}, "variants": 1, "images": images, "samples": []}
    late = [
        ShardRecord(number=90, failed={"a_v00": "out of memory", "b_v00": "out of memory"}, **kept),
        ShardRecord(number=91, rejected={"a_v00": ["seam"]}, **kept),
    ]
    for record in late:
        rows_path(out, record.number).touch()
        record.save(out)
    found, ledger = dataset_status(out), Ledger(read_shards(out))
    assert (found.failed_samples, found.rejected) == (1, {"seam": 1})
    assert (ledger.failed, ledger.rejected) == ({"b_v00": "out of memory"}, {"a_v00": ["seam"]})
