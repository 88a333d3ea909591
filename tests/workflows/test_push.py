"""Pushes to a Hub on loopback, over real HTTP: what is sent, what is not sent again, what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from changen_cli.exports.cards import split_card
from changen_cli.workflows.push_target import PushReport, Target
from tests.hub.datasets import make_sample, write_dataset
from tests.hub.state import Hub
from tests.workflows.pushes import ID, SHARD, repo_of, shards

# Of the Hub's client, which hands open files to its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def rows(hub: Hub, path: str) -> list[dict[str, Any]]:
    return pq.read_table(io.BytesIO(hub.content(repo_of(hub), path))).to_pylist()


def pixels(cell: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


def test_a_folder_becomes_shards_in_one_commit(hub: Hub, push: Callable[..., PushReport]) -> None:
    report = push()
    repo = repo_of(hub)
    assert report.created and report.rows == {"train": 6} and len(report.send) == 3 + 5
    assert shards(repo) == [f"data/train-{i:05d}-of-00003.parquet" for i in range(3)]
    assert set(repo.tree()) == {
        *shards(repo),
        ".gitattributes",
        "README.md",
        "manifest.json",
        "classes.json",
        "preview.png",
        "checksums.sha256",
    }
    assert len(repo.messages) == 2
    front, body = split_card(hub.content(repo, "README.md").decode())
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*-of-00003.parquet"}]}
    ]
    assert front["license"] == "cc-by-4.0" and ID in body
    assert set(hub.uploads.values()) == {1}


@pytest.mark.parametrize("geo", [False, True])
def test_every_pixel_and_event_arrives(hub: Hub, push: Callable[..., PushReport], tmp_path: Path, geo: bool) -> None:
    push(write_dataset(tmp_path / "three", 3, dates=3, geo=geo))
    found = [row for path in shards(repo_of(hub)) for row in rows(hub, path)]
    assert [row["image_name"] for row in found] == [f"scene{i:04d}_v00" for i in range(3)]
    for number, row in enumerate(found):
        sample = make_sample(number, 3, geo=geo)
        for t in range(3):
            assert row[f"t{t + 1}_image"]["bytes"].startswith(b"\x89PNG")
            assert np.array_equal(pixels(row[f"t{t + 1}_image"]), sample.images[t])
            assert np.array_equal(pixels(row[f"t{t + 1}_mask"]), sample.masks[t])
            assert np.array_equal(pixels(row[f"t{t + 1}_instances"]), sample.instances[t])
        changes = np.stack([pixels(cell) > 0 for cell in row["change_masks"]])
        assert np.array_equal(changes, sample.change_masks)
        assert [event["object_id"] for event in json.loads(row["events"])] == [e.object_id for e in sample.events]
        assert json.loads(row["objects"]) == {"1": "new1-0", "2": "new2-0"}
        assert row["crs"] == ("EPSG:32640" if geo else None)


def test_a_folder_gives_the_shards_that_parquet_would(
    hub: Hub, push: Callable[..., PushReport], tmp_path: Path
) -> None:
    """Byte for byte: nobody has to choose the format before generating."""
    push(write_dataset(tmp_path / "folder", 3, dates=3, geo=True), shard_bytes=None)
    local = write_dataset(tmp_path / "parquet", 3, "parquet", dates=3, geo=True)
    assert (
        hub.content(repo_of(hub), "data/train-00000-of-00001.parquet")
        == (local / "data" / "train-00000-of-00001.parquet").read_bytes()
    )


def test_shards_that_are_there_are_pushed_as_they_are(
    hub: Hub, push: Callable[..., PushReport], tmp_path: Path
) -> None:
    local = write_dataset(tmp_path / "parquet", 3, "parquet")
    report = push(local, shard_bytes=None)
    name = "data/train-00000-of-00001.parquet"
    assert hub.content(repo_of(hub), name) == (local / name).read_bytes()
    assert report.send[0] == (name, (local / name).stat().st_size)


def test_a_downloaded_copy_is_valid_and_names_no_folder_of_this_machine(
    hub: Hub, push: Callable[..., PushReport], tmp_path: Path
) -> None:
    from changen_cli.workflows.validate import validate

    push(write_dataset(tmp_path / "private-place" / "out", 12), shares=(0.5, 0.5))
    for path in repo_of(hub).tree():
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / path).write_bytes(hub.content(repo_of(hub), path))
    report = validate(tmp_path / "copy")
    assert not report.findings
    assert not any(b"private-place" in path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file())


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_splits_go_by_place(hub: Hub, push: Callable[..., PushReport], tmp_path: Path, layout: Any) -> None:
    report = push(write_dataset(tmp_path / "split", 12, layout), shares=(0.5, 0.25, 0.25))
    assert set(report.rows) == {"train", "validation", "test"} and sum(report.rows.values()) == 12
    places: dict[str, set[str]] = {}
    for path in shards(repo_of(hub)):
        for row in rows(hub, path):
            assert path.startswith(f"data/{row['split']}-")
            places.setdefault(row["split"], set()).add(row["group"])
    assert sum(map(len, places.values())) == len(set.union(*places.values())) == 6
    front, _ = split_card(hub.content(repo_of(hub), "README.md").decode())
    assert {item["split"] for item in front["configs"][0]["data_files"]} == set(report.rows)


def test_a_second_push_sends_nothing_and_commits_nothing(hub: Hub, push: Callable[..., PushReport]) -> None:
    push()
    before, puts = list(repo_of(hub).messages), hub.asked("PUT")
    report = push()
    assert report.send == () and len(report.held) == 8
    assert repo_of(hub).messages == before and hub.asked("PUT") == puts


def test_without_its_record_a_push_still_sends_nothing_twice(
    hub: Hub, push: Callable[..., PushReport], dataset: Path
) -> None:
    push()
    (dataset / ".push" / "shards.json").write_text("not json")
    push()
    assert set(hub.uploads.values()) == {1}


def test_a_changed_sample_is_noticed(hub: Hub, push: Callable[..., PushReport], dataset: Path) -> None:
    push()
    before = {path: entry.sha256 for path, entry in repo_of(hub).tree().items()}
    image = dataset / "train" / "images" / "scene0003_v00_t1.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    push()
    after = {path: entry.sha256 for path, entry in repo_of(hub).tree().items()}
    assert {path for path in after if after[path] != before[path]} == {"data/train-00001-of-00003.parquet"}


def test_shards_of_an_earlier_push_go_in_the_same_commit(hub: Hub, push: Callable[..., PushReport]) -> None:
    push()
    report = push(shard_bytes=SHARD * 2)
    assert report.delete == tuple(f"data/train-{i:05d}-of-00003.parquet" for i in range(3))
    assert shards(repo_of(hub)) == [f"data/train-{i:05d}-of-00002.parquet" for i in range(2)]
    assert len(repo_of(hub).messages) == 3


def test_more_than_a_commit_may_hold(hub: Hub, push: Callable[..., PushReport], tmp_path: Path) -> None:
    """The Hub refuses more than 100 operations; the card comes with the last shards, then what is stale goes."""
    out = write_dataset(tmp_path / "many", 120, side=32)
    push(out, shard_bytes=1)
    repo = repo_of(hub)
    assert len(shards(repo)) == 120
    commits = list(repo.commits.values())
    assert ["README.md" in tree for tree in commits] == [False, False, True]
    push(out, shard_bytes=None)
    assert len(shards(repo)) == 1 and set(hub.uploads.values()) == {1}


def test_configurations_share_a_repository(hub: Hub, push: Callable[..., PushReport], tmp_path: Path) -> None:
    push()
    push(write_dataset(tmp_path / "other", 2, seed=9), config="winter")
    push(shard_bytes=None)
    repo = repo_of(hub)
    assert sorted(shards(repo)) == ["data/train-00000-of-00001.parquet", "winter/data/train-00000-of-00001.parquet"]
    front, _ = split_card(hub.content(repo, "README.md").decode())
    assert sorted(row["config_name"] for row in front["configs"]) == ["default", "winter"]


def test_a_branch_is_made(hub: Hub, push: Callable[..., PushReport]) -> None:
    push(revision="v2")
    assert shards(repo_of(hub)) == [] and len(shards(repo_of(hub), "v2")) == 3


def test_a_pull_request_needs_no_right_to_write(hub: Hub, push: Callable[..., PushReport]) -> None:
    hub.create("dataset", ID).put("main", {"theirs.csv": hub.blob(b"1")}, "theirs")
    report = push(create_pr=True, token="hf_reader")
    assert report.url.endswith("/discussions/1")
    assert shards(repo_of(hub)) == [] and len(shards(repo_of(hub), "refs/pr/1")) == 3


def test_large_uploads_go_in_parts(hub: Hub, push: Callable[..., PushReport]) -> None:
    hub.part_bytes = 20_000
    push()
    assert set(hub.uploads.values()) == {1} and any(number == 3 for _, number in hub.parts)


def test_a_dry_run_says_exactly_what_a_push_does(hub: Hub, push: Callable[..., PushReport], dataset: Path) -> None:
    planned = push(dry_run=True)
    assert hub.repos == {} and hub.asked("PUT|commit|create") == 0
    assert not list((dataset / ".push").glob("building-*"))
    done = push()
    assert (planned.send, planned.held, planned.rows) == (done.send, done.held, done.rows)
    planned = push(dry_run=True, shard_bytes=SHARD * 2)
    assert len(planned.delete) == 3 and len(shards(repo_of(hub))) == 3
    done = push(shard_bytes=SHARD * 2)
    assert (planned.send, planned.held, planned.delete) == (done.send, done.held, done.delete)


def test_a_dry_run_needs_no_hub(push: Callable[..., PushReport], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert len(push(dry_run=True, token="hf_x").send) == 8


def test_no_more_shards_lie_on_disk_than_workers(
    hub: Hub, push: Callable[..., PushReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from changen_cli.writers.hub import Repository

    out, seen, send = write_dataset(tmp_path / "many", 12), [], Repository.send

    def watched(self: Repository, path: str, *args: Any) -> Any:
        seen.append(len(list((out / ".push").glob("building-*/*.parquet"))))
        return send(self, path, *args)

    monkeypatch.setattr(Repository, "send", watched)
    push(out, shard_bytes=1, workers=3)
    assert 1 <= max(seen) <= 3
    assert not list((out / ".push").glob("building-*"))


def test_the_token_is_written_nowhere(hub: Hub, push: Callable[..., PushReport], dataset: Path) -> None:
    push()
    assert "hf_writer" not in repr(Target(ID, token="hf_writer"))
    stored = [path.read_bytes() for path in dataset.rglob("*") if path.is_file()]
    stored += [hub.content(repo_of(hub), path) for path in repo_of(hub).tree()]
    assert not any(b"hf_writer" in content for content in stored)
