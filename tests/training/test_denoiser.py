from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY

from changen_cli.core.errors import UsageError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis.models import load_model
from changen_cli.synthesis.transformer import RSDiT
from changen_cli.training.denoiser import DenoiserSettings, DenoiserTask, label_planes
from changen_cli.training.loop import LoopSettings, run
from changen_cli.training.objective import NoiseLevels
from changen_cli.training.sizes import FLOW, VELOCITY, new_denoiser

SMALL = DenoiserSettings(crop_size=32)


def make(tiles, settings: DenoiserSettings = SMALL, **shape) -> DenoiserTask:
    return DenoiserTask(new_denoiser("mini", "pixel", 0, **(TINY | shape)), tiles, settings)


def test_a_new_model_depends_on_its_seed_only() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = new_denoiser("mini", "pixel", 5, **TINY).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = new_denoiser("mini", "pixel", 5, **TINY).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], new_denoiser("mini", "pixel", 6, **TINY).state_dict()["stem.weight"])


def test_sizes() -> None:
    mini = new_denoiser("mini", "pixel", 0)
    assert 6e6 < sum(p.numel() for p in mini.parameters()) < 7.5e6
    assert tuple(mini.config["classes"]) == OPENEARTHMAP
    latent = new_denoiser("S", "vae", 0, depth=1)
    assert (latent.config["hidden_size"], latent.config["condition_channels"], latent.config["codec"]) == (
        384,
        5,
        "vae",
    )
    assert latent.config["label_channels"] == 9


def test_batches_depend_on_their_rng_only(tiles) -> None:
    task = make(tiles, replace(SMALL, label_dropout=0.5))
    first, again, other = (task.batch(np.random.default_rng(seed), 6) for seed in (0, 0, 1))
    assert (first.images == again.images).all() and (first.labels == again.labels).all()
    assert (first.images != other.images).any()
    assert first.images.shape == (6, 3, 32, 32) and first.images.dtype == np.float32
    assert np.abs(first.images).max() <= 1
    assert first.labels.shape == (6, 9, 32, 32)
    per_pixel = first.labels.sum(axis=1)
    assert set(np.unique(per_pixel)) == {0.0, 1.0}, "dropped labels have no plane, others exactly one"
    assert first.change.shape == (6, 1, 32, 32) and first.change.any(axis=(1, 2, 3)).all()


def test_label_planes() -> None:
    classes = np.array([[8, 0, 255, 6]], np.uint8)
    model = {"classes": ("water", "building"), "unknown_plane": True}
    planes = label_planes(classes, model, OPENEARTHMAP)
    assert planes[:, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert label_planes(classes, model | {"unknown_plane": False}, OPENEARTHMAP).shape == (2, 1, 4)


@pytest.mark.parametrize("codec", ["pixel", "vae"])
def test_a_model_of_contours_has_one_plane(codec) -> None:
    shape = TINY if codec == "pixel" else {"depth": 1, "hidden_size": 32, "num_heads": 2}
    config = new_denoiser("mini", codec, 0, of_contours=True, **shape).config
    assert tuple(config["classes"]) == ("contour",)
    assert (config["label_channels"], config["unknown_plane"]) == (1, False)


def test_the_label_of_unlabelled_images_is_contours(tiles) -> None:
    objects = [np.repeat(np.repeat(np.arange(16, dtype=np.int32).reshape(4, 4), 16, 0), 16, 1)] * len(tiles)
    numbered = [replace(tile, classes=np.full_like(tile.classes, 255), objects=o)
                for tile, o in zip(tiles, objects, strict=True)]  # fmt: skip
    model = new_denoiser("mini", "pixel", 0, of_contours=True, **TINY)
    task = DenoiserTask(model, numbered, replace(SMALL, label_dropout=0.5), validation=numbered)
    labels = task.batch(np.random.default_rng(0), 24).labels
    assert labels.shape == (24, 1, 32, 32)
    drawn = labels.sum(axis=(1, 2, 3))
    assert (drawn == 0).any() and (drawn > 0).any(), "some crops are trained without any contour"
    # Lines one pixel wide, as from the whole map: nothing else is told.
    assert 0.03 < labels[drawn > 0].mean() < 0.25
    with torch.no_grad():
        assert np.isfinite(task.validate()["psnr_t100"])


def test_what_cannot_be_trained_is_refused(tiles) -> None:
    with pytest.raises(UsageError, match="128 px"):
        make(tiles, replace(SMALL, crop_size=128))
    with pytest.raises(UsageError, match="divisible by 8"):
        make(tiles, replace(SMALL, crop_size=36))


@pytest.mark.parametrize(
    "shape",
    [
        VELOCITY,
        FLOW,
        {"beta_schedule": "linear", "prediction_type": "epsilon"},
    ],
    ids=["velocity", "flow", "noise"],
)
def test_a_perfect_network_has_no_loss(tiles, shape) -> None:
    """Target and denoised sample of every objective fit together."""
    task = make(tiles, **shape)
    alpha, sigma = task.objective.scales(task.objective.timesteps(torch.tensor([10.0, 400, 900])))
    clean, noise = torch.randn(2, 3, 3, 8, 8)
    noised = alpha * clean + sigma * noise
    target = task.objective.target(clean, noise, alpha, sigma)
    torch.testing.assert_close(task.objective.denoised(target, noised, alpha, sigma), clean, atol=2e-4, rtol=1e-4)
    weight = torch.ones(3, 1, 8, 8)
    assert task.objective.loss(target, target, sigma, weight, chroma_weight=3.0) == 0
    off = task.objective.loss(target + 0.1, target, sigma, weight)
    if not task.objective.flow:
        assert float(off) == pytest.approx(0.01, rel=1e-4)
    grey, tinted = (target + 0.1, target + torch.tensor([0.1, -0.1, 0.0])[None, :, None, None])
    at = [float(task.objective.loss(t, target, sigma, weight, chroma_weight=3.0)) for t in (grey, tinted)]
    assert at[1] > at[0], "colour errors count more"


def test_noise_levels_lie_where_the_start_needs_them() -> None:
    drawn = NoiseLevels().draw(4000, np.random.default_rng(0))
    assert drawn.min() >= 1 and drawn.max() <= 999
    assert (drawn < 450).double().mean() == pytest.approx(0.9, abs=0.02)
    assert (drawn < 50).double().mean() > 0.2
    everywhere = NoiseLevels(start_share=1.0, start_limit=1.0, power=1.0).draw(4000, np.random.default_rng(0))
    assert float(everywhere.mean()) == pytest.approx(500, abs=20)


def test_learned_variance_is_trained(tiles, tmp_path: Path) -> None:
    """iDDPM's variance output moves, and its loss alone does not move the noise output."""
    shape = {"hidden_size": 16, "depth": 1, "num_heads": 2, "window_size": 4, "learn_sigma": True, "in_channels": 3}
    shape |= {"condition_channels": 4, "patch_size": 4, "prediction_type": "epsilon", "beta_schedule": "linear"}
    model = RSDiT(codec="pixel", classes=("building",), unknown_plane=True, label_channels=2, **shape)
    task = DenoiserTask(model, tiles, SMALL)
    run(task, LoopSettings(max_images=8, batch_size=2, learning_rate=1e-2, warmup_images=1), tmp_path)
    changed = load_model(tmp_path / "model.safetensors").final_layer.linear.weight.reshape(4 * 4, 6, -1)
    assert changed[:, :3].abs().max() > 0 and changed[:, 3:].abs().max() > 0
    predicted, fraction = (torch.randn(2, 3, 8, 8, requires_grad=True) for _ in range(2))
    clean, noised = torch.randn(2, 2, 3, 8, 8)
    loss = task.objective.variance_loss(
        predicted, fraction, clean, noised, torch.tensor([5, 700]), torch.ones(2, 1, 8, 8)
    )
    loss.backward()
    assert predicted.grad is None and fraction.grad is not None and torch.isfinite(loss)


def test_latents_train_and_load(tiles, tmp_path: Path) -> None:
    from changen_cli.training.autoencoder import new_autoencoder

    narrow = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    vae = new_autoencoder(narrow, 0).eval()
    model = new_denoiser("mini", "vae", 0, hidden_size=16, depth=1, num_heads=2)
    with pytest.raises(UsageError, match="divisible by 16"):
        DenoiserTask(model, tiles, replace(SMALL, crop_size=40), vae=vae)
    task = DenoiserTask(model, tiles, SMALL, vae=vae, validation=tiles)
    figures = []
    run(task, LoopSettings(max_images=4, batch_size=2), tmp_path, on_figures=lambda _, found: figures.append(found))
    assert load_model(tmp_path / "model.safetensors").config["codec"] == "vae"
    assert np.isfinite(list(figures[0].values())).all()
