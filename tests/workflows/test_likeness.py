"""Distances by networks of the user's."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.workflows.evaluate import evaluate
from changen_cli.workflows.published_metrics import Networks, PublishedMetrics

WINDOWS = 32


def write_network(path: Path) -> Path:
    import torch

    class Means(torch.nn.Module):
        def forward(self, images: torch.Tensor, return_features: bool = True) -> torch.Tensor:
            pooled = torch.nn.functional.avg_pool2d(images.float(), 149).flatten(1) / 50
            return pooled if return_features else pooled[:, :1]

    torch.jit.script(Means()).save(str(path))
    return path


def test_fid_and_kid_by_a_network_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 200, (3, WINDOWS, 64, 64, 3), dtype=np.uint8)
    found = []
    for drawn in (windows[0], windows[1] + np.uint8(50), windows[1] + np.uint8(50)):
        distances = PublishedMetrics(Networks(fid=write_network(tmp_path / "net.pt")))
        distances.add(drawn, windows[2])
        found.append(distances.figures())
    assert found[1]["fid_changed"] > 5 > 0.5 > found[0]["fid_changed"]
    assert found[1]["kid_changed"] > found[0]["kid_changed"] and found[1] == found[2]


def test_cmmd_and_lpips(tmp_path: Path) -> None:
    import torch

    class Apart(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    torch.jit.script(Apart()).save(str(tmp_path / "lpips.pt"))
    networks = Networks(clip=write_network(tmp_path / "clip.pt"), lpips=tmp_path / "lpips.pt")
    rng = np.random.default_rng(0)
    first, later, bright = rng.integers(0, 200, (3, WINDOWS, 64, 64, 3), dtype=np.uint8)
    bright[..., 0] = 255
    found = []
    for drawn in (later, bright):
        metrics = PublishedMetrics(networks)
        for half in (slice(0, 20), slice(20, None)):
            metrics.add(drawn[half], first[half])
            metrics.add_dates("changed", first[half], drawn[half])
            metrics.add_dates("unchanged", first[half], first[half])
        found.append(metrics.figures())
    a, b = (pool(images) for images in (bright, first))
    kernel = [np.exp(-((x[:, None] - y[None]) ** 2).sum(-1) / 200) for x, y in ((a, a), (b, b), (a, b))]
    within = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    assert found[1]["cmmd_changed"] == pytest.approx(1e3 * (sum(within) - 2 * kernel[2].mean()), rel=1e-3)
    assert abs(found[0]["cmmd_changed"]) < 0.1 * found[1]["cmmd_changed"]
    assert found[0]["lpips_changed"] == pytest.approx(np.abs(first / 127.5 - later / 127.5).mean(), rel=1e-4)
    assert found[0]["lpips_unchanged"] == 0 and set(found[0]) == {"cmmd_changed", "lpips_changed", "lpips_unchanged"}


def pool(images: np.ndarray) -> np.ndarray:
    """What the network of means gives, at 336 px, as unit vectors."""
    import torch

    stack = torch.from_numpy(images.transpose(0, 3, 1, 2)).float()
    large = torch.nn.functional.interpolate(stack, (336, 336), mode="bilinear").round()
    found = torch.nn.functional.avg_pool2d(large, 149).flatten(1).numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_network_of_other_images_is_told(tmp_path: Path) -> None:
    metrics = PublishedMetrics(Networks(lpips=write_network(tmp_path / "net.pt")))
    with pytest.raises(ModelError, match=r"net.pt fails on images \[2, 3, 64, 64\].*"):
        metrics.add_dates("changed", *np.zeros((2, 2, 64, 64, 3), dtype=np.uint8))


def test_what_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt").write_bytes(b"no network")
    with pytest.raises(UsageError, match="--no-likeness"):
        evaluate(tmp_path, likeness=False, networks=Networks(fid=tmp_path / "net.pt"))
    if pytest.importorskip("torchmetrics"):
        with pytest.raises(ModelError, match=r"net.pt is no TorchScript network"):
            PublishedMetrics(Networks(fid=tmp_path / "net.pt"))
    real = builtins.__import__

    def without(name: str, *arguments: object, **more: object) -> object:
        if name.startswith("torchmetrics"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r'pip install "changen\[metrics\]"'):
        PublishedMetrics(Networks(fid=tmp_path / "net.pt"))
