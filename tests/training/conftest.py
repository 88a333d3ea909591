from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture

from changen_cli.training.tiles import TrainingTile


@pytest.fixture(scope="session")
def tiles() -> list[TrainingTile]:
    """Three places of one tile each, with buildings."""
    made = []
    for seed in range(3):
        image, numbers = picture(seed, 64)
        made.append(TrainingTile(image, np.where(numbers > 0, 8, 0).astype(np.uint8), f"place {seed}"))
    return made


def log(folder: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "images_per_s"} for row in rows]


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
