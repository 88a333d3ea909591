"""RS-DiT, the resolution-scalable diffusion transformer of Changen2 (TPAMI 2025), as published.

Differences to DiT: no position embedding, window attention except in every fourth block, a depthwise
convolution in the MLP, and a condition per token from the full-resolution semantic mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from changen_cli.synthesis.blocks import (
    LabelEmbedder,
    TimestepEmbedder,
    build_blocks,
    modulate,
    run_blocks,
    zero_modulation,
)

SIZES = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}
"""Published sizes: depth, width, heads."""


@dataclass
class DenoiserOutput(BaseOutput):
    """Output of a denoiser.

    Attributes:
        sample: ``[B, out_channels, H, W]``.
    """

    sample: Tensor


class PatchEmbed(nn.Module):
    """Non-overlapping patches of ``[B, C, H, W]`` to a token grid ``[B, H/p, W/p, D]``."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x).permute(0, 2, 3, 1)
        return tokens


class FinalLayer(nn.Module):
    """Token grid ``[B, h, w, D]`` to ``[B, C, h*p, w*p]``, modulated per token."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = zero_modulation(hidden_size, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        x = self.linear(modulate(self.norm_final(x), shift, scale))
        batch, rows, cols, _ = x.shape
        p = self.patch_size
        x = x.reshape(batch, rows, cols, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(batch, -1, rows * p, cols * p)


class RSDiT(ModelMixin, ConfigMixin):
    """Resolution-scalable diffusion transformer, on latents or directly on pixels.

    Args:
        in_channels: Channels of the noised sample: 4 for AutoencoderKL latents, 3 for pixels.
        condition_channels: Extra channels at the sample's resolution (pre-event image, change mask); 0 as published.
        out_channels: Output channels; None gives ``2 * in_channels`` (noise and variance) with ``learn_sigma``,
            else ``in_channels``.
        patch_size: Side of a token in sample pixels.
        hidden_size: Token width D.
        depth: Number of blocks.
        num_heads: Attention heads.
        window_size: Side of an attention window in tokens.
        label_channels: Planes K of the semantic mask.
        learn_sigma: Whether the variance is predicted too (iDDPM).
        classes: Names of the classes the label planes stand for.
        unknown_plane: Whether a last label plane marks pixels labelled as none of ``classes``.
        codec: ``"vae"`` for latents, ``"pixel"`` for images in [-1, 1].
        beta_schedule: Noise schedule of the training, as diffusers names it.
        prediction_type: What is predicted, as diffusers names it.
        license: Licence of the weights.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        condition_channels: int = 0,
        out_channels: int | None = None,
        patch_size: int = 2,
        hidden_size: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        window_size: int = 8,
        label_channels: int = 1,
        learn_sigma: bool = True,
        classes: tuple[str, ...] = ("building",),
        unknown_plane: bool = False,
        codec: str = "vae",
        beta_schedule: str = "linear",
        prediction_type: str = "epsilon",
        license: str = "",
    ) -> None:
        super().__init__()
        self.out_channels = out_channels or in_channels * (2 if learn_sigma else 1)
        self.x_embedder = PatchEmbed(in_channels + condition_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(label_channels, hidden_size)
        self.blocks = build_blocks(depth, hidden_size, num_heads, window_size)
        self.final_layer = FinalLayer(hidden_size, patch_size, self.out_channels)

    @property
    def size_multiple(self) -> int:
        """Samples must have a height and width divisible by this."""
        return int(self.config["patch_size"])

    def embed_label(self, label: Tensor) -> Tensor:
        """Embed label planes ``[B, K, H, W]`` (image pixels) once; the result serves every denoising step."""
        embedding: Tensor = self.y_embedder(label)
        return embedding

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        label: Tensor | None = None,
        *,
        label_embedding: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> DenoiserOutput:
        """Predict the denoising target.

        Args:
            sample: Noised sample ``[B, in_channels, H, W]``.
            timestep: ``[B]`` or scalar, scheduler units.
            label: Label planes at image resolution, ``[B, label_channels, 8H, 8W]`` for f8 latents.
            label_embedding: Result of :meth:`embed_label`, instead of ``label``.
            condition: Extra channels ``[B, condition_channels, H, W]``.

        Returns:
            The prediction, ``[B, out_channels, H, W]``.
        """
        if label_embedding is None:
            if label is None:
                raise ValueError("give label or label_embedding")
            label_embedding = self.embed_label(label)
        if condition is not None:
            sample = torch.cat([sample, condition], dim=1)
        x = self.x_embedder(sample)
        steps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        label_tokens = F.interpolate(label_embedding, size=x.shape[1:3], mode="nearest").permute(0, 2, 3, 1)
        tokens = self.t_embedder(steps)[:, None, None] + label_tokens
        x = run_blocks(self.blocks, x, tokens)
        return DenoiserOutput(sample=self.final_layer(x, tokens))
