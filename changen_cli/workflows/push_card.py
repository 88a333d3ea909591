"""The small files a pushed dataset has: its card, manifest, checksums, classes and contact sheet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.exports.cards import split_card
from changen_cli.exports.master import Master
from changen_cli.workflows.describe import describe
from changen_cli.workflows.push_plan import Plan, features_of
from changen_cli.workflows.push_record import Built
from changen_cli.writers.card import render_card
from changen_cli.writers.card_front import yaml_info


def small_files(
    master: Master,
    plan: Plan,
    built: Mapping[str, Built],
    *,
    repo_id: str,
    config: str,
    licence: str | None,
    there: bytes | None,
) -> dict[str, bytes]:
    """Return path in the repository → content, the card last.

    Args:
        master: The dataset.
        plan: What it becomes.
        built: Path → what is known of its shards.
        repo_id: Where it goes.
        config: Name of its configuration.
        licence: The Hub's identifier of the licence somebody states; None: computed.
        there: The card that is in the repository, whose other configurations are kept.
    """
    folder = config_folder(config)
    classes = (master.root / "classes.json").read_bytes()
    digests = {path.removeprefix(folder): item.stored.sha256 for path, item in built.items()}
    digests["classes.json"] = hashlib.sha256(classes).hexdigest()
    sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()
    files = {"classes.json": classes, CHECKSUMS: sums, "manifest.json": _manifest(master, sums)}
    if (master.root / "preview.png").is_file():
        files["preview.png"] = (master.root / "preview.png").read_bytes()
    card = _card(master, plan, built, repo_id, config, licence, there)
    return {f"{folder}{name}": content for name, content in files.items()} | {"README.md": card.encode()}


def config_folder(config: str) -> str:
    """Folder of a configuration; the default one lies at the top."""
    return "" if config == "default" else f"{config}/"


def _manifest(master: Master, sums: bytes) -> bytes:
    """The manifest, of the files as they are pushed, and without where files lie on this machine."""
    manifest = dict(master.manifest)
    if manifest.get("checksums"):
        manifest["checksums"] = hashlib.sha256(sums).hexdigest()
    manifest["recipe"] = _without_folders(manifest["recipe"])
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()


def _without_folders(value: Any) -> Any:
    """Leave of every path on this machine its last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, str) and (value.startswith((".", "~")) or Path(value).is_absolute()):
        return Path(value).expanduser().resolve().name
    return value


def _card(
    master: Master,
    plan: Plan,
    built: Mapping[str, Built],
    repo_id: str,
    config: str,
    licence: str | None,
    there: bytes | None,
) -> str:
    """The dataset's card, for the files as they are pushed."""
    import yaml

    sizes = {
        split: sum(built[shard.path].raw for shard in plan.shards if shard.split == split) for split in plan.splits
    }
    info = yaml_info(
        features_of(master),
        [(split, sizes[split], rows) for split, rows in plan.splits.items()],
        sum(item.stored.size for item in built.values()),
    )
    folder = config_folder(config)
    facts = describe(
        master.root, licence=licence, repo_id=repo_id, layout="parquet", splits=plan.splits, config_name=config,
        data_dir=f"{folder}data", info=info,
    )  # fmt: skip
    if facts.get("preview"):
        facts["preview"] = f"{folder}{facts['preview']}"
    front, body = split_card(render_card(facts))
    # With the number of shards, those of another push are never among them.
    files = [{"split": split, "path": _pattern(plan, split, folder)} for split in plan.splits]
    front["configs"] = _beside(there, "configs", {"config_name": config, "data_files": files})
    infos = _beside(there, "dataset_info", {"config_name": config} | front["dataset_info"])
    front["dataset_info"] = infos if len(infos) > 1 or config != "default" else front["dataset_info"]
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1_000)
    return f"---\n{text}---\n{body}"


def _pattern(plan: Plan, split: str, folder: str) -> str:
    count = sum(shard.split == split for shard in plan.shards)
    return f"{folder}data/{split}-*-of-{count:05d}.parquet"


def _beside(there: bytes | None, key: str, mine: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of the repository's card that this push does not touch, and this push's own, in a fixed order."""
    try:
        found = split_card((there or b"").decode())[0].get(key) or []
        rows = [{"config_name": "default"} | row for row in (found if isinstance(found, list) else [found])]
    except (ValueError, TypeError):
        rows = []
    rows = [row for row in rows if row["config_name"] != mine["config_name"]]
    return sorted([*rows, mine], key=lambda row: (row["config_name"] != "default", str(row["config_name"])))
