"""Shapes of networks that can be trained from the command line."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.seeding import derive_seed
from changen_cli.synthesis.contours import CONTOUR
from changen_cli.synthesis.hybrid import HybridRSDiT
from changen_cli.synthesis.transformer import SIZES, RSDiT

Size = Literal["mini", "S", "B", "L", "XL"]
Codec = Literal["pixel", "vae"]
Denoiser = HybridRSDiT | RSDiT

MINI: dict[str, Any] = {
    "widths": (32, 48, 96),
    "blocks_per_level": (1, 1, 2),
    "hidden_size": 192,
    "num_heads": 3,
    "depth": 6,
}
"""Shape of ``changen-mini``."""
FLOW = {"beta_schedule": "flow", "prediction_type": "sample"}
"""Flow matching that predicts the image: the better objective on pixels, see docs/model.md."""
VELOCITY = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}
"""Velocity under a cosine schedule."""
_WIDTHS = {"S": (48, 96, 192), "B": (64, 128, 256), "L": (96, 192, 384), "XL": (128, 256, 512)}
assert set(get_args(Size)) == {"mini", *SIZES}


def new_denoiser(size: Size, codec: Codec, seed: int, *, of_contours: bool = False, **settings: Any) -> Denoiser:
    """Create an untrained denoiser with weights drawn from ``seed`` only.

    Pixels are denoised by the convolutional hybrid, latents by RS-DiT as published plus the condition channels: the
    known sample around the change, and the change area. All know OpenEarthMap's classes and "none of these", unless
    they are to know contours alone.

    Args:
        size: ``"mini"``, or a published size: depth, width and heads of the RS-DiT blocks.
        codec: ``"pixel"`` or ``"vae"``.
        seed: Seed of the weights.
        of_contours: Whether its condition is the contours of objects, Changen2's self-supervised mode, and no classes.
        **settings: Further settings of the network.
    """
    classes = (CONTOUR,) if of_contours else OPENEARTHMAP
    shared: dict[str, Any] = {
        "classes": classes,
        "unknown_plane": not of_contours,
        "label_channels": len(classes) + (not of_contours),
        "codec": codec,
    }
    depth, hidden, heads = SIZES.get(size, (MINI["depth"], MINI["hidden_size"], MINI["num_heads"]))
    blocks = {"depth": depth, "hidden_size": hidden, "num_heads": heads}
    if codec == "vae":
        latent = {"condition_channels": 5, "learn_sigma": False} | VELOCITY
        return seeded(RSDiT, seed, **(shared | blocks | latent | settings))
    convolutions = MINI if size == "mini" else blocks | {"widths": _WIDTHS[size], "blocks_per_level": (1, 2, 2)}
    return seeded(HybridRSDiT, seed, **(shared | convolutions | FLOW | settings))


def seeded(kind: type[Any], seed: int, **settings: Any) -> Any:
    """Build a network whose weights depend on ``seed`` only, and leave the global generator as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(derive_seed(seed, "init"))
    try:
        return kind(**settings)
    finally:
        torch.set_rng_state(state)
