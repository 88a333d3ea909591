"""Models on disk: ours (one safetensors file with its configuration), diffusers folders, and published states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from changen_cli.core.errors import ModelError
from changen_cli.core.files import atomic_path
from changen_cli.synthesis.hub import Files, ModelFile, read_header
from changen_cli.synthesis.hybrid import HybridRSDiT
from changen_cli.synthesis.published import load_published, published_settings, read_state, without_prefix
from changen_cli.synthesis.transformer import RSDiT

ARCHITECTURES: dict[str, type[HybridRSDiT] | type[RSDiT]] = {"HybridRSDiT": HybridRSDiT, "RSDiT": RSDiT}
REDUCTION = 8
"""Pixels to one latent, along a side, of the autoencoders that fit."""


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


def load_model(source: Path | ModelFile) -> HybridRSDiT | RSDiT:
    """Read a denoiser; weights come back in float32, in evaluation mode.

    Args:
        source: A file written by :func:`save_model`, a diffusers model, or a state under the published names; or
            what :func:`~changen_cli.synthesis.hub.find_model` found.

    Raises:
        ModelError: When the file is missing, truncated, or not a model of this package.
    """
    file = source if isinstance(source, ModelFile) else ModelFile(source.name, source)
    path = file.path
    if not path.is_file():
        raise ModelError(f"{path} does not exist", "Give a bundled model's name or a model folder")
    state, metadata = read_state(path)
    try:
        name = metadata.get("architecture") or file.config.get("_class_name")
        if name or not any("y_embedder" in key for key in state):
            # No name and no published state either: the missing key says so.
            model = _build(str(name or metadata["architecture"]), metadata, file.config, state)
        else:
            state = without_prefix(state)
            model = load_published(state, **published_settings(state, file.config, file.known, metadata))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a readable changen model: {reason}", "Download or train it again") from error
    return model.to(memory_format=torch.channels_last).eval()


def _build(
    name: str, metadata: Mapping[str, str], config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HybridRSDiT | RSDiT:
    """Build one of our architectures by the configuration in the file, or else by the one beside it."""
    if name == "LandCoverSegmenter":
        raise ModelError("this is the segmenter that judges images; it draws none", "Give a denoiser")
    settings = json.loads(metadata["config"]) if "config" in metadata else config
    model = ARCHITECTURES[name](**{key: value for key, value in settings.items() if not key.startswith("_")})
    model.load_state_dict(dict(state))
    return model


def load_autoencoder(files: Files, model_config: Any) -> Any:
    """Read the autoencoder of a model of latents.

    Args:
        files: What :func:`~changen_cli.synthesis.hub.find_autoencoder` found.
        model_config: The denoiser's configuration.

    Returns:
        A diffusers ``AutoencoderKL`` in float32, in evaluation mode.

    Raises:
        ModelError: When it cannot be read, is incomplete, or its latents are not the denoiser's.
    """
    from diffusers import AutoencoderKL
    from diffusers.utils import logging

    folder = (files.folder / files.names[0]).parent
    shown = files.id if files.origin == "hub" else str(folder)
    level = logging.get_verbosity()
    # What its loader warns of is checked below, or raised.
    logging.set_verbosity_error()
    try:
        vae, found = AutoencoderKL.from_pretrained(
            str(folder), low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        # The loader raises whatever its many parts raise; a file that is cut off gives four different errors.
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"autoencoder {shown} is not readable: {reason}", "Download it again") from error
    finally:
        logging.set_verbosity(level)
    lacks = list(found["missing_keys"]) + list(found["mismatched_keys"])
    if lacks:
        raise ModelError(f"autoencoder {shown} is incomplete: {len(lacks)} tensors are missing", "Download it again")
    wanted = f"{model_config['in_channels']} channels at 1/{REDUCTION}"
    got = f"{vae.config.latent_channels} channels at 1/{2 ** (len(vae.config.block_out_channels) - 1)}"
    if got != wanted:
        raise ModelError(f"autoencoder {shown} gives {got}, the model works on {wanted}", "Give another one to --vae")
    if vae.config.shift_factor:
        raise ModelError(
            f"autoencoder {shown} shifts its latents, the model's are only scaled", "Give another to --vae"
        )
    return vae.eval()


def is_ours(file: ModelFile) -> bool:
    """Whether a model names its own architecture, as ours and diffusers folders do and published states do not."""
    try:
        return "_class_name" in file.config or "architecture" in read_header(file.path).get("__metadata__", {})
    except (OSError, ValueError):
        return False


def read_facts(path: Path) -> dict[str, Any]:
    """Return what :func:`save_model` stored beside the weights (training cost, data, licences); nothing of others."""
    try:
        facts = json.loads(read_header(path).get("__metadata__", {}).get("facts", "{}"))
    except (OSError, ValueError, AttributeError):
        return {}
    return facts if isinstance(facts, dict) else {}
