"""Masked change diffusion as a diffusers pipeline (Changen2, TPAMI 2025, semantic change synthesis)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from changen_cli.synthesis.schedulers import respaced


@dataclass
class ChangenPipelineOutput(BaseOutput):
    """Output of :class:`ChangenPipeline`.

    Attributes:
        images: float32 ``[B, 3, H, W]`` in [-1, 1], the later date.
    """

    images: Tensor


class ChangenPipeline(DiffusionPipeline):
    """Synthesise the image of the next date: p(I_{t+1} | I_t, S_t, S_{t+1}).

    Args:
        transformer: A denoiser: ``RSDiT`` or ``HybridRSDiT``.
        scheduler: Any diffusers scheduler with ``add_noise`` whose ``prediction_type`` fits the denoiser.
        vae: AutoencoderKL for denoisers of latents; None for denoisers of pixels.
    """

    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(self, transformer: Any, scheduler: Any, vae: Any = None) -> None:
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler, vae=vae)

    @property
    def _flow(self) -> bool:
        """Whether noise and image are mixed linearly (flow matching)."""
        return isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler)

    def encode(self, image: Tensor) -> Tensor:
        """Pixels in [-1, 1] to the space that is denoised: latents (their mean, scaled), or the pixels; float32."""
        if self.vae is None:
            return image.float()
        latents: Tensor = self.vae.encode(image.to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def decode(self, sample: Tensor) -> Tensor:
        """Inverse of :meth:`encode`."""
        if self.vae is None:
            return sample
        image: Tensor = self.vae.decode((sample / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
        return image.float()

    def _timesteps(self, steps: int, strength: float) -> Tensor:
        """``strength`` of the steps, at least one, from noise level ``strength`` down.

        DPM-Solver++ takes any timesteps. They get closer towards the clean end (quadratically): what the last step
        leaves behind stays in the image as grain. Ancestral sampling respaces its chain, which takes two steps at
        least. The other schedulers run the end of their own even spacing.
        """
        kept = min(steps, max(1, round(steps * strength)))
        if isinstance(self.scheduler, DPMSolverMultistepScheduler):
            last = strength * (self.scheduler.config.num_train_timesteps - 1)
            grid = {max(1, round(last * (index / kept) ** 2)) for index in range(1, kept + 1)}
            self.scheduler.set_timesteps(timesteps=sorted(grid, reverse=True), device=self.device)
            first = 0
        elif self._flow:
            sigmas = [max(1e-3, strength * (index / kept) ** 2) for index in range(kept, 0, -1)]
            self.scheduler.set_timesteps(sigmas=sigmas, device=self.device)
            first = 0
        elif isinstance(self.scheduler, DDPMScheduler):
            last = max(1, round(strength * (self.scheduler.config.num_train_timesteps - 1)))
            self.scheduler.set_timesteps(timesteps=respaced(last, kept), device=self.device)
            first = 0
        else:
            self.scheduler.set_timesteps(steps, device=self.device)
            first = len(self.scheduler.timesteps) - kept
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(first)
        timesteps: Tensor = self.scheduler.timesteps[first:]
        return timesteps

    def _noised(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """q(x_t | x_0) with the training schedule, for every sample of the batch."""
        if self._flow:
            sigma = (timestep / self.scheduler.config.num_train_timesteps).to(clean)
            return (1 - sigma) * clean + sigma * noise
        alpha = self.scheduler.alphas_cumprod.float().to(clean.device)[timestep.long()]
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        semantic_mask: Tensor,
        change_mask: Tensor,
        *,
        start: Tensor | None = None,
        strength: float = 1.0,
        num_inference_steps: int = 20,
        guidance_ratio: float = 1.0,
        guidance_scale: float = 1.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> ChangenPipelineOutput:
        """Denoise the change area and hold the rest to the pre-event image.

        At every one of the first ``guidance_ratio`` share of the steps, counted from the noisiest,
        x ← C·x + (1−C)·q(x_t | I_t), with C the change mask.

        Args:
            image: Pre-event image I_t, ``[B, 3, H, W]`` in [-1, 1].
            semantic_mask: Label planes of S_{t+1}, ``[B, K, H, W]`` as the denoiser expects them.
            change_mask: C, ``[B, 1, H, W]`` in {0, 1}, grown by the margin that may be redrawn.
            start: First image of the later date to start from (SDEdit), ``[B, 3, H, W]``; None starts from noise.
            strength: Noise level of the start: share of the timesteps run, in (0, 1]; 1 is pure noise.
            num_inference_steps: Steps of the full schedule; ``strength`` of them are run.
            guidance_ratio: λ in [0, 1].
            guidance_scale: Strength of classifier-free guidance (Ho & Salimans 2022), on all channels of the sample; 1
                leaves it out and saves a forward pass per step.
            generator: One per sample, so that a sample does not depend on its batch.

        Returns:
            The later date, images in [-1, 1].

        Raises:
            ValueError: When sizes do not fit the denoiser or a share lies outside its range.
        """
        if not 0 < strength <= 1 or not 0 <= guidance_ratio <= 1:
            raise ValueError(f"strength {strength} must lie in (0, 1] and guidance_ratio {guidance_ratio} in [0, 1]")
        model, dtype = self.transformer, self.transformer.dtype
        multiple = model.size_multiple * (1 if self.vae is None else 8)
        if image.shape[-2] % multiple or image.shape[-1] % multiple:
            raise ValueError(f"height and width {tuple(image.shape[-2:])} must be divisible by {multiple}")
        if start is None:
            strength = 1.0
        # The state stays in float32: solvers subtract nearly equal numbers, and half precision would show as grain.
        known = self.encode(image)
        area = change_mask.float()
        if known.shape[-2:] != area.shape[-2:]:
            area = F.adaptive_max_pool2d(area, known.shape[-2:])
        noise = randn_tensor(known.shape, generator=_as_list(generator), device=known.device, dtype=torch.float32)
        timesteps = self._timesteps(num_inference_steps, strength)
        sample = noise * getattr(self.scheduler, "init_noise_sigma", 1.0)
        if start is not None and strength < 1:
            sample = self._noised(self.encode(start), noise, timesteps[0])
        sample = area * sample + (1 - area) * self._noised(known, noise, timesteps[0])
        condition = None
        if model.config["condition_channels"]:
            condition = torch.cat([known * (1 - area), area], dim=1).to(dtype)
        label = semantic_mask.to(dtype)
        embedding = model.embed_label(label)
        null = torch.zeros_like(label)
        null_embedding = model.embed_label(null) if guidance_scale != 1 else None
        held = round(guidance_ratio * len(timesteps))
        for index, timestep in enumerate(self.progress_bar(timesteps)):
            given = sample.to(dtype)
            predicted = model(given, timestep, label, label_embedding=embedding, condition=condition).sample
            if null_embedding is not None:
                free = model(given, timestep, null, label_embedding=null_embedding, condition=condition).sample
                width = known.shape[1]  # the variance, where there is one, is not guided
                guided = free[:, :width] + guidance_scale * (predicted[:, :width] - free[:, :width])
                predicted = torch.cat([guided, predicted[:, width:]], dim=1)
            if getattr(self.scheduler.config, "variance_type", None) != "learned_range":
                predicted = predicted[:, : known.shape[1]]
            sample = self._step(predicted, timestep, sample, generator)
            if index < held:
                last = index + 1 == len(timesteps)
                other = known if last else self._noised(known, noise, timesteps[index + 1])
                sample = area * sample + (1 - area) * other
        return ChangenPipelineOutput(images=self.decode(sample).clamp(-1, 1))

    def _step(self, predicted: Tensor, timestep: Tensor, sample: Tensor, generator: Any) -> Tensor:
        """One scheduler step."""
        if self._flow:
            sigma = timestep / self.scheduler.config.num_train_timesteps
            velocity = (sample - predicted.float()) / sigma
            moved: Tensor = self.scheduler.step(velocity, timestep, sample).prev_sample
            return moved
        extra = {} if type(self.scheduler).__name__ == "DDIMScheduler" else {"generator": _as_list(generator)}
        previous: Tensor = self.scheduler.step(predicted.float(), timestep, sample, **extra).prev_sample
        return previous


def _as_list(generator: Any) -> Any:
    """Diffusers draws per sample from a list, and from one generator for the whole batch."""
    return list(generator) if isinstance(generator, Sequence) else generator
