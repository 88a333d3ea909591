"""The small files a pushed dataset has: its card, manifest, classes and contact sheet."""

from __future__ import annotations

import re
from typing import Any

from changen_cli.core.errors import OutputError
from changen_cli.core.licences import Licence
from changen_cli.exports.master import Master
from changen_cli.workflows.push_plan import Plan

_FRONT = re.compile(r"\A---\r?\n(?P<front>.*?)\r?\n---\r?\n", re.DOTALL)
_OPTIONAL = ("preview.png",)


def small_files(
    master: Master, plan: Plan, licence: Licence, *, repo_id: str, config: str, folder: str, there: bytes | None
) -> dict[str, bytes]:
    """Return path in the repository → content, the card last.

    Args:
        master: The dataset.
        plan: What it becomes.
        licence: What it is published under.
        repo_id: Where it goes.
        config: Name of its configuration.
        folder: Folder of the configuration, ending in ``/``, or empty.
        there: The card that is in the repository, whose other configurations are kept.
    """
    names = ["manifest.json", "classes.json", *(name for name in _OPTIONAL if (master.root / name).is_file())]
    files = {f"{folder}{name}": (master.root / name).read_bytes() for name in names}
    files["README.md"] = _card(master, plan, licence, repo_id, config, there).encode()
    return files


def _card(master: Master, plan: Plan, licence: Licence, repo_id: str, config: str, there: bytes | None) -> str:
    """The dataset's own card, made to say where the pushed files are."""
    import yaml

    path = master.root / "README.md"
    try:
        front, body = split_card(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read as a dataset card: {error}", "Make the dataset again") from None
    front["license"] = licence.identifier
    folder = config_folder(config)
    files = [{"split": split, "path": _pattern(plan, split, folder)} for split in plan.splits]
    front["configs"] = [*_other_configs(there, config), {"config_name": config, "data_files": files}]
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1_000)
    return f"---\n{text}---\n{body.replace('path/or/hub-id', repo_id)}"


def config_folder(config: str) -> str:
    """Folder of a configuration; the default one lies at the top."""
    return "" if config == "default" else f"{config}/"


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """Cut a card into its YAML front matter and the rest.

    Raises:
        ValueError: The front matter is no mapping.
    """
    import yaml

    match = _FRONT.match(text)
    if match is None:
        return {}, text
    try:
        front = yaml.safe_load(match["front"]) or {}
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    if not isinstance(front, dict):
        raise ValueError("its front matter is no mapping")
    return front, text[match.end() :]


def _pattern(plan: Plan, split: str, folder: str) -> str:
    """The files of a split; with their number, so that shards of another push are never among them."""
    count = sum(shard.split == split for shard in plan.shards)
    return f"{folder}data/{split}-*-of-{count:05d}.parquet"


def _other_configs(there: bytes | None, config: str) -> list[dict[str, Any]]:
    """The configurations of the repository's card that this push does not touch."""
    try:
        front = split_card((there or b"").decode())[0]
        return [row for row in front.get("configs", []) if row["config_name"] != config]
    except (ValueError, KeyError, TypeError):
        return []
