from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def tree(folder: Path, *, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below a folder and the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leave_out
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metadata of a dataset."""
    return [json.loads(line) for line in (folder / "train" / "metadata.jsonl").read_text().splitlines()]


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def load(folder: Path, name: str) -> np.ndarray:
    """One image of a dataset's train split."""
    return np.asarray(Image.open(folder / "train" / name))
