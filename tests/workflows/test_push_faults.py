"""Pushes to a Hub on loopback that fails: what is waited for, what is refused, and that nothing is half there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.exports.cards import split_card
from changen_cli.workflows.push_target import PushReport
from tests.hub.datasets import write_dataset
from tests.hub.state import Hub
from tests.workflows.pushes import ID, repo_of, shards

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.mark.parametrize(
    "fault",
    [
        {"pattern": "^PUT", "status": 500},
        {"pattern": "^PUT", "status": 429, "headers": {"Retry-After": "1"}},
        {"pattern": "^PUT", "cut_after": 20_000},
        {"pattern": "batch", "status": 503},
        {"pattern": "preupload", "status": 502},
        {"pattern": "commit", "status": 503},
        {"pattern": "create", "status": 500},
        {"pattern": "tree", "status": 500},
    ],
    ids=lambda fault: f"{fault['pattern']} {fault.get('status') or [*fault][1]}",
)
def test_what_passes_is_waited_for(hub: Hub, push: Callable[..., PushReport], fault: dict[str, Any]) -> None:
    made = hub.fault(**fault)
    push()
    assert made.seen > 1
    assert len(shards(repo_of(hub))) == 3 and len(repo_of(hub).messages) == 2
    assert set(hub.uploads.values()) == {1}


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub: Hub, push: Callable[..., PushReport]) -> None:
    hub.fault("commit", answer_lost=True)
    report = push()
    assert len(repo_of(hub).messages) == 2
    assert report.commit == repo_of(hub).resolve("main")


def test_long_trouble_is_waited_for_longer_and_longer(
    hub: Hub, push: Callable[..., PushReport], waits: list[float]
) -> None:
    """The client gives up after six tries; each of ours is one such round."""
    hub.fault("^PUT", times=18, status=429, headers={"Retry-After": "7"})
    push(workers=1)
    assert waits == [7.0, 7.0, 8.0]
    assert set(hub.uploads.values()) == {1}


def test_endless_trouble_ends_with_one_line_and_goes_on_later(
    hub: Hub, push: Callable[..., PushReport], waits: list[float], dataset: Path
) -> None:
    fault = hub.fault("^PUT", skip=1, times=1_000, status=500)
    with pytest.raises(OutputError, match=r"keeps answering 500 .* Run the command again") as failure:
        push(workers=1)
    assert "\n" not in str(failure.value) and len(waits) == 5
    assert len(repo_of(hub).messages) == 1, "nothing was committed"
    assert not list((dataset / ".push").glob("building-*"))
    fault.times = 0
    report = push()
    assert len(report.held) == 1 and set(hub.uploads.values()) == {1}


def test_a_token_that_expires_on_the_way(hub: Hub, push: Callable[..., PushReport]) -> None:
    fault = hub.fault("preupload", skip=1, times=1_000, status=401)
    with pytest.raises(OutputError, match="does not accept the token"):
        push(workers=1)
    assert len(repo_of(hub).messages) == 1
    fault.times = 0
    push()
    assert set(hub.uploads.values()) == {1}


def refused(hub: Hub, push: Callable[..., PushReport], match: str, kind: type = OutputError, **settings: Any) -> str:
    """The one line a push is refused with; nothing was sent, nothing committed."""
    before = {key: list(repo.messages) for key, repo in hub.repos.items()}
    with pytest.raises(kind, match=match) as failure:
        push(**settings)
    assert "\n" not in str(failure.value)
    assert {key: list(repo.messages) for key, repo in hub.repos.items()} == before and not hub.uploads
    return str(failure.value)


def test_tokens_that_are_wrong(hub: Hub, push: Callable[..., PushReport], monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(hub, push, "does not accept the token", token="hf_secretwrong")
    assert "hf_secretwrong" not in said
    hub.retired.add("hf_writer")
    refused(hub, push, "does not accept the token .*expired")
    said = refused(hub, push, "characters that no token has", UsageError, token="hf_secret\nwrong")
    assert "secret" not in said
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    refused(hub, push, "no access token")


def test_rights_that_are_missing(hub: Hub, push: Callable[..., PushReport]) -> None:
    refused(hub, push, "may not write to org/series .*namespace", token="hf_reader")
    hub.create("dataset", ID)
    refused(hub, push, "may not write to org/series", token="hf_reader")
    assert hub.asked("batch") == 0, "told before anything is built"


def test_names_that_are_taken(hub: Hub, push: Callable[..., PushReport]) -> None:
    repo = hub.create("dataset", ID)
    push()  # an empty one may be filled
    hub.uploads.clear()
    repo.put("main", {"README.md": hub.blob(b"mine"), "data/train-00000-of-00001.parquet": hub.blob(b"x")}, "theirs")
    refused(hub, push, "holds files that changen did not put there")
    refused(hub, push, "org/none does not exist", repo_id="org/none", create_pr=True)


def test_public_where_private_was_asked_for(hub: Hub, push: Callable[..., PushReport]) -> None:
    hub.create("dataset", ID)
    refused(hub, push, "is public, --private asks", private=True)


def test_an_unknown_licence_is_not_published(hub: Hub, push: Callable[..., PushReport], tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "unknown", 2, licence="")
    refused(hub, push, "its licence is not known", out=out)
    refused(hub, push, "--license", UsageError, out=out, licence="my own")
    assert push(out, private=True).licence.identifier == "other" and repo_of(hub).private
    push(out, repo_id="org/stated", licence="cc-by-sa-4.0")
    front, _ = split_card(hub.content(hub.repos["dataset", "org/stated"], "README.md").decode())
    assert front["license"] == "cc-by-sa-4.0"


@pytest.mark.parametrize("repo_id", ["series", "org/a/b", "org/..", "org/with space", "org/" + "x" * 97, ""])
def test_ids_that_cannot_be(hub: Hub, push: Callable[..., PushReport], repo_id: str) -> None:
    refused(hub, push, "--repo-id", UsageError, repo_id=repo_id)
    assert hub.requests == []


@pytest.mark.parametrize("config", ["data", "a/b", "..", ""])
def test_configurations_that_cannot_be(hub: Hub, push: Callable[..., PushReport], config: str) -> None:
    refused(hub, push, "--config-name", UsageError, config=config)


def test_no_network_is_told_at_once(
    push: Callable[..., PushReport], monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OutputError, match=r"http://127.0.0.1:9 cannot be reached .*Connection refused"):
        push(token="hf_x")
    assert waits == []


def test_somebody_else_commits_in_between(hub: Hub, push: Callable[..., PushReport]) -> None:
    push()
    hub.fault("commit", status=412)
    with pytest.raises(OutputError, match="changed by somebody else"):
        push(shard_bytes=None)
    assert len(shards(repo_of(hub))) == 3


def test_a_file_that_is_missing_here(hub: Hub, push: Callable[..., PushReport], dataset: Path) -> None:
    (dataset / "train" / "masks" / "scene0001_v00_t1.png").unlink()
    refused(hub, push, "scene0001_v00_t1.png is missing")
