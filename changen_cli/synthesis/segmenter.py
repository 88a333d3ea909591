"""A small land-cover segmenter: the judge of generated images, never a generator.

A convolutional U-shape with OpenEarthMap's eight classes. It tells whether a drawn change shows what its mask says, and
its inner features place images in a space where sets of them can be compared. All normalisation is per pixel, so
a pixel's answer depends on its surroundings only and not on the size of the image around it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from changen_cli.core.errors import ModelError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.types import UInt8Array
from changen_cli.synthesis.blocks import LayerNorm2d

FloatArray = npt.NDArray[np.float32]
Window = tuple[slice, slice]
N = TypeVar("N", bound=nn.Module)

FEATURE_STRIDE = 8
"""Image pixels per side of a feature."""
_STEM = 4
# What a pixel sees in practice: wide enough that tiles of an image answer like the whole.
_CONTEXT_PX = 96


class SegmenterBlock(nn.Module):
    """Two 3x3 convolutions with channel LayerNorm around a shortcut."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.skip = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.norm1 = LayerNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm2 = LayerNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = self.skip(x) + self.conv2(F.silu(self.norm2(h)))
        return out


class LandCoverSegmenter(ModelMixin, ConfigMixin):
    """Land cover of overhead images, one of OpenEarthMap's classes per pixel.

    Args:
        widths: Channels at 1/4, 1/8, 1/16 and so on of the resolution; the second is the width of :meth:`features`.
        blocks_per_level: Blocks at each of these, in the encoder and in the decoder.
        classes: Names of the classes, in the order of the logits.
        license: Licence of the weights.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks_per_level: tuple[int, ...] = (1, 2, 2),
        classes: tuple[str, ...] = OPENEARTHMAP,
        license: str = "",
    ) -> None:
        super().__init__()
        # A quarter of the resolution from the first layer on: full-resolution convolutions would be most of the cost,
        # and what they would see is still there, in the 4x4 pixels laid side by side.
        self.stem = nn.Sequential(nn.PixelUnshuffle(_STEM), nn.Conv2d(3 * _STEM**2, widths[0], 3, padding=1))
        pairs = list(zip(widths, blocks_per_level, strict=True))
        self.encoder = nn.ModuleList(nn.Sequential(*(SegmenterBlock(w, w) for _ in range(n))) for w, n in pairs)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(
            nn.Sequential(*(SegmenterBlock(2 * w if i == 0 else w, w) for i in range(n))) for w, n in pairs[:-1]
        )
        self.head_norm = LayerNorm2d(widths[0])
        self.head = nn.Conv2d(widths[0], _STEM**2 * len(classes), 3, padding=1)
        # torch's usual start shrinks the signal at every convolution. What comes up from the coarse levels would be
        # lost beside the skip connections, and the network would look at a few pixels only for a long time.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for block in self.modules():
            if isinstance(block, SegmenterBlock):
                for convolution in (block.conv1, block.conv2):
                    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")

    @property
    def size_multiple(self) -> int:
        """Images are filled up to a multiple of this by mirroring; callers need not care."""
        return int(_STEM * 2 ** (len(self.config["widths"]) - 1))

    def forward(self, image: Tensor) -> Tensor:
        """Classify every pixel.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1], any size.

        Returns:
            Logits ``[B, K, H, W]``.
        """
        height, width = image.shape[-2:]
        return self.classify(self.dense(image))[..., :height, :width]

    def dense(self, image: Tensor) -> Tensor:
        """What classes are read from: features at 1/4 of the resolution that know fine and coarse levels.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1], any size.

        Returns:
            ``[B, widths[0], H'/4, W'/4]``, where H' and W' are the next multiples of :attr:`size_multiple`.
        """
        levels = self._encode(image, len(self.encoder))
        x = levels[-1]
        for level, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(levels[:-1]), strict=True):
            x = level(torch.cat([F.pixel_shuffle(up(x), 2), skip], dim=1))
        return F.silu(self.head_norm(x))

    def classify(self, dense: Tensor) -> Tensor:
        """Logits ``[B, K, H', W']`` of :meth:`dense` features."""
        return F.pixel_shuffle(self.head(dense), _STEM)

    def features(self, image: Tensor) -> Tensor:
        """Inner features at 1/8 of the resolution, where texture and layout are still both present.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1], any size.

        Returns:
            ``[B, D, ceil(H/8), ceil(W/8)]``, of zero mean and unit variance over the channels.
        """
        height, width = image.shape[-2:]
        x = self._encode(image, (FEATURE_STRIDE // _STEM).bit_length())[-1]
        x = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)
        return x[..., : -(-height // FEATURE_STRIDE), : -(-width // FEATURE_STRIDE)]

    def _encode(self, image: Tensor, depth: int) -> list[Tensor]:
        """The first ``depth`` levels of the encoder, finest first."""
        x = self.stem(_filled(image, self.size_multiple).contiguous(memory_format=torch.channels_last))
        levels: list[Tensor] = []
        for index in range(depth):
            x = self.encoder[index](self.down[index - 1](x) if index else x)
            levels.append(x)
        return levels

    @torch.no_grad()
    def predict(self, image: UInt8Array, *, tile_px: int = 512) -> FloatArray:
        """Class probabilities of one image, in little memory whatever its size.

        Args:
            image: uint8 ``[H, W, 3]``.
            tile_px: Side of the pieces that are classified one by one, each with its surroundings.

        Returns:
            float32 ``[K, H, W]``; sums to 1 over the classes.
        """
        height, width = image.shape[:2]
        out = np.empty((len(self.config["classes"]), height, width), dtype=np.float32)
        for wide, inner, place in pieces(height, width, tile_px):
            shares = self(as_input(image[wide][None], self)).float().softmax(dim=1)[0].cpu().numpy()
            out[:, *place] = shares[:, *inner]
        return out

    @torch.no_grad()
    def describe(self, windows: UInt8Array, *, batch: int = 32) -> FloatArray:
        """One feature vector per window: :meth:`features`, averaged over the window.

        Args:
            windows: uint8 ``[N, S, S, 3]``.
            batch: Windows per forward pass.

        Returns:
            float32 ``[N, D]``.
        """
        found = [
            self.features(as_input(windows[first : first + batch], self)).float().mean(dim=(2, 3)).cpu().numpy()
            for first in range(0, len(windows), batch)
        ]
        return np.concatenate(found) if found else np.zeros((0, self.config["widths"][1]), dtype=np.float32)


def pieces(height: int, width: int, tile_px: int) -> Iterator[tuple[Window, Window, Window]]:
    """Cut an image into pieces that are answered one by one, each with its surroundings.

    Args:
        height: Of the image.
        width: Of the image.
        tile_px: Side of a piece without its surroundings, divisible by what the network halves.

    Yields:
        Rows and columns of a piece with its surroundings, of the piece in that, and of the piece in the image.
    """
    for row in range(0, height, tile_px):
        for col in range(0, width, tile_px):
            top, left = max(0, row - _CONTEXT_PX), max(0, col - _CONTEXT_PX)
            bottom, right = min(height, row + tile_px), min(width, col + tile_px)
            yield (
                (slice(top, bottom + _CONTEXT_PX), slice(left, right + _CONTEXT_PX)),
                (slice(row - top, bottom - top), slice(col - left, right - left)),
                (slice(row, bottom), slice(col, right)),
            )


def load_segmenter(path: Path) -> LandCoverSegmenter:
    """Read a segmenter written by :func:`~changen_cli.synthesis.models.save_model`.

    Args:
        path: The file.

    Returns:
        The segmenter in float32, in evaluation mode.

    Raises:
        ModelError: When the file is missing, broken, or another kind of model.
    """
    return load_network(path, LandCoverSegmenter, "segmenter", "Use changen-segmenter")


def load_network(path: Path, kind: type[N], called: str, fix: str) -> N:
    """Read a network of a kind that judges images and draws none.

    Args:
        path: A file written by :func:`~changen_cli.synthesis.models.save_model`.
        kind: Its class.
        called: The word for it.
        fix: What to do where the file is another kind of model.

    Returns:
        The network in float32, in evaluation mode.

    Raises:
        ModelError: When the file is missing, broken, or another kind of model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        found = metadata.get("architecture")
        if found != kind.__name__:
            raise ModelError(f"{path} is a {found or 'file of another kind'}, no {called}", fix)
        model = kind(**json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a readable {called}: {reason}", "Train it again") from error
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def as_input(images: UInt8Array, model: nn.Module) -> Tensor:
    """uint8 ``[N, H, W, 3]`` as ``[N, 3, H, W]`` in [-1, 1], where and as precise as the model's weights are."""
    weight = next(model.parameters())
    stack = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(weight.device)
    return (stack.float() / 127.5 - 1).to(weight.dtype)


def _filled(image: Tensor, multiple: int) -> Tensor:
    """Mirror an image at its lower and right edge up to a multiple of ``multiple``."""
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return image
    # Mirroring cannot fill more than the image holds: what is smaller still is continued by its last pixels.
    mode = "reflect" if below < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, below), mode=mode)
