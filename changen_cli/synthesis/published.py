"""Published RS-DiT states: tensors under the names of the Changen2 release, without a configuration of ours."""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from changen_cli.core.errors import ModelError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis.hub import PICKLES, KnownModel
from changen_cli.synthesis.transformer import SIZES, RSDiT

HEADS = {width: heads for _, width, heads in SIZES.values()}
"""Attention heads by token width; they cannot be seen in the tensors."""

LICENSE = "not stated; published Changen2 states are CC BY-NC-SA 4.0"

_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
_ANCHOR = "x_embedder.proj.weight"
# Averaged weights first: they are what is meant to be sampled from.
_WRAPPERS = ("ema", "model_ema", "ema_state_dict", "state_dict", "model", "module", "net", "params")
_PLANES: dict[int, tuple[str, ...]] = {
    1: ("building",),
    len(OPENEARTHMAP): OPENEARTHMAP,
    # One-hot of the published ids 0 to 8, where 0 is what is none of the eight.
    len(OPENEARTHMAP) + 1: ("background", *OPENEARTHMAP),
}


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file or of a pickled checkpoint, in float32.

    Pickles are read with ``weights_only``: tensors and plain containers, never code.

    Returns:
        Tensors by name, as they are in the file, and a safetensors file's metadata.

    Raises:
        ModelError: When the file cannot be read, or holds more than weights.
    """
    from safetensors import SafetensorError, safe_open

    again = "Download it again"
    try:
        if path.suffix not in PICKLES:
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name).float() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        # Training scripts put their arguments beside the weights; a Namespace of plain values does nothing when read.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # torch's remarks on the pickle's protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "weights_only" in str(error).lower():
            again = "Convert it to safetensors where you trust it, or download it again"
        raise ModelError(f"{path} is not readable as plain weights: {_one_line(error)}", again) from error
    except (*_UNREADABLE, SafetensorError) as error:
        raise ModelError(f"{path} is not readable: {_one_line(error)}", again) from error
    state = _unwrap(content)
    if state is None:
        raise ModelError(f"{path} holds no tensors by name", "Name the file that holds the weights")
    return {name: tensor.float() for name, tensor in state.items()}, {}


def _unwrap(content: Any, depth: int = 3) -> dict[str, Tensor] | None:
    """The dict of tensors in a checkpoint: the dict itself, or the first of its usual entries that holds one."""
    if not isinstance(content, Mapping) or not depth:
        return None
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if any(name.endswith(_ANCHOR) for name in state):
        return state
    inner = (_unwrap(content.get(name), depth - 1) for name in _WRAPPERS)
    return next((found for found in inner if found is not None), state or None)


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip what training scripts put before the names (``module.``, ``model.``, ``ema.``, …).

    With several copies of the network in one state, averaged weights are taken; what lies beside the network is left.
    """
    prefixes = [name.removesuffix(_ANCHOR) for name in state if name.endswith(_ANCHOR)]
    prefix = min(prefixes, key=lambda text: ("ema" not in text, len(text)), default="")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def published_settings(
    state: Mapping[str, Tensor], config: Mapping[str, Any], known: KnownModel | None, metadata: Mapping[str, str]
) -> dict[str, Any]:
    """What the tensors of a state do not say: heads, window, classes, licence.

    Args:
        state: Tensors under the published names.
        config: A ``config.json`` beside the file; it may name ``num_heads``, ``window_size``, ``classes``, ``license``.
        known: The published model it is, where that is known.
        metadata: Of a safetensors file; ``config`` in it may hold the same as JSON.

    Raises:
        ModelError: When the label planes have no known meaning.
    """
    try:
        inner = json.loads(metadata.get("config", "{}"))
    except ValueError:
        inner = {}
    told = {**(inner if isinstance(inner, dict) else {}), **config}
    settings = {key: told[key] for key in ("num_heads", "window_size") if isinstance(told.get(key), int)}
    weight = state.get("y_embedder.convs.0.weight")
    planes = weight.shape[1] if weight is not None and weight.ndim == 4 else 0
    classes = tuple(told["classes"]) if told.get("classes") else None
    if classes is None and known is not None:
        # OpenEarthMap's names with or without a plane for what is none of them.
        classes = next((c for c in (known.classes, ("background", *known.classes)) if len(c) == planes), None)
    elif classes is None:
        classes = _PLANES.get(planes)
    if planes and (classes is None or len(classes) != planes):
        expected = f"{len(classes)} classes" if classes else "no classes"
        raise ModelError(
            f"the state has {planes} label planes and {expected} are known for them",
            'Put a config.json with "classes": [...], one name per plane, beside the file',
        )
    return settings | {
        "classes": classes or ("building",),
        "license": str(told.get("license") or (known.license if known else LICENSE)),
    }


def load_published(
    state_dict: Mapping[str, Tensor], *, num_heads: int | None = None, window_size: int = 8, **settings: Any
) -> RSDiT:
    """Build an :class:`RSDiT` from a state as published, reading its shape off the tensors.

    Args:
        state_dict: Tensors under the published names (``x_embedder.proj.weight``, …).
        num_heads: Attention heads; not visible in the tensors. None takes those of the published size of that width.
        window_size: Attention window in tokens; not visible either.
        **settings: Further settings of :class:`RSDiT`: ``classes``, ``license``.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: When tensors are missing, unexpected, or of the wrong shape.
    """
    try:
        hidden, channels, patch, _ = state_dict["x_embedder.proj.weight"].shape
        label_channels = state_dict["y_embedder.convs.0.weight"].shape[1]
        out_channels = state_dict["final_layer.linear.weight"].shape[0] // patch**2
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"not an RS-DiT state: {error} is missing or has the wrong shape") from error
    depth = len({name.split(".")[1] for name in state_dict if name.startswith("blocks.")})
    heads = num_heads or HEADS.get(hidden)
    if heads is None:
        fix = f'Published widths are {", ".join(map(str, HEADS))}; else put a config.json with "num_heads" beside it'
        raise ModelError(f"the number of attention heads cannot be told from the width {hidden}", fix)
    # No weights are drawn only to be replaced: at 140 million that would take seconds, and twice the memory.
    with torch.device("meta"):
        model = RSDiT(
            in_channels=channels,
            patch_size=patch,
            hidden_size=hidden,
            depth=depth,
            num_heads=heads,
            window_size=window_size,
            label_channels=label_channels,
            out_channels=out_channels,
            learn_sigma=out_channels == 2 * channels,
            **settings,
        )
    try:
        model.load_state_dict(dict(state_dict), assign=True)
    except RuntimeError as error:
        raise ModelError(f"RS-DiT state does not fit: {_one_line(error)}") from error
    return model.eval()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
