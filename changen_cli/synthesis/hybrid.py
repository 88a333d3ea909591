"""RS-DiT blocks at 1/8 resolution inside a convolutional encoder and decoder: the shape of ``changen-mini``.

A pixel transformer with large patches loses crisp roofs, a convolutional U-shape keeps them through its skip
connections but sees little context. Here the convolutions carry the pixels and the transformer the layout. All
normalisation is per pixel and nothing knows its position, so the network scales to any resolution like RS-DiT itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from changen_cli.synthesis.blocks import LayerNorm2d, TimestepEmbedder, build_blocks, modulate
from changen_cli.synthesis.transformer import DenoiserOutput

STRIDE = 8
"""Image pixels per token side."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with channel LayerNorm; the timestep scales and shifts in between."""

    def __init__(self, in_channels: int, channels: int, time_width: int) -> None:
        super().__init__()
        self.skip = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.norm1 = LayerNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * channels)
        self.norm2 = LayerNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        shift, scale = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(modulate(self.norm2(h), shift, scale)))
        out: Tensor = self.skip(x) + h
        return out


class HybridRSDiT(ModelMixin, ConfigMixin):
    """Pixel-space denoiser: convolutional encoder, RS-DiT blocks on 8-px tokens, convolutional decoder with skips.

    Args:
        in_channels: Channels of the noised image.
        condition_channels: Extra channels: the known pixels of the pre-event image and the change mask.
        label_channels: Planes K of the semantic mask, one per class in ``classes`` and one for unknown.
        widths: Channels at full, half and quarter resolution.
        blocks_per_level: Residual blocks at each of these, in the encoder and in the decoder.
        hidden_size: Token width D.
        depth: Number of RS-DiT blocks.
        num_heads: Attention heads.
        window_size: Side of an attention window in tokens.
        classes: Names of the classes the first label planes stand for.
        unknown_plane: Whether the last label plane marks pixels of unknown class.
        codec: ``"pixel"``: samples are images in [-1, 1].
        beta_schedule: Noise schedule of the training, as diffusers names it.
        prediction_type: What is predicted, as diffusers names it.
        learn_sigma: Whether the output carries a variance; the hybrid's never does.
        license: Licence of the weights.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        condition_channels: int = 4,
        label_channels: int = 2,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks_per_level: tuple[int, ...] = (1, 2, 2),
        hidden_size: int = 256,
        depth: int = 6,
        num_heads: int = 4,
        window_size: int = 8,
        classes: tuple[str, ...] = ("building",),
        unknown_plane: bool = True,
        codec: str = "pixel",
        beta_schedule: str = "squaredcos_cap_v2",
        prediction_type: str = "v_prediction",
        learn_sigma: bool = False,
        license: str = "",
    ) -> None:
        super().__init__()
        self.out_channels = in_channels
        time_width = hidden_size
        self.t_embedder = TimestepEmbedder(time_width)
        # The label is embedded at token resolution from 8x8 pixel blocks: no pixel of the mask is lost, and the
        # full-resolution convolutions that dominate the published embedder's cost are not needed, because the
        # encoder reads the full-resolution planes anyway.
        self.y_embedder = nn.Sequential(
            nn.PixelUnshuffle(STRIDE),
            nn.Conv2d(label_channels * STRIDE**2, hidden_size, 3, padding=1),
            LayerNorm2d(hidden_size),
            nn.SiLU(),
            nn.Conv2d(hidden_size, hidden_size, 3, padding=1),
        )
        self.stem = nn.Conv2d(in_channels + condition_channels + label_channels, widths[0], 3, padding=1)
        encoder: list[nn.ModuleList] = []
        decoder: list[nn.ModuleList] = []
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        nexts = (*widths[1:], hidden_size)
        for width, following, count in zip(widths, nexts, blocks_per_level, strict=True):
            encoder.append(nn.ModuleList(ResidualBlock(width, width, time_width) for _ in range(count)))
            self.down.append(nn.Conv2d(width, following, 2, stride=2))
            self.up.append(nn.Conv2d(following, 4 * width, 1))
            decoder.append(
                nn.ModuleList(ResidualBlock(2 * width if i == 0 else width, width, time_width) for i in range(count))
            )
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.blocks = build_blocks(depth, hidden_size, num_heads, window_size)
        self.head_norm = LayerNorm2d(widths[0])
        # The target is partly a linear copy of the noised image. Normalised features alone reproduce it badly, so the
        # head sees the plain features and the image too.
        self.head = nn.Conv2d(2 * widths[0] + in_channels, self.out_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    @property
    def size_multiple(self) -> int:
        """Samples must have a height and width divisible by this."""
        return STRIDE

    def embed_label(self, label: Tensor) -> Tensor:
        """Embed label planes ``[B, K, H, W]`` once; the result ``[B, D, H/8, W/8]`` serves every denoising step."""
        embedding: Tensor = self.y_embedder(label)
        return embedding

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        label: Tensor,
        *,
        label_embedding: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> DenoiserOutput:
        """Predict the denoising target.

        Args:
            sample: Noised image ``[B, in_channels, H, W]``; H and W divisible by 8.
            timestep: ``[B]`` or scalar, scheduler units (0..999).
            label: Label planes ``[B, label_channels, H, W]`` in {0, 1}.
            label_embedding: Result of :meth:`embed_label`, to save its cost at every step.
            condition: Known pixels and change mask, ``[B, condition_channels, H, W]``.

        Returns:
            The prediction, ``[B, in_channels, H, W]``.
        """
        if label_embedding is None:
            label_embedding = self.embed_label(label)
        planes = [sample, label] if condition is None else [sample, condition, label]
        x = self.stem(torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last))
        steps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        time = self.t_embedder(steps)
        skips = []
        for level, down in zip(self.encoder, self.down, strict=True):
            x = _run(level, x, time)
            skips.append(x)
            x = down(x)
        tokens = x.permute(0, 2, 3, 1)
        condition_tokens = time[:, None, None] + label_embedding.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens = block(tokens, condition_tokens)
        x = tokens.permute(0, 3, 1, 2)
        for level, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            x = torch.cat([F.pixel_shuffle(up(x), 2), skip], dim=1)
            x = _run(level, x, time)
        features = torch.cat([F.silu(self.head_norm(x)), x, sample], dim=1)
        return DenoiserOutput(sample=self.head(features))


def _run(level: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    """Apply the residual blocks of one level."""
    for block in level.children():
        x = block(x, time)
    return x
