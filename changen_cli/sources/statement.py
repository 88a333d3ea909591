"""``changen-source.yaml`` in an input folder: what its images and labels are called, and whose they are.

    name: Banepa sample
    license: [cc-by-4.0, odbl]        # of images and labels; identifiers of the Hugging Face Hub
    attribution: Imagery (c) OpenAerialMap contributors

All keys are optional. A LICENSE file says nothing here: it holds a text, not an identifier, and often that of the code.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changen_cli.core.errors import UsageError
from changen_cli.core.licences import check_identifier
from changen_cli.core.yaml_files import read_yaml

FILE_NAME = "changen-source.yaml"
_FIX = "Give name, license and attribution as texts; license may be a list"


@dataclass(frozen=True)
class Statement:
    """What somebody says about an input folder.

    Attributes:
        name: What the set is called; the folder's name if nobody says.
        license: Hub identifiers of the licences of images and labels; empty if nobody says.
        attribution: Whom to credit; empty if nobody says.
    """

    name: str
    license: tuple[str, ...] = ()
    attribution: str = ""


def read_statement(root: Path) -> Statement:
    """Return what the file in ``root`` says; without one, only the folder's name.

    Raises:
        UsageError: The file is no such statement, or names a licence the Hub does not know.
    """
    path = root / FILE_NAME
    name = root.resolve().name
    if not path.is_file():
        return Statement(name)
    told = read_yaml(path)
    if not isinstance(told, dict) or set(told) - {"name", "license", "attribution"}:
        raise UsageError(f"{path} is no statement about a source", _FIX)
    licences = told.get("license") or []
    licences = licences if isinstance(licences, list) else [licences]
    return Statement(
        _text(told.get("name"), path) or name,
        tuple(check_identifier(_text(licence, path), str(path)) for licence in licences),
        _text(told.get("attribution"), path),
    )


def _text(value: Any, path: Path) -> str:
    if value is None or isinstance(value, str):
        return " ".join((value or "").split())
    raise UsageError(f"{path}: {reprlib.repr(value)} is no text", _FIX)
