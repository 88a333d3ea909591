"""The parts RS-DiT is made of (Changen2, TPAMI 2025; blocks after DiT, Peebles & Xie 2023).

Tokens are kept as a grid ``[B, H, W, D]`` throughout, so that windows and depthwise convolutions need no
bookkeeping of heights and widths. Attribute names follow the published checkpoints.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_POINTWISE: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
"""oneDNN's convolution with a pointwise function or a sum at its end; has no gradient."""

# Scores of explicit attention that are alive at once: they should stay in the last-level cache.
_SCORES = 2**23


def plain_cpu(x: Tensor) -> bool:
    """Whether ``x`` is on a CPU with neither gradients nor autocast: memory may then be reused in place.

    Not while torch.compile looks on: its compiler plans the memory itself, and better from one graph of pure functions.
    """
    if torch.compiler.is_compiling():
        return False
    return not torch.is_grad_enabled() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def onednn(x: Tensor) -> bool:
    """Whether oneDNN's fused convolutions take ``x``."""
    if _POINTWISE is None or not plain_cpu(x) or not torch.backends.mkldnn.is_available():
        return False
    half = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return half or x.dtype == torch.float32


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return ``x * (1 + scale) + shift`` (adaLN)."""
    return torch.addcmul(shift + x, x, scale)


def convolve_and_add(conv: nn.Conv2d, x: Tensor, other: Tensor) -> Tensor:
    """Return ``conv(x) + other``, in one pass over the memory where there is a kernel for it."""
    if not onednn(x):
        return conv(x) + other
    shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
    out: Tensor = _POINTWISE.binary(x, other, conv.weight, conv.bias, *shape, "add", None, None, [], None)
    return out


def timestep_features(timestep: Tensor, dim: int = 256, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal features of the diffusion timestep.

    Args:
        timestep: ``[B]``, in scheduler units (0..999).
        dim: Even number of features.
        max_period: Longest wavelength.

    Returns:
        float32 ``[B, dim]``, cosines first.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
    angles = timestep.float()[:, None] * torch.exp(-math.log(max_period) * steps / half)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def zero_modulation(hidden_size: int, parts: int) -> nn.Sequential:
    """The adaLN-zero head: a condition of width D to ``parts`` shifts, scales and gates, all zero at first."""
    linear = nn.Linear(hidden_size, parts * hidden_size)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


class TimestepEmbedder(nn.Module):
    """Diffusion timestep ``[B]`` to a vector ``[B, D]``."""

    def __init__(self, hidden_size: int, frequency_size: int = 256) -> None:
        super().__init__()
        self.frequency_size = frequency_size
        self.mlp = nn.Sequential(nn.Linear(frequency_size, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, timestep: Tensor) -> Tensor:
        features = timestep_features(timestep, self.frequency_size)
        embedding: Tensor = self.mlp(features.to(next(self.mlp.parameters()).dtype))
        return embedding


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of ``[B, C, H, W]``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Normalise, then scale and shift by ``[B, C]``, or by ``[1, C]``, which only changes the weights."""
        if scale.shape[0] > 1:
            return modulate(self(x), shift[:, :, None, None], scale[:, :, None, None])
        weight, bias = self.weight * (1 + scale[0]), torch.addcmul(shift[0] + self.bias, self.bias, scale[0])
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, weight, bias, self.eps)
        return x.permute(0, 3, 1, 2)


class LabelEmbedder(nn.Module):
    """Full-resolution label planes ``[B, K, H, W]`` to an embedding ``[B, D, H/8, W/8]``.

    Eight 3x3 convolutions with channel LayerNorm and SiLU, three of them of stride 2; no SiLU after the last.
    """

    def __init__(self, label_channels: int, hidden_size: int) -> None:
        super().__init__()
        d = hidden_size
        widths = (d // 8, d // 8, d // 4, d // 4, d // 2, d // 2, d, d)
        layers: list[nn.Module] = []
        previous = label_channels
        for width, stride in zip(widths, (1, 1, 2, 1, 2, 1, 2, 1), strict=True):
            layers += [nn.Conv2d(previous, width, 3, stride=stride, padding=1), LayerNorm2d(width), nn.SiLU()]
            previous = width
        self.convs = nn.Sequential(*layers[:-1])

    def forward(self, label: Tensor) -> Tensor:
        x = label.contiguous(memory_format=torch.channels_last)
        in_place = plain_cpu(x)
        for layer in self.convs:
            x = F.silu(x, inplace=in_place) if isinstance(layer, nn.SiLU) else layer(x)
        return x


class Attention(nn.Module):
    """Multi-head self-attention over tokens ``[B, N, D]``."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        # The fused kernel of CPUs computes bfloat16 in float32; there the explicit products are faster.
        explicit = x.dtype == torch.bfloat16 and plain_cpu(x)
        attend = _explicit_attention if explicit else F.scaled_dot_product_attention
        out = attend(query, key, value)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(batch, tokens, width))
        return projected


def _explicit_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention over ``[B, heads, N, d]``, a slice of the queries at a time; laid out ``[B, N, heads, d]``."""
    batch, heads, tokens, width = query.shape
    query, keys, value = query * width**-0.5, key.contiguous().transpose(-2, -1), value.contiguous()
    out = query.new_empty(batch, tokens, heads, width).transpose(1, 2)
    size = max(64, _SCORES // (batch * heads * tokens))
    for first in range(0, tokens, size):
        rows = slice(first, first + size)
        out[:, :, rows] = (query[:, :, rows] @ keys).softmax(dim=-1) @ value
    return out


class Mlp(nn.Module):
    """Linear, 3x3 depthwise convolution without bias, tanh-GELU, linear.

    The convolution is what tells tokens apart without a position embedding, at any resolution.
    """

    def __init__(self, hidden_size: int, ratio: int = 4) -> None:
        super().__init__()
        inner = hidden_size * ratio
        self.fc1 = nn.Linear(hidden_size, inner)
        self.dwconv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.fc2 = nn.Linear(inner, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        # A [B, H, W, C] grid viewed as [B, C, H, W] is already channels-last: no copy is made.
        inner = self.fc1(x).permute(0, 3, 1, 2)
        if onednn(x):
            conv = self.dwconv
            shape = (conv.padding, conv.stride, conv.dilation, conv.groups)
            inner = _POINTWISE(inner, conv.weight, None, *shape, "gelu", [], "tanh")
        else:
            inner = F.gelu(self.dwconv(inner), approximate="tanh")
        out: Tensor = self.fc2(inner.permute(0, 2, 3, 1))
        return out


class RSDiTBlock(nn.Module):
    """One RS-DiT block: window or global attention and a convolutional MLP under adaLN-zero.

    Args:
        hidden_size: Token width D.
        num_heads: Attention heads.
        window_size: Side of the attention window in tokens; 0 attends globally.
    """

    def __init__(self, hidden_size: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size)
        self.adaLN_modulation = zero_modulation(hidden_size, 6)

    def attend(self, x: Tensor) -> Tensor:
        """Attention over the grid ``[B, H, W, D]``, in windows or globally."""
        batch, height, width, dim = x.shape
        size = self.window_size
        if not size:
            return self.attn(x.reshape(batch, height * width, dim)).reshape(batch, height, width, dim)
        # As published: windows that do not fit are filled up with zeros, and those tokens are attended.
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        rows, cols = x.shape[1] // size, x.shape[2] // size
        windows = x.reshape(batch, rows, size, cols, size, dim).transpose(2, 3)
        windows = self.attn(windows.reshape(-1, size * size, dim))
        grid = windows.reshape(batch, rows, cols, size, size, dim).transpose(2, 3)
        return grid.reshape(batch, rows * size, cols * size, dim)[:, :height, :width]

    def forward(self, x: Tensor, activated: Tensor, memory: Tensor | None = None) -> Tensor:
        """Transform tokens ``[B, H, W, D]``.

        Args:
            x: The tokens.
            activated: SiLU of the per-token condition, ``[B, H, W, D]``; the same for all blocks.
            memory: Where to put the modulation, ``[B * H * W, 6 * D]``; None takes new memory.
        """
        linear: Any = self.adaLN_modulation[1]
        if memory is None:
            modulation = linear(activated)
        else:
            rows = activated.reshape(-1, activated.shape[-1])
            modulation = torch.addmm(linear.bias, rows, linear.weight.t(), out=memory).view(*x.shape[:3], -1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        if memory is None:
            x = torch.addcmul(x, gate1, self.attend(modulate(self.norm1(x), shift1, scale1)))
            return torch.addcmul(x, gate2, self.mlp(modulate(self.norm2(x), shift2, scale2)))
        h = self.norm1(x)
        x = torch.addcmul(x, gate1, self.attend(h.addcmul_(h, scale1).add_(shift1)))
        h = self.norm2(x)
        return x.addcmul_(gate2, self.mlp(h.addcmul_(h, scale2).add_(shift2)))


def run_blocks(blocks: nn.ModuleList, x: Tensor, condition: Tensor) -> Tensor:
    """Apply RS-DiT blocks to tokens ``[B, H, W, D]`` under a per-token condition of the same shape."""
    activated, memory = F.silu(condition), None
    if plain_cpu(x):
        # Without gradients nobody keeps the modulations: all blocks use the same memory, which is mapped once.
        memory = activated.new_empty(activated[..., 0].numel(), 6 * activated.shape[-1])
    for block in blocks:
        x = block(x, activated, memory)
    return x


def build_blocks(depth: int, hidden_size: int, num_heads: int, window_size: int) -> nn.ModuleList:
    """Stack blocks as published: every fourth is global, the others attend within windows."""
    return nn.ModuleList(
        RSDiTBlock(hidden_size, num_heads, 0 if (index + 1) % 4 == 0 else window_size) for index in range(depth)
    )
