"""A small change detector: ChangeStar (Zheng et al., ICCV 2021) on the trunk of the land-cover segmenter.

One encoder and decoder looks at both dates alike; a semantic head reads the classes of each date, and a
temporal-symmetric ChangeMixin reads the change from the features of both. Which date is called the first makes no
difference, not even to a bit. It judges images and draws none.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from changen_cli.core.types import UInt8Array
from changen_cli.synthesis.blocks import LayerNorm2d
from changen_cli.synthesis.segmenter import LandCoverSegmenter, as_input, load_network, pieces

FloatArray = npt.NDArray[np.float32]
THRESHOLD = 0.5
"""A pixel whose probability is higher has changed."""


class Answer(NamedTuple):
    """What a detector says of a batch of pairs.

    Attributes:
        change: Logits ``[B, H, W]``.
        classes: Logits of OpenEarthMap's classes, ``[2B, 8, H, W]``: the first dates, then the second dates.
    """

    change: Tensor
    classes: Tensor


class ChangeDetector(ModelMixin, ConfigMixin):
    """Where two images of one place show different things.

    Args:
        widths: Channels of the trunk, see :class:`~changen_cli.synthesis.segmenter.LandCoverSegmenter`.
        blocks_per_level: Blocks of the trunk.
        head_layers: 3x3 convolutions of the ChangeMixin.
        head_width: Their channels; the paper's head of the size 1x256 is one layer of 256 channels.
        license: Licence of the weights.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks_per_level: tuple[int, ...] = (1, 2, 2),
        head_layers: int = 1,
        head_width: int = 96,
        license: str = "",
    ) -> None:
        super().__init__()
        self.trunk = LandCoverSegmenter(widths, blocks_per_level)
        layers: list[nn.Module] = []
        for index in range(head_layers):
            layers += [
                nn.Conv2d(head_width if index else 2 * widths[0], head_width, 3, padding=1),
                LayerNorm2d(head_width),
                nn.SiLU(),
            ]
        self.mixin = nn.Sequential(*layers, nn.Conv2d(head_width, 16, 1))

    def forward(self, before: Tensor, after: Tensor) -> Answer:
        """Look at pairs of images.

        Args:
            before: ``[B, 3, H, W]`` in [-1, 1], any size.
            after: The same of the other date.
        """
        height, width = before.shape[-2:]
        dense = self.trunk.dense(torch.cat([before, after]))
        first, second = dense.chunk(2)
        both = self.mixin(torch.cat([torch.cat([first, second], dim=1), torch.cat([second, first], dim=1)]))
        there, back = F.pixel_shuffle(both, 4)[:, 0, :height, :width].chunk(2)
        return Answer((there + back) / 2, self.trunk.classify(dense)[..., :height, :width])

    @torch.no_grad()
    def predict(self, before: UInt8Array, after: UInt8Array, *, tile_px: int = 512) -> FloatArray:
        """Probability that a pixel has changed, in little memory whatever the size of the images.

        Args:
            before: uint8 ``[H, W, 3]``.
            after: uint8 ``[H, W, 3]``.
            tile_px: Side of the pieces that are answered one by one, each with its surroundings.

        Returns:
            float32 ``[H, W]`` in [0, 1].
        """
        out = np.empty(before.shape[:2], dtype=np.float32)
        for wide, inner, place in pieces(before.shape[0], before.shape[1], tile_px):
            first, second = (as_input(image[wide][None], self) for image in (before, after))
            out[place] = self(first, second).change[0].float().sigmoid().cpu().numpy()[inner]
        return out


def load_detector(path: Path) -> ChangeDetector:
    """Read a detector.

    Args:
        path: A file that ``changen train-detector`` wrote, or the folder it lies in.

    Returns:
        The detector in float32, in evaluation mode.

    Raises:
        ModelError: When the file is missing, broken, or another kind of model.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    return load_network(file, ChangeDetector, "change detector", "Train one with changen train-detector")
