"""``changen models``: list, show, check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.files import sha256
from changen_cli.synthesis.hub import BUNDLED, KNOWN

XVIEW2 = KNOWN[0]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *(str(argument) for argument in arguments)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def snapshot(cache: Path, repo: str) -> Path:
    """The folder of a repository's one revision in the cache."""
    root = cache / f"models--{repo.replace('/', '--')}"
    folder = root / "snapshots" / ("c" * 40)
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("c" * 40)
    return folder


def test_list(cache: Path, model_file: Path, tiny_rsdit, tiny_autoencoder) -> None:
    done = run("list")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(list(BUNDLED.glob("*.safetensors"))) - 1 + len(KNOWN)  # the segmenter is no denoiser
    for model in KNOWN:
        line = next(line for line in lines if model.id in line)
        assert "CC BY-NC-SA 4.0" in line and line.endswith("(published, not fetched yet)")

    (snapshot(cache, "me/ours") / "model.safetensors").write_bytes(model_file.read_bytes())
    save_file(tiny_rsdit().state_dict(), snapshot(cache, XVIEW2.id) / "model.safetensors")
    save_file(
        {"module." + k: v for k, v in tiny_rsdit().state_dict().items()}, snapshot(cache, "me/theirs") / "w.safetensors"
    )
    save_file({"fc.weight": torch.ones(2)}, snapshot(cache, "else/bert") / "model.safetensors")
    (snapshot(cache, "else/broken") / "model.safetensors").write_bytes(b"")
    for path in tiny_autoencoder().iterdir():
        (cache / "vae").mkdir(exist_ok=True)
        path.rename(cache / "vae" / path.name)
    (cache / "vae").rename(snapshot(cache, "me/vae") / "tmp")
    for path in (snapshot_files := cache / "models--me--vae" / "snapshots" / ("c" * 40) / "tmp").iterdir():
        path.rename(snapshot_files.parent / path.name)
    found = {row["id"]: row for row in json.loads(run("list", "--json").stdout)["models"]}
    assert found["me/ours"]["license"] == "CC0-1.0" and found["me/ours"]["architecture"] == "HybridRSDiT"
    assert found["me/theirs"]["architecture"] == "RSDiT"
    assert found["me/vae"]["use"] == "vae"
    assert found[XVIEW2.id]["here"] and found[XVIEW2.id]["bytes"] > 1000
    assert not found[KNOWN[1].id]["here"]
    assert not {"else/bert", "else/broken"} & set(found)
    assert "--vae   me/vae" in run("list").stdout


def test_list_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom changen_cli.workflows.models import list_models\nlist_models()\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_show(model_file: Path) -> None:
    done = run("show", model_file, "--json")
    assert done.exit_code == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["id"] == "tiny.safetensors" and shown["origin"] == "local"
    assert shown["path"] == str(model_file.resolve()) and shown["sha256"] == sha256(model_file)
    assert shown["bytes"] == model_file.stat().st_size
    assert shown["parameters"] == sum(value.numel() for value in load_file(model_file).values())
    assert shown["architecture"] == "HybridRSDiT" and shown["codec"] == "pixel" and shown["autoencoder"] == ""
    assert shown["license"] == "CC0-1.0" and shown["facts"] == {"images_seen": 0}
    text = run("show", model_file).stdout
    for word in ("sha256", shown["sha256"], "HybridRSDiT", "building", "pixels", "CC0-1.0", "images seen"):
        assert word in text


@pytest.fixture
def published(tmp_path: Path, tiny_rsdit) -> Path:
    folder = tmp_path / XVIEW2.id.split("/")[1]
    folder.mkdir()
    save_file(tiny_rsdit(seed=4).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"num_heads": 2, "window_size": 4}')
    return folder


def test_show_a_published_state(published: Path) -> None:
    shown = json.loads(run("show", published, "--json").stdout)
    assert shown["license"] == "CC BY-NC-SA 4.0" and shown["classes"] == ["building"]
    assert shown["autoencoder"] == "stabilityai/sd-vae-ft-ema" and shown["learned_variance"]
    assert (shown["depth"], shown["width"], shown["heads"], shown["window"]) == (4, 32, 2, 4)
    assert "latents of stabilityai/sd-vae-ft-ema" in run("show", published).stdout


def test_check(model_file: Path, published: Path, tiny_autoencoder) -> None:
    done = run("check", model_file)
    assert done.exit_code == 0, done.stderr
    assert "tiny.safetensors runs" in done.stdout and "64 px" in done.stdout
    done = run("check", published, "--vae", tiny_autoencoder(), "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["side_px"] == 256 and told["output"] == [1, 8, 32, 32] and told["output_std"] > 0
    assert told["autoencoder"] == "tiny-vae"


@pytest.mark.parametrize("damage", ["cut", "not a number", "no heads", "no autoencoder", "nothing there"])
def test_check_fails_in_one_line(cache: Path, published: Path, tiny_autoencoder, damage: str) -> None:
    arguments: list[object] = ["--vae", tiny_autoencoder()]
    path = published / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "not a number":
        state = load_file(path)
        state["final_layer.linear.bias"][0] = float("nan")
        save_file(state, path)
    elif damage == "no heads":
        (published / "config.json").unlink()
    elif damage == "no autoencoder":
        arguments = []
    else:
        path.unlink()
    done = run("check", published, *arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr


def test_the_licence_is_one_line_on_stderr(published: Path, tmp_path: Path) -> None:
    """As a user sees it, with no logging set up: in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from changen_cli.cli.app import main; main()", "models", "show", str(published), "--json"],
        capture_output=True, text=True, timeout=120, env=os.environ | {"HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr == f"Model {published.name}: licence CC BY-NC-SA 4.0. It can extend to what the model generates.\n"
    )
    assert json.loads(done.stdout)["license"] == "CC BY-NC-SA 4.0"
