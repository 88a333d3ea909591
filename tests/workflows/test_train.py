"""From folders to a model: what a user does, with tiny networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY

from changen_cli.core.errors import UsageError
from changen_cli.training import autoencoder, sizes
from changen_cli.workflows.train import TrainInput, TrainRequest, train_model

LOOP = {"max_images": 8, "batch_size": 2, "save_every": 4, "validate_every": 4}


class Said:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.images: list[int] = []
        self.validated: list[dict] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, step, total: int) -> None:
        self.images.append(step.images)
        assert total == 8

    def figures(self, images: int, figures) -> None:
        self.validated.append(dict(figures))


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    narrow = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    monkeypatch.setattr(sizes, "MINI", TINY)
    monkeypatch.setitem(autoencoder.AUTOENCODERS, "mini", narrow)


def request(folder: Path, output: Path, **settings) -> TrainRequest:
    shared = {"crop_size": 32, "device": "cpu", "threads": 1, "loop": LOOP, "validation_share": 0.3}
    return TrainRequest((TrainInput(folder),), output, **(shared | settings))


def test_labelled_and_unlabelled_folders_together(xbd_tree, pairs_tree, tmp_path: Path) -> None:
    said = Said()
    (xbd_tree / "images" / "broken_pre_disaster.png").write_bytes(b"nothing")
    inputs = (TrainInput(xbd_tree), TrainInput(pairs_tree / "images", layout="images"))
    done = train_model(TrainRequest(inputs, tmp_path / "model", crop_size=32, device="cpu", threads=1, loop=LOOP), said)
    assert done == tmp_path / "model"
    assert said.images == [2, 4, 6, 8]
    assert len(said.validated) == 2 and np.isfinite(said.validated[0]["psnr_t100"])
    assert any("skipped" in note and "broken" in note for note in said.notes)
    assert not list((tmp_path / "model").glob(".tiles*"))
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_autoencoder_then_latents_then_images(xbd_tree, tmp_path: Path) -> None:
    """The whole way of somebody who trusts no weights but their own."""
    from changen_cli.core.recipe import build_recipe
    from changen_cli.workflows.generate import generate

    train_model(request(xbd_tree, tmp_path / "vae", stage="vae"), Said())
    latent = request(
        xbd_tree, tmp_path / "model", codec="vae", vae=str(tmp_path / "vae"), crop_size=64, license="CC0-1.0"
    )
    with pytest.raises(UsageError, match="needs an autoencoder"):
        train_model(request(xbd_tree, tmp_path / "other", codec="vae"), Said())
    train_model(latent, Said())
    assert {path.name for path in (tmp_path / "model" / "vae").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    section = {"model": str(tmp_path / "model"), "strength": 0.5, "inference_steps": 4}
    recipe = build_recipe(
        {
            "source": {"input": str(xbd_tree)},
            "synthesis": section,
            "output": {"path": str(tmp_path / "out")},
            "run": {"device": "cpu", "threads": 1},
        }
    )
    generate(recipe)
    assert (tmp_path / "out" / "preview.png").is_file()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "CC0-1.0" in card


def test_a_model_can_be_trained_further(xbd_tree, tmp_path: Path) -> None:
    from changen_cli.synthesis.models import load_model, read_facts

    train_model(request(xbd_tree, tmp_path / "a"), Said())
    further = dict(LOOP, learning_rate=1e-9, max_images=8)
    train_model(request(xbd_tree, tmp_path / "b", init=str(tmp_path / "a"), size="XL", loop=further), Said())
    first, second = (load_model(tmp_path / name / "model.safetensors") for name in "ab")
    for (name, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert np.allclose(one, two, atol=1e-6), name
    assert read_facts(tmp_path / "b" / "model.safetensors")["trained_on"] == [xbd_tree.name]


def test_images_alone_teach_contours(photos, tmp_path: Path, monkeypatch) -> None:
    """The self-supervised mode, from the images to a series: train, resume, generate."""
    from changen_cli.core.recipe import build_recipe
    from changen_cli.sources import pseudo_masks
    from changen_cli.synthesis.models import load_model
    from changen_cli.workflows.generate import generate

    said, model = Said(), tmp_path / "model"
    train_model(request(photos, model), said)
    assert any("contours" in note for note in said.notes)
    assert len(list((model / "proposals").iterdir())) == 2
    trained = load_model(model / "model.safetensors")
    assert tuple(trained.config["classes"]) == ("contour",) and not trained.config["unknown_plane"]

    def never(image, gsd_m):
        raise AssertionError("what was found is kept")

    with monkeypatch.context() as patched:
        patched.setattr(pseudo_masks, "propose_regions", never)
        train_model(request(photos, model, resume=True), Said())
    recipe = build_recipe(
        {
            "source": {"input": str(photos)},
            "events": {"kinds": ("remove", "swap")},
            "synthesis": {"model": str(model), "strength": 0.5, "inference_steps": 4},
            "gate": {"enabled": False},
            "output": {"path": str(tmp_path / "out")},
            "run": {"device": "cpu", "threads": 1},
        }
    )
    assert generate(recipe).samples == 2
    train_model(request(photos, tmp_path / "further", init=str(model)), Said())
    assert tuple(load_model(tmp_path / "further" / "model.safetensors").config["classes"]) == ("contour",)


def test_with_masks_among_them_images_alone_have_no_label(xbd_tree, photos, tmp_path: Path) -> None:
    from changen_cli.synthesis.models import load_model

    inputs = (TrainInput(xbd_tree), TrainInput(photos))
    train_model(TrainRequest(inputs, tmp_path / "m", crop_size=32, device="cpu", threads=1, loop=LOOP), Said())
    assert "building" in load_model(tmp_path / "m" / "model.safetensors").config["classes"]
    assert not (tmp_path / "m" / "proposals").exists()


def test_options_that_do_not_fit_are_refused_before_anything_is_written(xbd_tree, photos, tmp_path: Path) -> None:
    for settings, reason in (
        ({"vae": "x"}, "--vae goes with"),
        ({"stage": "vae", "init": "changen-mini"}, "from nothing"),
        ({"crop_size": 512}, "512 px"),
        ({"crop_size": 36}, "divisible by 8"),
    ):
        for folder in (xbd_tree, photos):
            with pytest.raises(UsageError, match=reason):
                train_model(request(folder, tmp_path / "model", **settings), Said())
            assert not (tmp_path / "model").exists()
