"""RS-DiT blocks at 1/8 resolution inside a convolutional encoder and decoder: the shape of ``changen-mini``.

A pixel transformer with large patches loses crisp roofs, a convolutional U-shape keeps them through its skip
connections but sees little context. Here the convolutions carry the pixels and the transformer the layout. All
normalisation is per pixel and nothing knows its position, so the network scales to any resolution like RS-DiT itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from changen_cli.synthesis.blocks import (
    LayerNorm2d,
    TimestepEmbedder,
    build_blocks,
    convolve_and_add,
    plain_cpu,
    run_blocks,
)
from changen_cli.synthesis.transformer import DenoiserOutput

STRIDE = 8
"""Image pixels per token side."""

_STRIP_BYTES = 4 * 2**20


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
        in_place = plain_cpu(x)
        h = self.conv1(F.silu(self.norm1(x), inplace=in_place))
        shift, scale = self.time(F.silu(time)).chunk(2, dim=1)
        h = F.silu(self.norm2.modulated(h, shift, scale), inplace=in_place)
        return convolve_and_add(self.conv2, h, self.skip(x))


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
        unknown_plane: Whether the last label plane marks pixels labelled as none of ``classes``; unlabelled pixels have
            no plane.
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
        self.widths = tuple(widths)
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
        given = torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last)
        # One timestep for all samples stays one row: its scales and shifts then fold into the normalisation.
        time = self.t_embedder(torch.as_tensor(timestep, device=sample.device).reshape(-1))
        skips: list[Tensor] = []
        x = given
        for index, (level, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            x = self._encode(index, level, x, time)
            skips.append(x)
            x = down(x)
        condition_tokens = time[:, None, None] + label_embedding.permute(0, 2, 3, 1)
        x = run_blocks(self.blocks, x.permute(0, 2, 3, 1), condition_tokens).permute(0, 3, 1, 2)
        for index in reversed(range(len(skips))):
            x = self._decode(index, x, skips.pop(), time, sample)
        return DenoiserOutput(sample=x)

    def _encode(self, index: int, level: Any, x: Tensor, time: Tensor) -> Tensor:
        """Residual blocks of one level, after the stem in the first."""

        def part(low: int, high: int) -> Tensor:
            strip = x[:, :, low:high]
            return _run(level, strip if index else self.stem(strip), time)

        return in_strips(part, x.shape[-2], 2 * len(level) + 2, _strip_rows(x, self.widths[index]))

    def _decode(self, index: int, x: Tensor, skip: Tensor, time: Tensor, sample: Tensor) -> Tensor:
        """Upsample, join the encoder's features, residual blocks of one level, and the head after the last."""
        level: Any = self.decoder[index]
        up: Any = self.up[index]
        width = skip.shape[1]
        # A pixel shuffle whose channels come last: the weights are put in that order instead of the features.
        weight = up.weight.view(width, 4, -1).transpose(0, 1).reshape(4 * width, -1)
        bias = up.bias.view(width, 4).t().reshape(-1)

        def part(low: int, high: int) -> Tensor:
            coarse = F.linear(x[:, :, low // 2 : high // 2].permute(0, 2, 3, 1), weight, bias)
            batch, rows, cols, _ = coarse.shape
            fine = coarse.view(batch, rows, cols, 2, 2, width).transpose(2, 3)
            beside = skip[:, :, low:high].permute(0, 2, 3, 1).reshape(batch, rows, 2, cols, 2, width)
            joined = torch.cat([fine, beside.to(fine.dtype)], dim=-1).view(batch, 2 * rows, 2 * cols, 2 * width)
            h = _run(level, joined.permute(0, 3, 1, 2), time)
            if index:
                return h
            features = F.silu(self.head_norm(h), inplace=plain_cpu(h))
            return self.head(torch.cat([features, h, sample[:, :, low:high]], dim=1))

        return in_strips(part, skip.shape[-2], 2 * len(level) + 2, _strip_rows(skip, 2 * width))


def in_strips(part: Callable[[int, int], Tensor], height: int, halo: int, rows: int) -> Tensor:
    """Compute ``[B, C, height, W]`` a strip of rows at a time, so that what lies between stays in the cache.

    Args:
        part: Result for the rows from ``low`` to ``high`` when nothing lies beyond them.
        height: Rows in all.
        halo: Rows a result depends on, above and below.
        rows: Rows per strip; both even.
    """
    if rows >= height:
        return part(0, height)
    out = None
    for first in range(0, height, rows):
        last = min(first + rows, height)
        low = max(0, first - halo)
        strip = part(low, min(height, last + halo))[:, :, first - low : last - low]
        if out is None:
            shape = (strip.shape[0], strip.shape[1], height, strip.shape[3])
            out = torch.empty(shape, dtype=strip.dtype, device=strip.device, memory_format=torch.channels_last)
        out[:, :, first:last] = strip
    assert out is not None  # there is at least one row
    return out


def _strip_rows(x: Tensor, channels: int) -> int:
    """Rows of a strip: all of them with gradients, on other devices, or when they fit the cache anyway."""
    height = x.shape[-2]
    if not plain_cpu(x):
        return height
    row_bytes = x.shape[0] * x.shape[-1] * channels * x.element_size()
    rows = max(32, _STRIP_BYTES // row_bytes // 8 * 8)
    return rows if 2 * rows <= height else height


def _run(level: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    """Apply the residual blocks of one level."""
    for block in level.children():
        x = block(x, time)
    return x
