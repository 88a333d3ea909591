"""Whole runs with models of latents: a published state and a tiny autoencoder, through the usual path."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from scipy import ndimage

from changen_cli.core.errors import ModelError
from changen_cli.core.files import sha256
from changen_cli.workflows.generate import generate
from changen_cli.workflows.models import open_model
from changen_cli.workflows.setup import choose_compute, load_pipeline

from .conftest import load, manifest, rows, tree

XVIEW2 = "Changen2_RSDiT-B-2-xView2-256"


def far_from(change: np.ndarray) -> np.ndarray:
    """Pixels beyond the margin of a change and the shadow of its object."""
    return ndimage.distance_transform_edt(~change) > 26


@pytest.fixture
def published(tmp_path: Path, tiny_rsdit) -> Path:
    """A folder that kept the name of a published model, with a small state under the published names."""
    folder = tmp_path / XVIEW2
    folder.mkdir()
    save_file(tiny_rsdit(seed=4).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_heads": 2, "window_size": 4}))
    return folder


@pytest.fixture
def latent(published, tiny_autoencoder, make_recipe, tmp_path):
    """Return ``make(folder, name, **synthesis)``: a recipe with that model, written to ``name``."""
    vae = tiny_autoencoder()

    def make(folder: Path, name: str, **synthesis):
        synthesis = {"model": str(published), "vae": str(vae), "nuisance": "none"} | synthesis
        return make_recipe(folder, synthesis=synthesis, output={"path": str(tmp_path / name)})

    return make


@pytest.mark.parametrize(
    "synthesis",
    [
        {},
        {"start": "noise", "inference_steps": 3},
        {"scheduler": "iddpm", "strength": 0.5},
        {"scheduler": "ddim", "extent": "full"},
    ],
    ids=["as it comes", "noise", "iddpm", "full"],
)
def test_only_the_change_goes_through_the_autoencoder(xbd_tree, tmp_path, latent, synthesis) -> None:
    generate(latent(xbd_tree, "out", **synthesis))
    out = tmp_path / "out"
    for row in rows(out):
        before, after = (load(out, row[f"t{t}_image_file_name"]) for t in (1, 2))
        masks = [load(out, row[f"t{t}_mask_file_name"]) for t in (1, 2)]
        change = load(out, row["change_mask_file_name"]) > 0
        assert (change == (masks[0] != masks[1])).all()
        assert change.any()
        assert np.abs(before[change].astype(int) - after[change]).mean() > 1
        differs = (before != after).any(axis=2)
        # A random autoencoder makes something else of every pixel it touches; most of the tile it never touched.
        assert 0.01 < differs.mean() < 0.6
        assert not differs[far_from(change)].any()


def test_same_recipe_same_bytes_whatever_the_batch(xbd_tree, tmp_path, latent) -> None:
    first = latent(xbd_tree, "a")
    generate(first)
    generate(latent(xbd_tree, "b").model_copy(update={"run": first.run.model_copy(update={"batch_size": 1})}))
    one, two = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert {k: v for k, v in one.items() if k.startswith("train/")} == {
        k: v for k, v in two.items() if k.startswith("train/")
    }


def test_licence_and_hashes_are_told(xbd_tree, tmp_path, latent, published, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="changen_cli"):
        generate(latent(xbd_tree, "out"))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("changen_cli")]
    assert lines == [f"Model {XVIEW2}: licence CC BY-NC-SA 4.0. It can extend to what the model generates."]
    model = manifest(tmp_path / "out")["model"]
    assert model["id"] == XVIEW2
    assert model["license"] == "CC BY-NC-SA 4.0"
    assert model["sha256"] == sha256(published / "model.safetensors")
    weights = tmp_path / "tiny-vae" / "diffusion_pytorch_model.safetensors"
    assert model["facts"]["autoencoder"] == {"id": "tiny-vae", "revision": "", "sha256": sha256(weights)}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"- **Model**: `{XVIEW2}`, licence: CC BY-NC-SA 4.0" in card


def test_windows_are_half_attention_windows_of_latents(latent, xbd_tree) -> None:
    from changen_cli.synthesis.synthesiser import Synthesiser

    pipeline, _ = load_pipeline(latent(xbd_tree, "out"), choose_compute("cpu", "auto", 1))
    assert pipeline is not None and pipeline.vae is not None
    # 8 px a latent, 2 latents a token, half of 4 tokens a window.
    assert Synthesiser._window_multiple(pipeline) == 32
    assert {parameter.dtype for parameter in pipeline.vae.parameters()} == {pipeline.transformer.dtype}


@pytest.mark.parametrize("damage", ["model cut", "autoencoder cut", "autoencoder gone", "no autoencoder wanted"])
def test_nothing_is_written_when_a_file_is_broken(xbd_tree, tmp_path, latent, published, model_file, damage) -> None:
    recipe = latent(xbd_tree, "out")
    weights = tmp_path / "tiny-vae" / "diffusion_pytorch_model.safetensors"
    if damage == "model cut":
        whole = (published / "model.safetensors").read_bytes()
        (published / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif damage == "autoencoder cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "autoencoder gone":
        weights.unlink()
    else:
        recipe = latent(xbd_tree, "out", model=str(model_file))
    with pytest.raises(ModelError) as error:
        generate(recipe)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_pipelines_own_autoencoder_is_taken(tmp_path, tiny_rsdit, tiny_autoencoder) -> None:
    from diffusers import AutoencoderKL

    from changen_cli.synthesis import ChangenPipeline
    from changen_cli.synthesis.schedulers import make_scheduler

    model = tiny_rsdit()
    vae = AutoencoderKL.from_pretrained(tiny_autoencoder(), low_cpu_mem_usage=False)
    ChangenPipeline(model, make_scheduler("iddpm", model.config), vae).save_pretrained(tmp_path / "pipe")
    opened = open_model(str(tmp_path / "pipe"))
    assert opened.autoencoder is not None
    assert opened.record.facts["autoencoder"]["id"] == "pipe"
    assert opened.record.sha256 != opened.record.facts["autoencoder"]["sha256"]


def test_a_model_says_which_autoencoder_it_was_trained_with(tmp_path, tiny_rsdit, tiny_autoencoder, caplog) -> None:
    from changen_cli.synthesis.models import save_model

    folder = str(tiny_autoencoder())
    path = tmp_path / "own.safetensors"
    save_model(tiny_rsdit(), path)
    with pytest.raises(ModelError, match=r"does not say of which autoencoder.*--vae"):
        open_model(str(path))
    assert open_model(str(path), folder).autoencoder is not None
    hashed = sha256(Path(folder) / "diffusion_pytorch_model.safetensors")
    for told, warnings in (({"id": folder, "sha256": hashed}, 0), ({"id": folder, "sha256": "0" * 64}, 1)):
        save_model(tiny_rsdit(), path, autoencoder=told)
        caplog.clear()
        assert open_model(str(path)).record.facts["autoencoder"]["sha256"] == hashed
        assert len(caplog.records) == warnings
