"""Models: open one with what it needs, describe it, try it, and list those at hand."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import ModelError
from changen_cli.core.files import sha256
from changen_cli.core.manifest import ModelRecord
from changen_cli.core.untrusted import read_json
from changen_cli.synthesis.hub import (
    BUNDLED,
    DEFAULT_AUTOENCODER,
    KNOWN,
    SEGMENTER,
    Files,
    ModelFile,
    cached_repositories,
    find_autoencoder,
    find_model,
    read_header,
    select_autoencoder,
    select_model,
)

if TYPE_CHECKING:
    from changen_cli.synthesis.hybrid import HybridRSDiT
    from changen_cli.synthesis.transformer import RSDiT

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A denoiser in memory, with the autoencoder it needs and the record of both.

    Attributes:
        file: Where it lies.
        denoiser: In float32, on the CPU, in evaluation mode.
        autoencoder: A diffusers ``AutoencoderKL``; None for denoisers of pixels, or when it was not asked for.
        record: What the manifest says of it.
    """

    file: ModelFile
    denoiser: HybridRSDiT | RSDiT
    autoencoder: Any
    record: ModelRecord


def open_model(reference: str, vae: str | None = None, *, with_autoencoder: bool = True) -> OpenedModel:
    """Open a model by bundled name, path or Hub id.

    Somebody else's licence is told in one line (a warning of this module's logger: without any set-up Python prints
    those to standard error).

    Args:
        reference: See :func:`~changen_cli.synthesis.hub.find_model`.
        vae: Autoencoder for a model of latents, path or Hub id; None takes the one that lies beside the model, else
            the one published models were trained with.
        with_autoencoder: Whether to open it too.

    Raises:
        ModelError: When something cannot be found or read, or the two do not fit.
    """
    from changen_cli.synthesis.models import load_model, read_facts
    from changen_cli.synthesis.published import LICENSE

    file = find_model(reference)
    denoiser = load_model(file)
    licence = str(denoiser.config["license"])
    if licence and (file.origin == "hub" or file.known or licence == LICENSE):
        logger.warning("Model %s: licence %s. It can extend to what the model generates.", file.id, licence)
    facts = read_facts(file.path)
    if file.revision:
        facts["revision"] = file.revision
    autoencoder = None
    if denoiser.config["codec"] == "pixel":
        if vae:
            raise ModelError(f"model {reference} draws pixels and takes no autoencoder", "Leave out --vae")
    elif with_autoencoder:
        wanted = vae or _own_autoencoder(file, facts)
        if not wanted:
            # Another one's latents would give images that are wrong and look only somewhat odd.
            raise ModelError(f"{reference} does not say of which autoencoder its latents are", "Name it with --vae")
        autoencoder, used = open_autoencoder(wanted, denoiser.config)
        trained_with = facts.get("autoencoder")
        if isinstance(trained_with, dict) and trained_with.get("sha256", used["sha256"]) != used["sha256"]:
            logger.warning("Model %s was trained with another autoencoder than %s (by its hash).", file.id, used["id"])
        facts["autoencoder"] = used
    record = ModelRecord(
        id=file.id,
        sha256=sha256(file.path),
        architecture=type(denoiser).__name__,
        license=licence,
        facts=facts,
    )
    return OpenedModel(file, denoiser, autoencoder, record)


def open_autoencoder(reference: str, model_config: Any) -> tuple[Any, dict[str, str]]:
    """Open the autoencoder of a model of latents.

    Args:
        reference: Path or Hub id.
        model_config: The denoiser's configuration.

    Returns:
        A diffusers ``AutoencoderKL`` and its identity: id, revision, sha256.

    Raises:
        ModelError: When it cannot be found or read, or its latents are not the denoiser's.
    """
    from changen_cli.synthesis.models import load_autoencoder

    files = find_autoencoder(reference)
    autoencoder = load_autoencoder(files, model_config)
    weights = files.folder / files.names[1]
    return autoencoder, {"id": files.id, "revision": files.revision, "sha256": sha256(weights)}


def _own_autoencoder(file: ModelFile, facts: Mapping[str, Any]) -> str:
    """The autoencoder a model of latents goes with, by what lies beside it or stands in it; empty when nothing says."""
    from changen_cli.synthesis.models import is_ours

    told = facts.get("autoencoder")
    if file.autoencoder:
        return file.autoencoder
    if isinstance(told, dict) and told.get("id"):
        return str(told["id"])
    if file.known:
        return file.known.autoencoder
    return "" if is_ours(file) else DEFAULT_AUTOENCODER


def describe_model(reference: str) -> dict[str, Any]:
    """Say what a model is: architecture, size, classes, codec, schedule, licence, where it lies. It is loaded for it.

    Raises:
        ModelError: When it cannot be found or read.
    """
    from changen_cli.synthesis.transformer import SIZES

    opened = open_model(reference, with_autoencoder=False)
    model, file, config = opened.denoiser, opened.file, opened.denoiser.config
    latents = config["codec"] != "pixel"
    shape = (config["depth"], config["hidden_size"], config["num_heads"])
    size = next((name for name, published in SIZES.items() if published == shape), None)
    return {
        "id": file.id,
        "origin": file.origin,
        "path": str(file.path.resolve()),
        "revision": file.revision,
        "sha256": opened.record.sha256,
        "bytes": file.path.stat().st_size,
        "architecture": opened.record.architecture,
        "size": f"{size}/{config['patch_size']}" if size and "patch_size" in config else "",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "depth": shape[0],
        "width": shape[1],
        "heads": shape[2],
        "window": config["window_size"],
        "classes": list(config["classes"]),
        "unknown_plane": bool(config["unknown_plane"]),
        "codec": config["codec"],
        "autoencoder": _own_autoencoder(file, opened.record.facts) if latents else "",
        "beta_schedule": config["beta_schedule"],
        "prediction_type": config["prediction_type"],
        "learned_variance": bool(config["learn_sigma"]),
        "license": opened.record.license,
        "facts": opened.record.facts,
    }


def check_model(reference: str, vae: str | None = None) -> dict[str, Any]:
    """Load a model and run it once on noise, on the CPU: 64 px of pixels, or the latents of 256 px.

    An autoencoder that belongs to it is loaded too, and takes 64 px there and back.

    Returns:
        What was run and how long it took.

    Raises:
        ModelError: When something cannot be found, read or run, or answers with something that is no number.
    """
    import torch

    started = time.perf_counter()
    opened = open_model(reference, vae)
    loaded_s = time.perf_counter() - started
    config = opened.denoiser.config
    latents = config["codec"] != "pixel"
    side = 256 if latents else 64
    drawn = torch.Generator().manual_seed(0)
    inner = side // 8 if latents else side
    sample = torch.randn(1, config["in_channels"], inner, inner, generator=drawn)
    label = torch.zeros(1, len(config["classes"]) + bool(config["unknown_plane"]), side, side)
    label[:, 0, side // 4 : side // 2, side // 4 : side // 2] = 1
    channels = config["condition_channels"]
    condition = torch.randn(1, channels, inner, inner, generator=drawn) if channels else None
    started = time.perf_counter()
    answers = {}
    try:
        with torch.no_grad():
            answers["model"] = opened.denoiser(sample, 500, label, condition=condition).sample
            forward_s = time.perf_counter() - started
            if opened.autoencoder is not None:
                image = torch.rand(1, 3, 64, 64, generator=drawn) * 2 - 1
                code = opened.autoencoder.encode(image).latent_dist.mode()
                answers["autoencoder"] = opened.autoencoder.decode(code).sample
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{opened.file.path} cannot be run: {reason}", "Download or train it again") from error
    for what, answer in answers.items():
        if not answer.isfinite().all():
            raise ModelError(
                f"{opened.file.path}: the {what} answers with numbers that are not finite", "Do not use it"
            )
    return {
        "id": opened.file.id,
        "sha256": opened.record.sha256,
        "license": opened.record.license,
        "side_px": side,
        "output": list(answers["model"].shape),
        "output_std": round(float(answers["model"].std()), 4),
        "autoencoder": opened.record.facts.get("autoencoder", {}).get("id", ""),
        "load_seconds": round(loaded_s, 2),
        "forward_seconds": round(forward_s, 3),
    }


def list_models() -> list[dict[str, Any]]:
    """All models at hand: bundled ones, published ones, and those in the Hub client's cache. Nothing is loaded."""
    rows = [
        {"id": path.stem, "origin": "bundled", "use": "model", "here": True, **_peek(path)}
        for path in sorted(BUNDLED.glob("*.safetensors"))
        if path.stem != SEGMENTER
    ]
    cached = {files.id: files for files in cached_repositories()}
    for model in KNOWN:
        here = _weights(cached[model.id]) if model.id in cached else None
        size = here.stat().st_size if here else 0
        row = {"here": here is not None, "does": model.does, "license": model.license, "bytes": size}
        rows.append({"id": model.id, "origin": "published", "use": "model"} | row)
    for files in cached.values():
        if any(row["id"] == files.id for row in rows):
            continue
        weights = _weights(files)
        does = _peek(weights) if weights and weights.suffix == ".safetensors" else {}
        if does.get("architecture"):
            rows.append({"id": files.id, "origin": "cache", "use": "model", "here": True, **does})
        elif (names := select_autoencoder(files.names)) and _is_autoencoder(files, names):
            row = {"does": "autoencoder", "license": "", "bytes": (files.folder / names[1]).stat().st_size}
            rows.append({"id": files.id, "origin": "cache", "use": "vae", "here": True} | row)
    return rows


def _weights(files: Files) -> Any:
    try:
        names = select_model(files.names)
    except ModelError:  # several: no model of ours
        return None
    return files.folder / names[0] if names else None


def _peek(path: Any) -> dict[str, Any]:
    """What the head of a safetensors file says of a model; no architecture when it is none of ours."""
    try:
        header = read_header(path)
        metadata = header.get("__metadata__", {})
        config = json.loads(metadata.get("config", "{}"))
    except (OSError, ValueError, AttributeError):
        return {}
    architecture = metadata.get("architecture", "")
    if not architecture and any(name.endswith("y_embedder.convs.0.weight") for name in header):
        architecture = "RSDiT"
    on = {"pixel": " on pixels", "vae": " on latents"}.get(config.get("codec"), "")
    classes = ", ".join(config.get("classes", ()))
    return {
        "does": f"{architecture}{on}{': ' if classes else ''}{classes}",
        "license": config.get("license", ""),
        "bytes": path.stat().st_size,
        "architecture": architecture,
    }


def _is_autoencoder(files: Files, names: list[str]) -> bool:
    try:
        config = read_json(files.folder / names[0])
        return bool(config["_class_name"] == "AutoencoderKL")
    except (OSError, ValueError, LookupError, TypeError):
        return False
