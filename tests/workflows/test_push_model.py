"""A trained model goes to a Hub on loopback and comes back by its id."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import ModelError, OutputError, UsageError
from changen_cli.core.files import sha256
from changen_cli.exports.cards import split_card
from changen_cli.synthesis.hub import find_model
from changen_cli.workflows.push_model import push_model
from changen_cli.workflows.push_target import Target
from tests.hub.server import serve
from tests.hub.state import Hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ID = "org/mine"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with serve(tmp_path / "hub") as (url, state):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        yield state


@pytest.fixture
def folder(model_file: Path, tmp_path: Path) -> Path:
    """What a training run leaves."""
    made = tmp_path / "my-model"
    made.mkdir()
    shutil.copy(model_file, made / "model.safetensors")
    (made / "checkpoint.pt").write_bytes(b"resume")
    (made / "log.jsonl").write_text("{}\n")
    return made


def test_a_model_goes_there_and_back(hub: Hub, folder: Path) -> None:
    planned = push_model(str(folder), Target(ID, licence="cc-by-4.0"), dry_run=True)
    assert hub.repos == {}
    report = push_model(str(folder), Target(ID, licence="cc-by-4.0"))
    assert planned.send == report.send and report.created and report.url.endswith("/org/mine")
    repo = hub.repos["model", ID]
    assert set(repo.tree()) == {".gitattributes", "README.md", "model.safetensors"} and len(repo.messages) == 2
    front, body = split_card(hub.content(repo, "README.md").decode())
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "changen"
    assert f"--model {ID}" in body and sha256(folder / "model.safetensors") in body
    found = find_model(ID)
    assert found.origin == "hub" and found.path.read_bytes() == (folder / "model.safetensors").read_bytes()

    again = push_model(str(folder), Target(ID, licence="cc-by-4.0"))
    assert again.send == () and len(repo.messages) == 2 and set(hub.uploads.values()) == {1}
    with pytest.raises(UsageError, match="is on the Hub already"):
        push_model(ID, Target("org/copy"))


def test_what_is_refused(hub: Hub, folder: Path, tmp_path: Path, tiny_hybrid: Callable[..., Any]) -> None:
    from changen_cli.synthesis.models import save_model

    save_model(tiny_hybrid(), tmp_path / "unlicensed.safetensors")
    with pytest.raises(OutputError, match="its licence is not known"):
        push_model(str(tmp_path / "unlicensed.safetensors"), Target(ID))
    with pytest.raises(ModelError, match="nothing-here"):
        push_model(str(tmp_path / "nothing-here"), Target(ID))
    hub.create("model", ID).put("main", {"weights.pt": hub.blob(b"1"), "README.md": hub.blob(b"mine")}, "theirs")
    with pytest.raises(OutputError, match="changen did not put there"):
        push_model(str(folder), Target(ID, licence="mit"))
    assert not hub.uploads
