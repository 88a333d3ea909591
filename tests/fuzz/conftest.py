"""Small well-formed inputs to spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_pairs

from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.generate import generate


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samples of two dates, 64 px."""
    root = tmp_path_factory.mktemp("fuzz")
    values = {
        "source": {"input": str(write_pairs(root / "in", 2, 64)), "classes": ("background", "building", "road")},
        "synthesis": {"strength": 0},
        "output": {"path": str(root / "out")},
        "run": {"device": "cpu", "threads": 1},
    }
    generate(build_recipe(values))
    return root / "out"


@pytest.fixture(scope="session")
def spoil(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], Path]:
    """Return ``spoil(name, data)``: a copy of the dataset in which one file holds other bytes.

    There is one copy, whose file of the last call is put right before the next is spoilt.
    """
    copy = shutil.copytree(dataset, tmp_path_factory.mktemp("spoilt") / "out")
    last: list[str] = []

    def make(name: str, data: bytes) -> Path:
        for other in last:
            shutil.copyfile(dataset / other, copy / other)
        last[:] = [name]
        (copy / name).write_bytes(data)
        return copy

    return make
