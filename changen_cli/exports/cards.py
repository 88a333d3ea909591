"""Dataset cards, read: YAML front matter and text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from changen_cli.core.untrusted import read_text

_CARD_BYTES = 1 << 24
_FRONT_LETTERS = 1 << 18
"""Reading YAML takes a second for 30 kB of the worst kind."""
_FRONT = re.compile(r"\A---\r?\n(?P<front>.*?)\r?\n---\r?\n", re.DOTALL)


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """Cut a card into its YAML front matter and the rest.

    Raises:
        ValueError: The front matter is no mapping.
    """
    match = _FRONT.match(text)
    if match is None:
        return {}, text
    if len(match["front"]) > _FRONT_LETTERS:
        raise ValueError("its front matter is longer than that of any card")
    try:
        front = yaml.safe_load(match["front"]) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    if not isinstance(front, dict):
        raise ValueError("its front matter is no mapping")
    return front, text[match.end() :]


def read_front(card: Path) -> dict[str, Any]:
    """The front matter of a card; empty where there is none that can be read."""
    try:
        return split_card(read_text(card, _CARD_BYTES))[0]
    except (OSError, ValueError):
        return {}
