"""References to models: which file is meant, the Hub client's cache, and what is said when nothing is found."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import ModelError
from changen_cli.synthesis import hub
from changen_cli.synthesis.hub import KNOWN, find_autoencoder, find_model, select_autoencoder, select_model

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json", "README.md"], ["model.safetensors", "config.json"]),
        (["pytorch_model.bin", "config.json"], ["pytorch_model.bin", "config.json"]),
        (["weights.pth", "optimizer.pt", "training_args.bin", "rng_state_0.pth"], ["weights.pth"]),
        (["last.ckpt", "last_ema.ckpt"], ["last_ema.ckpt"]),
        (["a.ckpt", "b.safetensors"], ["b.safetensors"]),
        (["sub/model.safetensors", "sub/config.json"], ["sub/model.safetensors", "sub/config.json"]),
        (["model.safetensors", "sub/model.safetensors", "sub/config.json"], ["model.safetensors"]),
        (
            [
                "model_index.json", "transformer/config.json", "vae/config.json",
                "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
            ],
            [
                "transformer/diffusion_pytorch_model.safetensors", "transformer/config.json", "model_index.json",
                "vae/config.json",
            ],
        ),
        (["vae/diffusion_pytorch_model.safetensors"], []),
        (["README.md", "tf_model.h5"], []),
        ([], []),
    ],
)  # fmt: skip
def test_the_file_that_is_meant(names: list[str], expected: list[str]) -> None:
    assert select_model(names) == expected
    assert select_model(names[::-1]) == expected


def test_several_models_are_not_guessed_among() -> None:
    with pytest.raises(ModelError, match=r"several models \(a.ckpt, b.ckpt\)"):
        select_model(["a.ckpt", "b.ckpt"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["config.json", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"],
         ["config.json", "diffusion_pytorch_model.safetensors"]),
        (["config.json", "diffusion_pytorch_model.bin"], ["config.json", "diffusion_pytorch_model.bin"]),
        (["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "config.json"],
         ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]),
        (["diffusion_pytorch_model.safetensors"], []),
        (["config.json"], []),
    ],
)  # fmt: skip
def test_the_autoencoder_that_is_meant(names: list[str], expected: list[str]) -> None:
    assert select_autoencoder(names) == expected


@pytest.mark.parametrize(
    "reference",
    ["nonsense", "a/b/c", "./a/b", "a//b", "../x", "a b/c", "", "org/weights.safetensors", "/no/such", "a/b@"],
)
def test_what_is_no_reference(reference: str) -> None:
    for find in (find_model, find_autoencoder):
        with pytest.raises(ModelError, match=r"no Hub id|holds no weights") as error:
            find(reference)
        assert "\n" not in str(error.value)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"notes.txt is no model file"):
        find_model(str(tmp_path / "notes.txt"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("[1")
    (tmp_path / "m" / "model.safetensors").write_text("")
    with pytest.raises(ModelError, match=r"config.json is no readable configuration"):
        find_model(str(tmp_path / "m"))


def test_ids_of_local_models(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("model.safetensors", "net.pt"):
        (tmp_path / "mine" / name).write_text("")
    assert find_model(str(tmp_path / "mine")).id == "mine"
    assert find_model(str(tmp_path / "mine" / "model.safetensors")).id == "mine"
    assert find_model(str(tmp_path / "mine" / "net.pt")).id == "net.pt"


def fill_cache(folder: Path, repo: str, files: dict[str, bytes], revisions: dict[str, str] = COMMITS) -> None:
    """A cache as the Hub client lays it out, with ``files`` in every revision."""
    root = folder / f"models--{repo.replace('/', '--')}"
    for ref, commit in revisions.items():
        for name, content in files.items():
            path = root / "snapshots" / commit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / ref).write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    from huggingface_hub import constants

    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def test_offline_the_cache_is_enough(cache: Path) -> None:
    fill_cache(cache, "org/name", {"model.safetensors": b"x", "config.json": b'{"classes": ["a"]}'})
    for reference, commit in {
        "org/name": COMMITS["main"],
        "org/name@main": COMMITS["main"],
        "org/name@v1": COMMITS["v1"],
        f"org/name@{COMMITS['v1']}": COMMITS["v1"],
        "org/name@bbbbbbb": COMMITS["v1"],
    }.items():
        found = find_model(reference)
        assert (found.id, found.origin, found.revision) == ("org/name", "hub", commit)
        assert found.path == cache / "models--org--name" / "snapshots" / commit / "model.safetensors"
        assert found.config == {"classes": ["a"]}


@pytest.mark.parametrize("reference", ["org/other", "org/name@v2", f"org/name@{'c' * 40}", "org/half"])
def test_offline_and_not_in_the_cache(cache: Path, reference: str) -> None:
    fill_cache(cache, "org/name", {"model.safetensors": b"x"})
    fill_cache(cache, "org/half", {"config.json": b"{}"})
    for find in (find_model, find_autoencoder):
        with pytest.raises(ModelError, match="offline mode is set") as error:
            find(reference)
        assert reference in str(error.value) and "path" in str(error.value) and "\n" not in str(error.value)


def test_known_models_by_id_folder_and_file(cache: Path, tmp_path: Path) -> None:
    for model in KNOWN:
        fill_cache(cache, model.id, {"model.safetensors": b"x"})
        assert find_model(model.id).known is model
        short = model.id.split("/")[1]
        (tmp_path / short).mkdir()
        for name in (f"{short}/model.safetensors", f"{short}.safetensors"):
            (tmp_path / name).write_text("")
            assert find_model(str(tmp_path / name)).known is model
    assert find_model("changen-mini").known is None


def test_the_cache_is_listed(cache: Path) -> None:
    assert list(hub.cached_repositories()) == []
    fill_cache(cache, "org/name", {"sub/model.safetensors": b"x"})
    (cache / "models--broken--one").mkdir()
    found = list(hub.cached_repositories())
    assert [(files.id, files.names, files.revision) for files in found] == [
        ("org/name", ("sub/model.safetensors",), COMMITS["main"])
    ]
    cache.rename(cache.with_name("gone"))
    assert list(hub.cached_repositories()) == []


FILES = {"config.json": b'{"classes": ["house"]}', "weights.safetensors": b"not read here", "weights.bin": b"never"}


class StandIn(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as fetching a model takes."""

    def log_message(self, *arguments: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        commit = COMMITS["main"]
        if self.path.startswith("/api/models/org/gated"):
            self._answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif self.path.startswith("/api/models/org/name/revision/nope"):
            self._answer(404, X_Error_Code="RevisionNotFound")
        elif self.path.startswith("/api/models/org/down"):
            self._answer(500)
        elif self.path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "org/name", "modelId": "org/name", "sha": commit, "siblings": siblings}).encode()
            self._answer(200, body, Content_Type="application/json")
        elif (name := self.path.removeprefix(f"/org/name/resolve/{commit}/")) in FILES:
            content = FILES[name]
            self._answer(200, content, ETag=f'"{name}-{len(content)}"', X_Repo_Commit=commit)
        else:
            self._answer(404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def stand_in() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


FETCH = """
import sys
from changen_cli.core.errors import ModelError
from changen_cli.synthesis.hub import find_model
for reference in sys.argv[1:]:
    try:
        found = find_model(reference)
        print("FOUND", found.revision, found.path.name, found.path.read_bytes(), found.config)
    except ModelError as error:
        print("ERROR", error)
"""


def test_fetched_once_then_from_the_cache(stand_in: str, tmp_path: Path) -> None:
    """In a process of its own: the Hub client reads its settings when it is imported."""

    def fetch(endpoint: str, *references: str) -> list[str]:
        settings = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": ""}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, *references],
            capture_output=True, text=True, timeout=120, env=os.environ | settings | {"HF_HUB_DISABLE_TELEMETRY": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    found, gated, revision, missing, down = fetch(
        stand_in, "org/name", "org/gated", "org/name@nope", "org/nothing", "org/down"
    )
    expected = f"FOUND {COMMITS['main']} weights.safetensors {FILES['weights.safetensors']!r} {{'classes': ['house']}}"
    assert found == expected
    assert "org/gated: access has to be asked for" in gated and "hf auth login" in gated
    assert "org/name@nope: the Hub has no such revision" in revision
    assert "org/nothing: the Hub has no such model" in missing
    assert "org/down is not on this machine and the Hub cannot be used" in down
    assert not list(tmp_path.rglob("weights.bin")), "only what is needed is fetched"
    # Nobody listens here: what was fetched is still found, the rest is not.
    again, lost = fetch("http://127.0.0.1:9", "org/name", "org/other")
    assert again == expected
    assert lost.startswith("ERROR org/other is not on this machine")
