"""``output.push``: what a run has finished goes to the Hub, and what stands in the way is told before anything is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from changen_cli.core.errors import IncompleteError, OutputError, UsageError
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import write_pairs
from tests.hub.state import Hub

from .conftest import manifest, rows
from .pushes import ID, repo_of, shards
from .runs import Stop, Told, change


@pytest.fixture
def masks(tmp_path, make_recipe):
    """Five scenes in shards of two, pushed at the end."""
    return make_recipe(
        write_pairs(tmp_path / "in", 5),
        source={"license": ("cc-by-4.0",)},
        output={"path": str(tmp_path / "out"), "push": ID},
        run={"batch_size": 1, "shard_size": 2, "device": "cpu"},
    )


@pytest.fixture
def nobody(tmp_path, monkeypatch) -> None:
    """No token anywhere."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def pushed_rows(hub: Hub) -> int:
    import io

    import pyarrow.parquet as pq

    repo = repo_of(hub)
    return sum(pq.read_metadata(io.BytesIO(hub.content(repo, path))).num_rows for path in shards(repo))


def test_a_finished_run_is_pushed_once(hub, masks) -> None:
    told = Told()
    result = simulate_dataset(masks, told)
    assert result.pushed.endswith(f"/datasets/{ID}") and pushed_rows(hub) == 5
    log = [json.loads(line) for line in (masks.output_path / "run.log").read_text().splitlines()]
    assert [line["event"] for line in log[-2:]] == ["pushed", "end"] and log[-1]["status"] == "complete"
    assert log[-2]["commit"] == repo_of(hub).refs["main"]
    requests = len(hub.requests)
    again = simulate_dataset(masks)
    assert again.nothing_to_do and again.pushed == result.pushed
    assert len(hub.requests) == requests, "what is there unchanged is not asked for"
    for path in masks.output_path.rglob("*"):
        assert not path.is_file() or b"hf_writer" not in path.read_bytes()


def test_a_finished_run_that_was_not_pushed_is_pushed_by_the_next(hub, masks) -> None:
    simulate_dataset(change(masks, output={"push": None}))
    assert not hub.repos
    result = simulate_dataset(masks)
    assert result.nothing_to_do and result.pushed and pushed_rows(hub) == 5
    assert simulate_dataset(change(masks, output={"push": "org/other"})).pushed.endswith("org/other")


def test_what_a_budget_leaves_is_pushed_and_grows(hub, masks) -> None:
    short = change(masks, run={"time_budget": 1e-3})
    counts = []
    for _ in range(2):
        with pytest.raises(IncompleteError, match="is used up"):
            simulate_dataset(short)
        counts.append(pushed_rows(hub))
    simulate_dataset(short)
    assert [*counts, pushed_rows(hub)] == [2, 4, 5]
    assert len(repo_of(hub).messages) >= 3


def test_what_was_interrupted_or_failed_too_often_is_not_pushed(hub, masks, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(masks, Stop(2))
    (tmp_path / "in" / "images" / "s4.png").write_bytes(b"broken")
    strict = change(masks, source={"max_skipped": 0.0}, output={"path": str(tmp_path / "strict")})
    for _ in range(2):
        with pytest.raises(IncompleteError, match="1 of 5 images failed"):
            simulate_dataset(strict)
    assert not hub.repos
    assert simulate_dataset(change(strict, source={"max_skipped": 0.5})).pushed


def test_without_a_token_nothing_is_made(hub, nobody, masks) -> None:
    with pytest.raises(UsageError, match=r"--push org/series: there is no access token .* set HF_TOKEN"):
        simulate_dataset(masks)
    assert not masks.output_path.exists()
    simulate_dataset(change(masks, output={"push": None}))
    with pytest.raises(OutputError, match=r"out is there, but was not pushed to org/series: there is no access token"):
        simulate_dataset(masks)


def test_an_object_store_cannot_be_pushed_from(masks) -> None:
    with pytest.raises(UsageError, match=r"--push org/series: memory://x is no folder"):
        simulate_dataset(change(masks, output={"path": "memory://x"}))


@pytest.mark.parametrize("wrong", ["token", "rights", "licence", "stranger"])
def test_what_the_hub_will_not_take_is_told_before_anything_is_made(wrong, hub, masks, monkeypatch) -> None:
    if wrong == "token":
        monkeypatch.setenv("HF_TOKEN", "hf_invalid")
    elif wrong == "rights":
        monkeypatch.setenv("HF_TOKEN", "hf_reader")
        hub.create("dataset", ID, private=False)
    elif wrong == "licence":
        masks = change(masks, source={"license": None})
    else:
        repo = hub.create("dataset", ID, private=False)
        repo.put("main", {**repo.tree(), "thesis.txt": hub.blob(b"mine")}, "mine")
    says = {
        "token": "does not accept the token", "rights": "may not write", "licence": "--source-license",
        "stranger": "holds files that changen did not put there",
    }  # fmt: skip
    with pytest.raises((OutputError, UsageError), match=says[wrong]) as error:
        simulate_dataset(masks)
    assert "hf_" not in str(error.value)
    assert not masks.output_path.exists()


def test_a_push_that_fails_loses_nothing(hub, masks, monkeypatch) -> None:
    monkeypatch.setattr("changen_cli.writers.hub.ATTEMPTS", 1)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    hub.fault(r"POST .*/commit/", times=99, status=503)
    with pytest.raises(OutputError, match=r"out is there, but was not pushed to .*503.* The same command") as error:
        simulate_dataset(masks)
    assert error.value.exit_code == 1 and "\n" not in str(error.value)
    assert manifest(masks.output_path)["status"] == "complete" and len(rows(masks.output_path)) == 5
    last = json.loads((masks.output_path / "run.log").read_text().splitlines()[-1])
    assert last["status"] == "complete" and "was not pushed" in last["error"]
    hub.faults.clear()
    result = simulate_dataset(masks)
    assert result.nothing_to_do and result.pushed and pushed_rows(hub) == 5


def test_a_hub_that_cannot_be_reached_is_asked_again_at_the_end(hub, masks, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr("changen_cli.writers.hub.ATTEMPTS", 1)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    address = constants.ENDPOINT
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    class Back(Told):
        def stage(self, name: str) -> None:
            if name == "closing":
                monkeypatch.setattr(constants, "ENDPOINT", address)

    back = Back()
    assert simulate_dataset(masks, back).pushed and pushed_rows(hub) == 5
    assert any("gives no answer now" in note for note in back.notes)


def test_parquet_is_pushed_when_it_is_complete(hub, masks) -> None:
    recipe = change(masks, output={"format": "parquet"}, run={"time_budget": 1e-3})
    for _ in range(2):
        with pytest.raises(IncompleteError):
            simulate_dataset(recipe)
        assert not hub.repos or not shards(repo_of(hub))
    assert simulate_dataset(recipe).pushed and pushed_rows(hub) == 5
    assert Path(recipe.output_path, ".push", "pushed.json").is_file()
