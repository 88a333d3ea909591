"""A patch discriminator (Isola et al. 2017) with the hinge loss (Lim & Ye 2017), weighed as VQGAN does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Says of every patch whether it is real.

    Group normalisation, not batch normalisation: the answer for one image does not depend on the others.

    Args:
        width: Channels after the first layer, a multiple of 8; doubled by each further one.
        levels: Layers that halve the resolution; 3 see 70 px.

    Attributes:
        images_seen: Images the autoencoder has seen, int64 scalar. It is kept here because it decides when this
            network's work begins, and so travels with its weights through checkpoints.
    """

    images_seen: Tensor

    def __init__(self, width: int = 64, levels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level in range(1, levels + 1):
            before, after = (width * 2 ** min(step, 3) for step in (level - 1, level))
            layers += [
                nn.Conv2d(before, after, 4, stride=2 if level < levels else 1, padding=1, bias=False),
                nn.GroupNorm(8, after),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(width * 2 ** min(levels, 3), 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Judge images ``[B, 3, H, W]`` in [-1, 1], at least 32 px a side: logits ``[B, 1, H/8-2, W/8-2]``."""
        logits: Tensor = self.layers(images)
        return logits


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients through a network, but none into its parameters."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, 0 once all logits are beyond the margin, 1 for a network that knows nothing."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(reconstruction_loss: Tensor, adversarial_loss: Tensor, last_layer: Tensor) -> Tensor:
    """λ of VQGAN (Esser et al. 2021, eq. 7): the ratio of both losses' gradients at the decoder's last layer.

    Args:
        reconstruction_loss: Scalar.
        adversarial_loss: Scalar.
        last_layer: Weight of the decoder's last convolution.

    Returns:
        Scalar in [0, 1e4] without gradient.
    """
    norms = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
        for loss in (reconstruction_loss, adversarial_loss)
    ]
    weight: Tensor = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
    return weight
