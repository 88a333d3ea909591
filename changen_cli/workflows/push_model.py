"""``changen push-model``: a trained model becomes a repository that ``--model org/name`` takes, with a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from changen_cli import __version__
from changen_cli.core.errors import UsageError
from changen_cli.core.licences import Licence, check_identifier, combine
from changen_cli.synthesis.hub import ModelFile, find_autoencoder, find_model
from changen_cli.workflows.models import describe_model
from changen_cli.workflows.push_target import (
    PushReport,
    SilentUpload,
    Sized,
    Target,
    UploadProgress,
    check,
    compare,
    deliver,
    look,
    prepare,
    report_of,
    see,
)
from changen_cli.writers.card import CITATION
from changen_cli.writers.hub import Remote, Repository
from changen_cli.writers.hub_client import quiet_client
from changen_cli.writers.hub_files import Addition, Stored

_LIBRARY = "library_name: changen"


def push_model(
    reference: str,
    target: Target,
    *,
    dry_run: bool = False,
    progress: UploadProgress | None = None,
    sleep: Callable[[float], object] | None = None,
) -> PushReport:
    """Push a model to the Hugging Face Hub: its weights, its configuration, its autoencoder if it has one, a card.

    What else lies in its folder (checkpoints, logs, samples) stays here.

    Args:
        reference: Folder or file of a model, or a bundled model's name.
        target: Where it goes. Its licence None: that of the weights.
        dry_run: Say what would be sent, and send nothing.
        progress: Told what happens.
        sleep: Waits that many seconds between two tries; None: the clock.

    Raises:
        ModelError: There is no such model, or it cannot be read.
        UsageError: It is on the Hub already, or the request makes no sense.
        OutputError: The Hub or the repository does not take it. Nothing is visible there then.
    """
    progress = progress or SilentUpload()
    file = find_model(reference)
    if file.origin == "hub":
        raise UsageError(f"{reference} is on the Hub already", "Name a folder or file of this machine")
    facts = describe_model(reference)
    licence = _licence(facts, target.licence)
    repo = target.repository("model", sleep)
    with quiet_client():
        remote = look(repo, progress, dry_run=dry_run)
        check(target, remote, licence, ours=remote is not None and _holds_ours(repo, remote))
        report = report_of(target, repo, remote, licence)
        large, small = _files(reference, file)
        small["README.md"] = model_card(target.repo_id, facts, licence).encode()
        stored = {path: Stored.of(source) for path, source in large.items()}
        held = repo.held(stored.values()) if remote else set()
        there: list[Sized] = [(path, item.size) for path, item in stored.items() if item in held]
        send: list[Sized] = [(path, item.size) for path, item in stored.items() if item not in held]
        same, differ = compare(small, remote)
        report = replace(report, send=(*send, *differ), held=(*there, *same))
        if dry_run:
            return report
        prepare(repo, remote, private=target.private)
        additions = _send(repo, large, stored, progress)
        done = deliver(repo, see(repo), additions, small, ())
    return replace(report, url=done.url, commit=done.oid)


def _send(
    repo: Repository, large: Mapping[str, Path], stored: Mapping[str, Stored], progress: UploadProgress
) -> list[Addition]:
    additions, total, before = [], sum(item.size for item in stored.values()), 0
    for path, source in large.items():

        def told(position: int, before: int = before) -> None:
            progress.sent(before + position, total)

        additions.append(repo.send(path, source, stored[path], told))
        before += stored[path].size
    return additions


def _files(reference: str, file: ModelFile) -> tuple[dict[str, Path], dict[str, bytes]]:
    """Path in the repository → file, for weights; and → content, for configurations."""
    root = Path(reference).expanduser()
    if not root.is_dir():
        name = "model.safetensors" if file.path.suffix == ".safetensors" else file.path.name
        large, config = {name: file.path}, file.path.with_name("config.json")
        return large, {"config.json": config.read_bytes()} if file.config and config.is_file() else {}
    large = {file.path.relative_to(root).as_posix(): file.path}
    configs = [file.path.with_name("config.json"), root / "model_index.json"]
    if file.autoencoder:
        found = find_autoencoder(file.autoencoder)
        configs.append(found.folder / found.names[0])
        large[found.names[1]] = found.folder / found.names[1]
    return large, {path.relative_to(root).as_posix(): path.read_bytes() for path in configs if path.is_file()}


def _licence(facts: Mapping[str, Any], stated: str | None) -> Licence:
    found = combine([(f"model {facts['id']}", facts["license"])])
    if stated is None:
        return found
    return Licence(check_identifier(stated, "--license"), "Stated by the publisher.", True)


def _holds_ours(repo: Repository, remote: Remote) -> bool:
    return "README.md" in remote.files and _LIBRARY in repo.read("README.md").decode(errors="replace")


def model_card(repo_id: str, facts: Mapping[str, Any], licence: Licence) -> str:
    """Render the card of a model.

    Args:
        repo_id: Where it will lie.
        facts: From :func:`~changen_cli.workflows.models.describe_model`.
        licence: What it is published under.
    """
    works_on = "pixels" if facts["codec"] == "pixel" else f"latents of {facts['autoencoder'] or 'an autoencoder'}"
    size = f"{facts['parameters'] / 1e6:.1f} M parameters, {facts['bytes'] / 1e6:.0f} MB"
    shape = (
        f"depth {facts['depth']}, width {facts['width']}, {facts['heads']} heads, windows of {facts['window']} tokens"
    )
    rows = {
        "network": f"{facts['architecture']}, {size}; {shape}",
        "works on": works_on,
        "classes": ", ".join(facts["classes"]) + (", and pixels of other classes" if facts["unknown_plane"] else ""),
        "schedule": f"{facts['beta_schedule']}, predicts {facts['prediction_type']}",
        "licence": f"{licence.identifier}. {licence.reason}",
        "SHA-256": f"`{facts['sha256']}`",
    }
    told = {name.replace("_", " "): _text(value) for name, value in facts["facts"].items() if name != "autoencoder"}
    table = "\n".join(
        f"| {name} | {' '.join(text.split()).replace('|', '/')} |" for name, text in (rows | told).items()
    )
    return f"""---
license: {licence.identifier}
{_LIBRARY}
pipeline_tag: image-to-image
tags:
- remote-sensing
- change-detection
- synthetic-data
- diffusion
---

# {repo_id.split("/")[1]}

A denoiser for `changen generate` {__version__}: it redraws the changed area of an overhead image so that it fits
its new semantic mask and its surroundings. It draws nothing by itself: which objects change is simulated on the mask.

| | |
| --- | --- |
{table}

## Use

```
pip install changen
changen models show {repo_id}
changen generate --input ./images --model {repo_id} --output ./series
```

Later dates are generated: no image shows what happened at a place. The conditions of the training data and of the model
extend to what it generates.

## Citation

```bibtex
{CITATION}
```
"""


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_text, value))
    return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) if isinstance(value, dict) else str(value)
