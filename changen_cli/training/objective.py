"""What a denoiser learns: noise schedules, targets, and the losses on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

TIMESTEPS = 1000
# Orthonormal luma and two chroma axes of RGB.
_OPPONENT = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3.0], [2], [6]]).sqrt()


@dataclass(frozen=True)
class NoiseLevels:
    """Which noise levels are trained, and how often.

    Attributes:
        start_share: Share of the crops at the levels an exemplar start uses; the rest lie above them.
        start_limit: The noisiest of those levels, as a share of the timesteps.
        power: Density towards the clean end: u ** power of the range, u uniform. What the last steps leave behind
            stays in the image as grain, so they get more than their share.
    """

    start_share: float = 0.9
    start_limit: float = 0.45
    power: float = 2.0

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw timesteps, float64 ``[count]`` in [1, 1000)."""
        limit = self.start_limit * TIMESTEPS
        low = 1 + (limit - 1) * rng.random(count) ** self.power
        high = rng.uniform(limit, TIMESTEPS, size=count) if self.start_limit < 1 else low
        return torch.from_numpy(np.where(rng.random(count) < self.start_share, low, high)).clamp(max=TIMESTEPS - 1)


class Objective:
    """Noise schedule and prediction target of a denoiser, read off its configuration.

    Args:
        config: The denoiser's configuration: ``beta_schedule`` (``"squaredcos_cap_v2"``, ``"linear"`` or ``"flow"``),
            ``prediction_type`` (``"v_prediction"``, ``"epsilon"`` or ``"sample"``), ``learn_sigma``.

    Raises:
        ValueError: For a combination nobody trains.
    """

    def __init__(self, config: Any) -> None:
        self.flow = config["beta_schedule"] == "flow"
        self.prediction = config["prediction_type"]
        self.learn_sigma = bool(config["learn_sigma"])
        if self.flow and self.prediction != "sample":
            raise ValueError("flow matching is trained to predict the sample")
        if self.flow:
            self.alphas_cumprod = torch.empty(0)
        else:
            from diffusers import DDPMScheduler

            scheduler = DDPMScheduler(TIMESTEPS, 1e-4, 0.02, config["beta_schedule"])
            self.alphas_cumprod = scheduler.alphas_cumprod.double()

    def timesteps(self, drawn: Tensor) -> Tensor:
        """Timesteps as the network is told them: whole ones, except for flow matching."""
        return drawn.float() if self.flow else drawn.long()

    def scales(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Scales of signal and noise at ``timesteps``: two float32 ``[B, 1, 1, 1]``."""
        if self.flow:
            sigma = timesteps.float() / TIMESTEPS
            alpha = 1 - sigma
        else:
            kept = self.alphas_cumprod.to(timesteps.device)[timesteps]
            alpha, sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
        return alpha[:, None, None, None], sigma[:, None, None, None]

    def target(self, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network has to say."""
        if self.prediction == "v_prediction":
            return alpha * noise - sigma * clean  # Salimans & Ho 2022
        return noise if self.prediction == "epsilon" else clean

    def denoised(self, predicted: Tensor, noised: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean sample a prediction stands for."""
        if self.prediction == "v_prediction":
            return alpha * noised - sigma * predicted
        return (noised - sigma * predicted) / alpha if self.prediction == "epsilon" else predicted

    def loss(
        self, predicted: Tensor, target: Tensor, sigma: Tensor, weight: Tensor, *, chroma_weight: float = 1.0
    ) -> Tensor:
        """Weighted squared error; colour errors of images may count more than brightness.

        Args:
            predicted: ``[B, C, H, W]``.
            target: Like ``predicted``.
            sigma: Noise scales ``[B, 1, 1, 1]``.
            weight: ``[B, 1, H, W]``.
            chroma_weight: Weight of the two chroma axes when C is 3.
        """
        error = predicted.float() - target
        if chroma_weight != 1 and error.shape[1] == 3:
            error = torch.einsum("ij,bjhw->bihw", _OPPONENT.to(error), error)
            axes = torch.tensor([1.0, chroma_weight, chroma_weight], device=error.device)[None, :, None, None]
            weight = weight * axes
        if self.flow:
            # The velocity's error, (x̂ − x) / σ, with the clean end bounded (Li & He 2025).
            weight = weight / sigma.clamp(min=0.05).square()
        weight = weight.expand_as(error)
        # Weights of the levels must not cancel: normalise by the pixels, not by the levels.
        norm = (weight * sigma.clamp(min=0.05).square()).sum() if self.flow else weight.sum()
        return (error.square() * weight).sum() / norm

    def variance_loss(
        self, predicted: Tensor, fraction: Tensor, clean: Tensor, noised: Tensor, timesteps: Tensor, weight: Tensor
    ) -> Tensor:
        """The learned variance's part of iDDPM's hybrid loss: the KL term with the mean held (Nichol & Dhariwal 2021).

        Args:
            predicted: Predicted noise ``[B, C, H, W]``.
            fraction: The network's variance output in [-1, 1], same shape.
            clean: x_0.
            noised: x_t.
            timesteps: int64 ``[B]``.
            weight: ``[B, 1, H, W]``.

        Returns:
            Scalar, in bits per dimension, scaled as in the paper (λ = 0.001 × 1000 timesteps).
        """
        kept = self.alphas_cumprod.to(clean.device)
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        beta = 1 - kept / before
        tilde = beta * (1 - before) / (1 - kept)
        tilde[0] = tilde[1]

        def at(values: Tensor) -> Tensor:
            return values[timesteps].float()[:, None, None, None]

        first, second = at(before.sqrt() * beta / (1 - kept)), at((kept / before).sqrt() * (1 - before) / (1 - kept))
        start = (noised - at((1 - kept).sqrt()) * predicted.detach().float()) / at(kept.sqrt())
        true_mean, mean = first * clean + second * noised, first * start + second * noised
        low, high = at(tilde.log()), at(beta.log())
        share = (fraction.float() + 1) / 2
        log_variance = share * high + (1 - share) * low
        ratio = torch.exp(low - log_variance)
        distance = (true_mean - mean).square() * torch.exp(-log_variance)
        divergence = 0.5 * (log_variance - low + ratio + distance - 1)
        weight = weight.expand_as(divergence)
        return (divergence * weight).sum() / weight.sum() / math.log(2)
