"""Training a denoiser in the setting of generation.

The network sees the noised image, the known pixels around the change area, the change area and the label planes of the
later date, and learns to restore the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from changen_cli.core.errors import UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import IGNORE, Int32Array, UInt8Array
from changen_cli.synthesis.contours import CONTOUR, contours
from changen_cli.synthesis.models import save_model
from changen_cli.synthesis.pipeline import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.training.areas import draw_change_area, footprints, misfit
from changen_cli.training.objective import NoiseLevels, Objective
from changen_cli.training.sizes import Denoiser
from changen_cli.training.tiles import Crops, TrainingTile

FloatArray = npt.NDArray[np.float32]

VALIDATION_CROPS = 24
VALIDATION_TIMESTEPS = (30, 100, 300)


@dataclass(frozen=True)
class DenoiserSettings:
    """What decides a denoiser's training beside the loop.

    Attributes:
        crop_size: Side of a crop in px.
        label_dropout: Share of the crops trained without any label, for classifier-free guidance.
        noise: Noise levels.
        outside_weight: Loss weight of pixels outside the change area.
        chroma_weight: Loss weight of colour against brightness, for denoisers of pixels.
        misfit: Size of the colour error of a start, relative to the noise level.
        conditioned: Whether the network is shown the known pixels around the change.
    """

    crop_size: int = 128
    label_dropout: float = 0.1
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    outside_weight: float = 0.05
    chroma_weight: float = 3.0
    misfit: float = 0.35
    conditioned: bool = True


@dataclass(frozen=True, eq=False)
class Batch:
    """A training batch: images ``[B, 3, H, W]`` in [-1, 1], label planes ``[B, K, H, W]``, change ``[B, 1, H, W]``."""

    images: FloatArray
    labels: FloatArray
    change: FloatArray


def label_planes(
    classes: UInt8Array, model_config: Any, order: Sequence[str], objects: Int32Array | None = None
) -> FloatArray:
    """Planes for the classes of a model, from class ids 1..8 in ``order``.

    Args:
        classes: uint8 ``[H, W]``: 1.. in ``order``, 0 none of them, 255 no label (no plane at all).
        model_config: The denoiser's ``classes`` and ``unknown_plane``.
        order: Names of ids 1, 2, ….
        objects: int32 ``[H, W]``, object numbers, for a plane of contours.

    Returns:
        float32 ``[K, H, W]`` in {0, 1}.
    """
    planes = [classes == order.index(name) + 1 if name in order else np.zeros(classes.shape, bool)
              for name in model_config["classes"]]  # fmt: skip
    if model_config["unknown_plane"]:
        planes.append((classes != IGNORE) & ~np.any(planes, axis=0))
    if CONTOUR in model_config["classes"] and objects is not None:
        planes[list(model_config["classes"]).index(CONTOUR)] = contours(objects)
    return np.stack(planes).astype(np.float32)


def check_crop_size(crop_size: int, model: Denoiser, vae: Any) -> None:
    """Raise UsageError unless crops of ``crop_size`` px can be denoised by the network, through ``vae`` if given."""
    multiple = model.size_multiple * (1 if vae is None else 8)
    if crop_size % multiple:
        raise UsageError(f"crop size {crop_size} must be divisible by {multiple}")


class DenoiserTask:
    """Trains one denoiser; see :class:`changen_cli.training.loop.Task`.

    Args:
        model: The network.
        tiles: Training tiles.
        settings: What decides the training.
        validation: Tiles of places kept out.
        vae: Autoencoder for denoisers of latents.
        facts: Stored in the model file beside its training: data, licences.

    Raises:
        UsageError: When no tile is large enough, or the crop size does not fit the network.
    """

    def __init__(
        self,
        model: Denoiser,
        tiles: Sequence[TrainingTile],
        settings: DenoiserSettings,
        *,
        validation: Sequence[TrainingTile] = (),
        vae: Any = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        check_crop_size(settings.crop_size, model, vae)
        self.crops = Crops(tiles, settings.crop_size)
        if not self.crops.tiles:
            raise UsageError(f"no training tile is at least {settings.crop_size} px wide", "Give larger images")
        self.model, self.options = model, settings
        self.vae = None if vae is None else vae.requires_grad_(False)
        self.facts = dict(facts or {})
        self.networks: dict[str, nn.Module] = {"denoiser": model}
        config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}
        self.settings: Mapping[str, Any] = {"denoiser": asdict(settings), "model": config}
        self.objective = Objective(model.config)
        self.shapes = footprints(self.crops.tiles)
        held = Crops(validation, settings.crop_size, jitter=False)
        self._held = self._collate(held, derive_rng(0, "validation"), VALIDATION_CROPS, 0.0) if held.tiles else None

    def _collate(self, crops: Crops, rng: np.random.Generator, size: int, dropout: float) -> Batch:
        from changen_cli.core.landcover import OPENEARTHMAP

        images, labels, changes = [], [], []
        for _ in range(size):
            image, classes, objects = crops.draw(rng)
            changes.append(draw_change_area(classes, self.shapes, rng, objects)[None].astype(np.float32))
            if rng.random() < dropout:
                classes, objects = np.full_like(classes, IGNORE), None
            images.append(image)
            labels.append(label_planes(classes, self.model.config, OPENEARTHMAP, objects))
        return Batch(np.stack(images), np.stack(labels), np.stack(changes))

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw crops, change areas and labels."""
        return self._collate(self.crops, rng, size, self.options.label_dropout)

    def losses(
        self, networks: Mapping[str, nn.Module], batch: Batch, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        """The denoising loss of one batch."""
        timesteps = self.options.noise.draw(batch.images.shape[0], rng)
        yield "denoiser", self._loss(networks["denoiser"], batch, timesteps, rng)[0]

    def _loss(
        self, network: nn.Module, batch: Batch, timesteps: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss, denoised sample, clean sample and change area at given timesteps."""
        device = self.model.device
        images, labels, change = (torch.from_numpy(a).to(device) for a in (batch.images, batch.labels, batch.change))
        times = self.objective.timesteps(timesteps).to(device)
        alpha, sigma = self.objective.scales(times)
        error = torch.from_numpy(misfit(batch.change, rng)).to(device) * self.options.misfit * sigma
        clean, area = self._encode(images), change
        if self.vae is not None:
            area = F.adaptive_max_pool2d(change, clean.shape[-2:])
            error = self._encode((images + error).clamp(-1, 1)) - clean
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(device)
        # A start with a colour error proportional to the noise level is, seen from the clean image, another noise.
        noise = noise + alpha * error / sigma
        noised = alpha * clean + sigma * noise
        condition = None
        if self.model.config["condition_channels"]:
            known = clean * (1 - area) if self.options.conditioned else torch.zeros_like(clean)
            condition = torch.cat([known, area], dim=1)
        output = network(noised, times, labels, condition=condition).sample
        predicted = output[:, : clean.shape[1]]
        weight = area + self.options.outside_weight * (1 - area)
        loss = self.objective.loss(
            predicted,
            self.objective.target(clean, noise, alpha, sigma),
            sigma,
            weight,
            chroma_weight=self.options.chroma_weight if self.vae is None else 1.0,
        )
        if self.objective.learn_sigma:
            fraction = output[:, clean.shape[1] :]
            loss = loss + self.objective.variance_loss(predicted, fraction, clean, noised, times, weight)
        return loss, self.objective.denoised(predicted.float(), noised, alpha, sigma), clean, area

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        if self.vae is None:
            return images
        if self.vae.device != images.device:  # it is no network of the loop, which moves those
            self.vae.to(images.device)
        latents: Tensor = self.vae.encode(images.to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def validate(self) -> dict[str, float]:
        """Loss, and fidelity of one denoising step inside the change area, on fixed crops of held-out places."""
        if self._held is None:
            return {}
        figures = {}
        for level in VALIDATION_TIMESTEPS:
            rng = derive_rng(0, "validation-noise", level)
            losses, errors, pixels = [], 0.0, 0.0
            for first in range(0, VALIDATION_CROPS, 8):
                part = Batch(*(a[first : first + 8] for a in (self._held.images, self._held.labels, self._held.change)))
                timesteps = torch.full((part.images.shape[0],), float(level), dtype=torch.float64)
                loss, denoised, clean, area = self._loss(self.model, part, timesteps, rng)
                losses.append(float(loss))
                errors += float(((denoised - clean).square() * area).sum())
                pixels += float(area.sum()) * clean.shape[1]
            figures[f"loss_t{level}"] = float(np.mean(losses))
            # Images span 2: the peak of the signal-to-noise ratio.
            figures[f"psnr_t{level}"] = 10 * np.log10(4 * pixels / max(errors, 1e-9))
        return figures

    def grid(self) -> UInt8Array | None:
        """Six held-out crops as rows: image, change area, drawn again from strength 0.3, and from noise."""
        if self._held is None:
            return None
        count = 6
        device = self.model.device
        images, labels, change = (
            torch.from_numpy(a[:count]).to(device) for a in (self._held.images, self._held.labels, self._held.change)
        )
        pipeline = ChangenPipeline(self.model, make_scheduler("dpm++", self.model.config), self.vae)
        pipeline.set_progress_bar_config(disable=True)
        error = torch.from_numpy(misfit(self._held.change[:count], derive_rng(0, "grid"))).to(device)
        start = (images + 0.1 * error).clamp(-1, 1)
        columns = [images, images * (1 - change) - change, start]
        for given, strength in ((start, 0.3), (None, 1.0)):
            generators = [torch.Generator(device).manual_seed(index) for index in range(count)]
            drawn = pipeline(
                images, labels, change, start=given, strength=strength, num_inference_steps=20, generator=generators
            )
            columns.append(drawn.images)
        rows = torch.cat(columns, dim=3).permute(0, 2, 3, 1).reshape(-1, len(columns) * images.shape[3], 3)
        return np.asarray(((rows.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy())

    def save(self, folder: Path, images_seen: int) -> None:
        """Write ``model.safetensors``."""
        save_model(self.model, folder / "model.safetensors", images_seen=images_seen, **self.facts)
