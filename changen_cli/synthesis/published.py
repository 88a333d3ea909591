"""Published RS-DiT states: tensors under the names of the Changen2 release, without a configuration of ours."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.transformer import RSDiT


def load_published(state_dict: Mapping[str, Tensor], *, num_heads: int, window_size: int = 8) -> RSDiT:
    """Build an :class:`RSDiT` from a state as published, reading its shape off the tensors.

    Args:
        state_dict: Tensors under the published names (``x_embedder.proj.weight``, …).
        num_heads: Attention heads; not visible in the tensors.
        window_size: Attention window in tokens; not visible either.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: When tensors are missing, unexpected, or of the wrong shape.
    """
    try:
        hidden, channels, patch, _ = state_dict["x_embedder.proj.weight"].shape
        label_channels = state_dict["y_embedder.convs.0.weight"].shape[1]
        out_channels = state_dict["final_layer.linear.weight"].shape[0] // patch**2
    except (KeyError, ValueError) as error:
        raise ModelError(f"not an RS-DiT state: {error} is missing or has the wrong shape") from error
    depth = len({name.split(".")[1] for name in state_dict if name.startswith("blocks.")})
    model = RSDiT(
        in_channels=channels,
        patch_size=patch,
        hidden_size=hidden,
        depth=depth,
        num_heads=num_heads,
        window_size=window_size,
        label_channels=label_channels,
        out_channels=out_channels,
        learn_sigma=out_channels == 2 * channels,
    )
    try:
        model.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        raise ModelError(f"RS-DiT state does not fit: {' '.join(str(error).split())}") from error
    return model.eval()
