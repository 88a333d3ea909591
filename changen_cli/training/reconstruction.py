"""How far a reconstruction is from its original: losses that keep it sharp without a downloaded net, and figures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from changen_cli.core.types import UInt8Array


def gradient_loss(reconstruction: Tensor, original: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute difference of the finite differences along rows and columns, at several resolutions.

    A pixelwise loss is content with a blurred edge; its gradient is not.

    Args:
        reconstruction: ``[B, C, H, W]`` in about [-1, 1].
        original: The same shape.
        scales: Resolutions compared; each is half the one before.

    Returns:
        Scalar, 0 for equal images.
    """
    # Differences are linear: those of the difference image are the differences of the gradients.
    error = reconstruction.float() - original.float()
    total = error.new_zeros(())
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total / scales


def frequency_loss(reconstruction: Tensor, original: Tensor, alpha: float = 1.0) -> Tensor:
    """Difference of the amplitude spectra, weighted towards what is hardest (Jiang et al. 2021, focal frequency loss).

    Unlike theirs it compares amplitudes only: fine texture whose phase an autoencoder cannot know is asked for in the
    right strength, instead of being averaged away.

    Args:
        reconstruction: ``[B, C, H, W]`` in about [-1, 1].
        original: The same shape.
        alpha: Exponent of the weight; 0 weighs all frequencies alike.

    Returns:
        Scalar, 0 for equal images.
    """
    # Half precision has no Fourier transform.
    with torch.autocast(original.device.type, enabled=False):
        first, second = (torch.fft.rfft2(image.float(), norm="ortho").abs() for image in (reconstruction, original))
        distance = (first - second).abs()
        weight = distance.detach() ** alpha
        weight = weight / weight.amax(dim=(-2, -1), keepdim=True).clamp_min(1e-8)
        loss: Tensor = (weight * distance).mean()
        return loss


def kl_divergence(mean: Tensor, log_variance: Tensor, values: int) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) per image value, as latent diffusion weighs it (Rombach et al. 2022, app. G).

    Args:
        mean: Of the posterior, ``[B, 4, h, w]``.
        log_variance: The same shape.
        values: Values of one image, C·H·W.

    Returns:
        Scalar, nats per image value.
    """
    total: Tensor = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    return total / (mean.shape[0] * values)


def reconstruction_figures(originals: UInt8Array, reconstructions: UInt8Array) -> dict[str, float]:
    """Measure reconstructions.

    Args:
        originals: uint8 ``[N, H, W, 3]``, at least 7 px a side.
        reconstructions: The same shape.

    Returns:
        ``psnr`` in dB and ``ssim`` (means over images), and ``sharpness``: gradient energy of all reconstructions over
        that of all originals, below 1 where they are blurred.
    """
    from skimage.metrics import structural_similarity

    pairs = list(zip(originals, reconstructions, strict=True))
    error = (originals.astype(np.float64) - reconstructions.astype(np.float64)) ** 2
    # A perfect image would be infinitely good, and the mean with it.
    psnr = 10 * np.log10(255**2 / np.maximum(error.mean(axis=(1, 2, 3)), 1e-3))
    ssim = [structural_similarity(first, second, channel_axis=-1, data_range=255) for first, second in pairs]
    energy = _gradient_energy(reconstructions) / max(_gradient_energy(originals), 1e-9)
    return {"psnr": float(psnr.mean()), "ssim": float(np.mean(ssim)), "sharpness": energy}


def _gradient_energy(images: UInt8Array) -> float:
    """Mean square of the finite differences of uint8 ``[N, H, W, 3]``."""
    values = images.astype(np.float64)
    return float(sum(np.square(np.diff(values, axis=axis)).mean() for axis in (1, 2)))
