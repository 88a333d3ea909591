"""Distances by a network of the user's, computed by torchmetrics."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.workflows.evaluate import evaluate
from changen_cli.workflows.likeness import FEWEST, PublishedDistances


def write_network(path: Path) -> Path:
    import torch

    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            pooled = torch.nn.functional.avg_pool2d(images.float(), 149).flatten(1) / 50
            return pooled if return_features else pooled[:, :1]

    torch.jit.script(Means()).save(str(path))
    return path


def test_fid_and_kid_by_a_network_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 200, (3, FEWEST, 64, 64, 3), dtype=np.uint8)
    found = []
    for drawn in (windows[0], windows[1] + np.uint8(50), windows[1] + np.uint8(50)):
        distances = PublishedDistances(write_network(tmp_path / "net.pt"))
        distances.add(drawn, windows[2])
        found.append(distances.figures())
    assert found[1]["fid_changed"] > 5 > 0.5 > found[0]["fid_changed"]
    assert found[1]["kid_changed"] > found[0]["kid_changed"] and found[1] == found[2]


def test_what_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt").write_bytes(b"no network")
    with pytest.raises(UsageError, match="--no-likeness"):
        evaluate(tmp_path, likeness=False, fid_weights=tmp_path / "net.pt")
    if pytest.importorskip("torchmetrics"):
        with pytest.raises(ModelError, match=r"net.pt is no TorchScript network"):
            PublishedDistances(tmp_path / "net.pt")
    real = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name.startswith("torchmetrics"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r'pip install "changen\[metrics\]"'):
        PublishedDistances(tmp_path / "net.pt")
