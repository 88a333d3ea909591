"""Learn the autoencoder whose latents a denoiser works on (Rombach et al. 2022), from overhead images alone.

Every part of the loss is computed from the images themselves and a discriminator trained along: no network has to be
downloaded, and no licence but that of the images applies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from changen_cli.core.errors import UsageError
from changen_cli.core.files import atomic_path, write_text
from changen_cli.core.seeding import derive_rng, derive_seed
from changen_cli.core.types import UInt8Array
from changen_cli.training.discriminator import PatchDiscriminator, adaptive_weight, frozen, hinge_loss
from changen_cli.training.reconstruction import (
    frequency_loss,
    gradient_loss,
    kl_divergence,
    reconstruction_figures,
)
from changen_cli.training.tiles import Crops, FloatArray, TrainingTile

AUTOENCODERS: dict[str, dict[str, Any]] = {
    # Most of the cost lies at full resolution: few channels there, and no attention, so that a CPU can train it.
    "mini": {
        "block_out_channels": (16, 32, 64, 128),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
    },
    "full": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
}
"""Shapes by name; ``full`` is that of Stable Diffusion 1, which the published checkpoints use."""

_VALIDATION_CROPS = 32
_GRID_CROPS = 8
_SCALE_CROPS = 64
_FORWARD_CROPS = 8  # per pass without gradients


@dataclass(frozen=True)
class AutoencoderSettings:
    """What decides the outcome beside the loop's settings.

    Attributes:
        crop_size: Side of a crop in px, a multiple of 8.
        kl_weight: Weight of the KL divergence, per image value.
        gradient_weight: Weight of :func:`gradient_loss`; that of the absolute difference is 1.
        frequency_weight: Weight of :func:`frequency_loss`, whose values are about ten times smaller.
        discriminator_weight: Share of the adversarial gradient in the reconstruction's, at the decoder's last layer.
        discriminator_start: Images seen before the discriminator is switched on.
        discriminator_width: Channels of its first layer, a multiple of 8.
    """

    crop_size: int = 128
    kl_weight: float = 1e-6
    gradient_weight: float = 1.0
    frequency_weight: float = 4.0
    discriminator_weight: float = 0.5
    discriminator_start: int = 20_000
    discriminator_width: int = 64


def new_autoencoder(shape: Mapping[str, Any], seed: int) -> AutoencoderKL:
    """Create an untrained autoencoder that reduces by 8 to 4 channels, with weights drawn from ``seed`` only.

    Args:
        shape: One of :data:`AUTOENCODERS`, or other settings of ``AutoencoderKL`` with four levels.
        seed: The run's seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "init"))
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **shape
        )


class _Trained(nn.Module):
    """One forward pass for encoder, posterior and decoder: what mixed precision and several GPUs hook into."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct from a draw of the posterior: images, posterior mean and log variance."""
        posterior = self.vae.encode(images).latent_dist
        return self.vae.decode(posterior.mean + posterior.std * noise).sample, posterior.mean, posterior.logvar


class AutoencoderTask:
    """What the loop trains: an autoencoder, and a discriminator that keeps it from blurring.

    Args:
        vae: The autoencoder, new or to be continued; trained in place.
        training: Tiles to learn from.
        validation: Tiles of held-out places; without any nothing is measured, and grids show training crops.
        settings: Losses and sizes.
        seed: Seed of the discriminator's weights and of the crops that are measured and shown.

    Raises:
        UsageError: When the crop size is no multiple of 8, or no tile is large enough for it.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        training: Sequence[TrainingTile],
        validation: Sequence[TrainingTile],
        settings: AutoencoderSettings,
        *,
        seed: int = 0,
    ) -> None:
        size = settings.crop_size
        if size % 8 or size < 32:
            raise UsageError(f"crops of {size} px cannot be trained on", "Give a multiple of 8 from 32 up")
        self.vae, self.options, self.seed = vae, settings, seed
        self.crops = Crops(training, size)
        if not self.crops.tiles:
            raise UsageError(f"no training image is {size} px or larger", "Choose smaller crops")
        self._held = Crops(validation, size, jitter=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "init-discriminator"))
            self.discriminator = PatchDiscriminator(settings.discriminator_width)
        self.networks: dict[str, nn.Module] = {"autoencoder": _Trained(vae), "discriminator": self.discriminator}
        widths = [int(width) for width in vae.config.block_out_channels]
        self.settings: Mapping[str, Any] = {"stage": "vae", "vae_widths": widths} | asdict(settings)

    def batch(self, rng: np.random.Generator, size: int) -> FloatArray:
        """Draw crops, float32 ``[size, 3, S, S]`` in [-1, 1]."""
        return np.stack([self.crops.draw(rng)[0] for _ in range(size)])

    def losses(
        self, networks: Mapping[str, nn.Module], batch: FloatArray, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the autoencoder's loss and, once it is switched on, the discriminator's."""
        options = self.options
        images = self._to_device(batch)
        shape = (len(images), self.vae.config.latent_channels, images.shape[2] // 8, images.shape[3] // 8)
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(images.device)
        reconstruction, mean, log_variance = networks["autoencoder"](images, noise)
        similar = (
            (reconstruction - images).abs().mean()
            + options.gradient_weight * gradient_loss(reconstruction, images)
            + options.frequency_weight * frequency_loss(reconstruction, images)
        )
        loss = similar + options.kl_weight * kl_divergence(mean, log_variance, images[0].numel())
        seen = self.discriminator.images_seen
        judged = int(seen) >= options.discriminator_start
        if judged:
            # Not through the prepared network: several processes must not average gradients nobody wants.
            with frozen(self.discriminator):
                fooled = -self.discriminator(reconstruction).mean()
            balance = adaptive_weight(similar, fooled, self.vae.decoder.conv_out.weight)
            loss = loss + options.discriminator_weight * balance * fooled
        seen += len(images) * _processes()
        yield "autoencoder", loss
        if judged:
            pairs = torch.cat([images, reconstruction.detach()])
            real, fake = networks["discriminator"](pairs).chunk(2)
            yield "discriminator", hinge_loss(real, fake)

    def validate(self) -> dict[str, float]:
        """PSNR, SSIM and sharpness on crops of held-out places, the same every time."""
        if not self._held.tiles:
            return {}
        originals = self._fixed(self._held, "validation", _VALIDATION_CROPS)
        return reconstruction_figures(_bytes(originals), _bytes(self._reconstruct(originals)))

    def grid(self) -> UInt8Array:
        """Originals over their reconstructions, of held-out places where there are any."""
        originals = self._fixed(self._held if self._held.tiles else self.crops, "validation", _GRID_CROPS)
        rows = [np.concatenate(list(_bytes(row)), axis=1) for row in (originals, self._reconstruct(originals))]
        return np.concatenate(rows)

    @torch.no_grad()
    def measure_latents(self) -> tuple[float, float]:
        """Mean and standard deviation of the latents (posterior means, unscaled) of training crops."""
        crops = self._fixed(self.crops, "latent-scale", _SCALE_CROPS)
        parts = [self.vae.encode(part).latent_dist.mode().float() for part in self._in_parts(crops)]
        latents = torch.cat(parts).double()
        return float(latents.mean()), float(latents.std())

    def save(self, folder: Path, images_seen: int) -> None:
        """Write ``config.json`` and ``diffusion_pytorch_model.safetensors``, each by rename.

        ``AutoencoderKL.from_pretrained`` reads the folder. ``scaling_factor`` is measured: latents of training images
        times it have standard deviation 1, as a denoiser expects.

        Args:
            folder: The model folder; other files in it stay.
            images_seen: Noted in the config, as is the mean of the latents in units of their deviation.
        """
        from safetensors.torch import save

        mean, deviation = self.measure_latents()
        self.vae.register_to_config(scaling_factor=1 / max(deviation, 1e-6))
        # What begins with an underscore diffusers leaves alone. Not in the metadata of the weights: the order of two
        # entries there is random, and with it the hash of the file.
        facts = {"_images_seen": images_seen, "_latent_mean": round(mean / max(deviation, 1e-6), 5)}
        config = json.loads(self.vae.to_json_string()) | facts
        state = {name: value.detach().float().cpu().contiguous() for name, value in self.vae.state_dict().items()}
        with atomic_path(folder / "diffusion_pytorch_model.safetensors") as partial:
            partial.write_bytes(save(state, metadata={"format": "pt"}))
        write_text(folder / "config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")

    def _to_device(self, crops: FloatArray) -> Tensor:
        images = torch.from_numpy(crops).to(self.vae.device)
        return images.contiguous(memory_format=torch.channels_last)

    def _in_parts(self, crops: FloatArray) -> tuple[Tensor, ...]:
        return torch.split(self._to_device(crops), _FORWARD_CROPS)  # type: ignore[no-untyped-call]

    def _fixed(self, crops: Crops, purpose: str, count: int) -> FloatArray:
        """The same crops whenever asked: float32 ``[count, 3, S, S]``."""
        rng = derive_rng(self.seed, purpose)
        return np.stack([crops.draw(rng)[0] for _ in range(count)])

    @torch.no_grad()
    def _reconstruct(self, crops: FloatArray) -> FloatArray:
        """Through the posterior means, as the pipeline encodes: float32 of the same shape, in [-1, 1]."""
        parts = []
        for part in self._in_parts(crops):
            latents = self.vae.encode(part).latent_dist.mode()
            parts.append(self.vae.decode(latents).sample.float().clamp(-1, 1).cpu())
        result: FloatArray = torch.cat(parts).contiguous().numpy()
        return result


def _bytes(crops: FloatArray) -> UInt8Array:
    """float32 ``[N, 3, H, W]`` in [-1, 1] to uint8 ``[N, H, W, 3]``."""
    return np.round((crops.transpose(0, 2, 3, 1) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def _processes() -> int:
    """Processes that train together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
