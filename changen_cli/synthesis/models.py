"""Models on disk: one safetensors file whose metadata holds the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin

from changen_cli.core.errors import ModelError
from changen_cli.core.files import atomic_path
from changen_cli.synthesis.hybrid import HybridRSDiT
from changen_cli.synthesis.transformer import RSDiT

ARCHITECTURES: dict[str, type[HybridRSDiT] | type[RSDiT]] = {"HybridRSDiT": HybridRSDiT, "RSDiT": RSDiT}


def save_model(model: ModelMixin, path: Path, *, dtype: torch.dtype = torch.float32, **facts: Any) -> None:
    """Write weights and configuration to one safetensors file, by rename.

    Args:
        model: A denoiser of this package.
        path: The file.
        dtype: Type the weights are stored in.
        **facts: Further JSON values for the metadata (training cost, data, licences).
    """
    from safetensors.torch import save

    config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}
    metadata = {"architecture": type(model).__name__, "config": json.dumps(config), "facts": json.dumps(facts)}
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as partial:
        # Not save_file: that makes files nobody but their owner can read.
        partial.write_bytes(save(tensors, metadata=metadata))


def load_model(path: Path) -> HybridRSDiT | RSDiT:
    """Read a file written by :func:`save_model`; weights come back in float32, in evaluation mode.

    Raises:
        ModelError: When the file is missing, truncated, or not a model of this package.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"{path} does not exist", "Give a bundled model's name or a model folder")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        model = ARCHITECTURES[metadata["architecture"]](**json.loads(metadata["config"]))
        model.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a readable changen model: {reason}", "Download or train it again") from error
    return model.to(memory_format=torch.channels_last).eval()


def read_facts(path: Path) -> dict[str, Any]:
    """Return what :func:`save_model` stored beside the weights: training cost, data, licences."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        facts: dict[str, Any] = json.loads((file.metadata() or {}).get("facts", "{}"))
    return facts
