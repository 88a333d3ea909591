"""The autoencoder: its losses ask for sharp images, it resumes as if never broken, and what it saves diffusers reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from diffusers import AutoencoderKL
from scipy import ndimage

from changen_cli.core.errors import UsageError
from changen_cli.synthesis.pipeline import ChangenPipeline
from changen_cli.training import autoencoder as module
from changen_cli.training.autoencoder import AUTOENCODERS, AutoencoderSettings, AutoencoderTask, new_autoencoder
from changen_cli.training.discriminator import PatchDiscriminator, adaptive_weight, frozen, hinge_loss
from changen_cli.training.loop import LoopSettings, Trainer, run
from changen_cli.training.reconstruction import (
    frequency_loss,
    gradient_loss,
    kl_divergence,
    reconstruction_figures,
)
from changen_cli.training.tiles import TrainingTile

TINY = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
}
LOOP = LoopSettings(
    max_images=24, batch_size=2, learning_rate=3e-3, warmup_images=4, ema_decay=0.9, log_every=3, save_every=8,
    validate_every=12, seed=3,
)  # fmt: skip
SETTINGS = AutoencoderSettings(crop_size=32, discriminator_start=8, discriminator_width=8)


def tile(seed: int) -> TrainingTile:
    image, numbers = picture(seed, 64)
    return TrainingTile(image, (numbers > 0).astype(np.uint8), group=f"place{seed}")


def task(settings: AutoencoderSettings = SETTINGS, *, seed: int = 3, held: int = 1) -> AutoencoderTask:
    validation = [tile(10 + number) for number in range(held)]
    return AutoencoderTask(new_autoencoder(TINY, seed), [tile(0), tile(1)], validation, settings, seed=seed)


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def unequal(first, second, path: str = "") -> list[str]:
    """Paths of everything that differs between two nested states."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return [name for key in first for name in unequal(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        return [
            name for key, pair in enumerate(zip(first, second, strict=True)) for name in unequal(*pair, f"{path}/{key}")
        ]
    return [] if first == second else [path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("vae")
    run(task(), LOOP, path)
    return path


def pictures(count: int = 2, size: int = 64) -> np.ndarray:
    return np.stack([picture(seed, size)[0] for seed in range(count)])


def as_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


class TestLosses:
    @pytest.mark.parametrize("loss", [gradient_loss, frequency_loss])
    def test_zero_for_equal_images_and_growing_with_blur(self, loss) -> None:
        images = pictures()
        values = [float(loss(as_tensor(blurred(images, sigma)), as_tensor(images))) for sigma in (0, 0.5, 1, 2)]
        assert values[0] == 0
        assert values[1] > 1e-3
        assert values == sorted(values)

    def test_gradients_ignore_brightness_and_spectra_ignore_position(self) -> None:
        image = as_tensor(pictures())
        assert float(gradient_loss(image + 0.25, image)) < 1e-6
        assert float(frequency_loss(image.roll((5, 9), (2, 3)), image)) < 1e-6

    def test_gradients_of_coarse_errors_weigh_more_at_coarse_scales(self) -> None:
        coarse = torch.zeros(1, 3, 32, 32)
        coarse[..., 16:] = 1
        nothing = torch.zeros_like(coarse)
        expected = (1 / 31 + 1 / 15 + 1 / 7) / 3  # one step among the differences of each scale
        assert float(gradient_loss(coarse, nothing)) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("loss", [gradient_loss, frequency_loss])
    def test_gradients_are_finite_at_the_optimum(self, loss) -> None:
        image = as_tensor(pictures())
        given = image.clone().requires_grad_()
        loss(given, image).backward()
        assert torch.isfinite(given.grad).all()

    def test_kl(self) -> None:
        mean, log_variance = torch.full((2, 4, 4, 4), 2.0), torch.full((2, 4, 4, 4), np.log(0.25))
        normal = torch.distributions.Normal(2.0, 0.5), torch.distributions.Normal(0.0, 1.0)
        expected = float(torch.distributions.kl_divergence(*normal)) * 64 / 3072
        assert float(kl_divergence(mean, log_variance, 3072)) == pytest.approx(expected, rel=1e-5)
        assert float(kl_divergence(mean * 0, log_variance * 0, 3072)) == 0

    def test_hinge(self) -> None:
        far, nothing = torch.full((1, 1, 2, 2), 3.0), torch.zeros(1, 1, 2, 2)
        assert float(hinge_loss(far, -far)) == 0
        assert float(hinge_loss(nothing, nothing)) == 1

    def test_the_adaptive_weight_is_the_ratio_of_the_gradients(self) -> None:
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        ratio = adaptive_weight((3 * weight).sum(), (weight * 0.5).sum(), weight)
        assert float(ratio) == pytest.approx(6, rel=1e-3)
        assert not ratio.requires_grad
        assert float(adaptive_weight((3 * weight).sum(), (weight * 0).sum(), weight)) == 1e4

    def test_figures(self) -> None:
        images = pictures()
        same = reconstruction_figures(images, images)
        assert same["ssim"] == pytest.approx(1) and same["sharpness"] == pytest.approx(1) and same["psnr"] > 70
        shifted = reconstruction_figures(np.full_like(images, 100), np.full_like(images, 110))
        assert shifted["psnr"] == pytest.approx(20 * np.log10(25.5))
        soft, softer = (reconstruction_figures(images, blurred(images, sigma)) for sigma in (0.7, 1.5))
        assert all(1 > soft[name] > softer[name] > 0 for name in ("ssim", "sharpness"))


class TestDiscriminator:
    def test_the_answer_does_not_depend_on_the_batch(self) -> None:
        network = PatchDiscriminator(8)
        images = as_tensor(pictures(3))
        logits = network(images)
        assert logits.shape == (3, 1, 6, 6)
        torch.testing.assert_close(network(images[1:2]), logits[1:2])

    def test_a_frozen_one_passes_gradients_on_but_keeps_none(self) -> None:
        network = PatchDiscriminator(8)
        images = as_tensor(pictures()).requires_grad_()
        with frozen(network):
            judged = network(images).mean()
        judged.backward()
        assert float(images.grad.abs().sum()) > 0
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.fixture
def few_crops(monkeypatch) -> None:
    """Measure less: what is measured is the same."""
    monkeypatch.setattr(module, "_VALIDATION_CROPS", 2)
    monkeypatch.setattr(module, "_SCALE_CROPS", 4)


@pytest.mark.usefixtures("few_crops")
class TestTraining:
    def test_the_loss_falls_on_a_fixed_batch(self, tmp_path: Path) -> None:
        made = task(replace(SETTINGS, discriminator_start=10**6))
        trainer = Trainer(made, replace(LOOP, max_images=400, learning_rate=1e-2), tmp_path)
        batch = made.batch(np.random.default_rng(0), 2)
        losses = [trainer.step(batch) for _ in range(40)]
        assert np.mean(losses[-5:]) < 0.7 * losses[0]

    @pytest.mark.parametrize("killed_at", [10, 22])  # with the discriminator just on, and long on
    def test_resumed_equals_unbroken(self, tmp_path: Path, killed_at: int) -> None:
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        run(task(), LOOP, whole)

        class KilledError(Exception):
            """Stands for a kill at some moment."""

        def kill(step) -> None:
            if step.images >= killed_at:
                raise KilledError

        with pytest.raises(KilledError):
            run(task(), LOOP, broken, on_step=kill)
        assert checkpoint(broken)["images"] == killed_at // 8 * 8
        started = task()
        for network in started.networks.values():  # nothing may come from the weights a resumed run starts with
            for parameter in network.parameters():
                parameter.data.add_(0.1)
        run(started, LOOP, broken, resume=True)
        first, second = checkpoint(whole), checkpoint(broken)
        assert set(first["networks"]) == set(first["optimizers"]) == {"autoencoder", "discriminator"}
        assert int(first["networks"]["discriminator"]["images_seen"]) == 24
        assert unequal(first, second) == []
        name = "diffusion_pytorch_model.safetensors"
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
        figures = [
            [{key: value for key, value in json.loads(line).items() if key != "images_per_s"} for line in lines]
            for lines in ((folder / "log.jsonl").read_text().splitlines() for folder in (whole, broken))
        ]
        assert figures[0] == figures[1]

    def test_the_discriminator_waits_for_its_start(self, tmp_path: Path) -> None:
        made = task()
        before = {name: value.clone() for name, value in made.discriminator.state_dict().items()}
        trainer = Trainer(made, LOOP, tmp_path)
        for images in range(0, 8, 2):
            trainer.step(trainer.batch_at(images))
        after = made.discriminator.state_dict()
        assert unequal(before, after) == ["/images_seen"]
        assert trainer.optimizers["discriminator"].state_dict()["state"] == {}
        assert set(trainer.losses) == {"autoencoder"}
        trainer.step(trainer.batch_at(8))
        assert "/layers.0.weight" in unequal(before, made.discriminator.state_dict())
        assert trainer.losses["discriminator"] == pytest.approx([1], abs=0.3)

    def test_the_discriminator_moves_the_autoencoder_as_much_as_asked(self) -> None:
        """At the decoder's last layer its gradient has the share of the reconstruction's that was asked for."""
        norms = {}
        for share in (0.0, 0.5):
            made = task(replace(SETTINGS, discriminator_start=0, discriminator_weight=share, kl_weight=0.0))
            batch = made.batch(np.random.default_rng(0), 2)
            _, loss = next(made.losses(made.networks, batch, np.random.default_rng(1)))
            loss.backward()
            norms[share] = made.vae.decoder.conv_out.weight.grad.clone()
            assert all(parameter.grad is None for parameter in made.discriminator.parameters())
        added = float((norms[0.5] - norms[0.0]).norm() / norms[0.0].norm())
        assert added == pytest.approx(0.5, rel=0.05)

    def test_records(self, tmp_path: Path) -> None:
        told: list[tuple[int, dict[str, float]]] = []
        run(task(), LOOP, tmp_path, on_figures=lambda images, figures: told.append((images, figures)))
        assert [images for images, _ in told] == [12, 24]
        assert all(set(figures) == {"psnr", "ssim", "sharpness"} for _, figures in told)
        rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
        assert "discriminator_loss" not in rows[0]
        assert "discriminator_loss" in [row for row in rows if "loss" in row][-1]
        assert task().grid().shape == (2 * 32, 8 * 32, 3)

    def test_without_held_out_places_nothing_is_measured(self) -> None:
        made = task(held=0)
        assert made.validate() == {}
        assert made.grid().dtype == np.uint8

    def test_mixed_precision(self, tmp_path: Path) -> None:
        run(task(), replace(LOOP, max_images=12, dtype="bfloat16"), tmp_path)
        assert AutoencoderKL.from_pretrained(tmp_path).dtype == torch.float32

    @pytest.mark.parametrize(
        ("size", "what"), [(36, "multiple of 8"), (16, "multiple of 8"), (72, "no training image")]
    )
    def test_crops_that_do_not_fit(self, size: int, what: str) -> None:
        with pytest.raises(UsageError, match=what):
            task(replace(SETTINGS, crop_size=size))

    def test_other_losses_are_another_run(self, tmp_path: Path) -> None:
        run(task(), replace(LOOP, max_images=2), tmp_path)
        with pytest.raises(UsageError, match="frequency_weight"):
            run(task(replace(SETTINGS, frequency_weight=0.5)), replace(LOOP, max_images=4), tmp_path, resume=True)


class TestProduct:
    def test_diffusers_reads_it_without_complaint(self, folder: Path) -> None:
        loaded, report = AutoencoderKL.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values())
        config = json.loads((folder / "config.json").read_text())
        same = {key: list(value) if isinstance(value, tuple) else value for key, value in loaded.config.items()}
        assert all(same[key] == value for key, value in config.items() if key[0] != "_")

    def test_latents_have_unit_deviation(self, folder: Path) -> None:
        pipeline = ChangenPipeline(None, None, AutoencoderKL.from_pretrained(folder))
        assert pipeline.vae.config.scaling_factor != 0.18215
        assert json.loads((folder / "config.json").read_text())["_images_seen"] == 24
        crops = torch.from_numpy(task().batch(np.random.default_rng(99), 32))
        with torch.no_grad():
            latents = pipeline.encode(crops)
        assert float(latents.std()) == pytest.approx(1, rel=0.1)

    def test_it_goes_through_the_pipeline(self, folder: Path) -> None:
        vae = AutoencoderKL.from_pretrained(folder)
        pipeline = ChangenPipeline(None, None, vae)
        images = as_tensor(pictures())
        with torch.no_grad():
            latents = pipeline.encode(images)
            decoded = pipeline.decode(latents)
            expected = vae.decode(vae.encode(images).latent_dist.mode()).sample
        assert latents.shape == (2, 4, 8, 8)
        torch.testing.assert_close(decoded, expected, rtol=1e-3, atol=1e-4)

    def test_it_holds_the_averaged_weights(self, folder: Path) -> None:
        saved = AutoencoderKL.from_pretrained(folder)
        averaged = checkpoint(folder)["ema"]["shadow_params"]
        assert all(torch.equal(*pair) for pair in zip(saved.parameters(), averaged, strict=True))

    def test_saving_again_after_loading_changes_nothing(self, folder: Path, tmp_path: Path) -> None:
        vae = AutoencoderKL.from_pretrained(folder)
        again = AutoencoderTask(vae, [tile(0), tile(1)], [], SETTINGS, seed=3)
        again.save(tmp_path, 24)
        loaded = AutoencoderKL.from_pretrained(tmp_path)
        assert unequal(dict(vae.state_dict()), dict(loaded.state_dict())) == []
        assert loaded.config.scaling_factor == pytest.approx(vae.config.scaling_factor, rel=1e-5)

    @pytest.mark.parametrize("where", ["weights", "config"])
    def test_a_save_that_dies_leaves_files_that_load(self, tmp_path: Path, monkeypatch, where: str) -> None:
        made = task()
        made.save(tmp_path, 0)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        class KilledError(Exception):
            """Stands for a kill at some moment."""

        def dies(*_given, **_named):
            raise KilledError

        if where == "weights":
            import safetensors.torch

            monkeypatch.setattr(safetensors.torch, "save", dies)
        else:
            monkeypatch.setattr(module, "write_text", dies)
        with pytest.raises(KilledError):
            made.save(tmp_path, 2)
        assert {path.name for path in tmp_path.iterdir()} == set(before)
        assert (tmp_path / "config.json").read_bytes() == before["config.json"]
        assert AutoencoderKL.from_pretrained(tmp_path).config.latent_channels == 4


class TestShapes:
    def test_new_ones_depend_on_the_seed_only(self) -> None:
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first, second, other = (new_autoencoder(TINY, seed).state_dict() for seed in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), state)
        assert unequal(dict(first), dict(second)) == []
        assert unequal(dict(first), dict(other)) != []

    @pytest.mark.parametrize("name", AUTOENCODERS)
    def test_all_reduce_by_eight_to_four_channels(self, name: str) -> None:
        with torch.device("meta"):
            vae = new_autoencoder(AUTOENCODERS[name], 0)
            latents = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
        assert latents.shape == (1, 4, 8, 8)
        count = sum(parameter.numel() for parameter in vae.parameters())
        assert count == (83_653_863 if name == "full" else count)
        assert count < 3e6 or name == "full"
