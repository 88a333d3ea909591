"""Distances that papers print, by networks the user has: FID, KID, CMMD, LPIPS. Nothing is ever downloaded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import ModelError
from changen_cli.core.types import UInt8Array
from changen_cli.exports.findings import one_line
from changen_cli.synthesis.measures import clip_discrepancy

_INSTALL = 'Install it with: pip install "changen[metrics]"'
_INCEPTION_PX, _CLIP_PX, _LPIPS_PX = 299, 336, 64
_SUBSET = 32


@dataclass(frozen=True)
class Networks:
    """TorchScript files of networks that describe or compare images; None for those the user does not have.

    Attributes:
        fid: From uint8 ``[N, 3, 299, 299]`` to features ``[N, D]``, or the usual Inception, whose features are asked
            for by ``return_features``. For FID and KID.
        clip: From uint8 ``[N, 3, 336, 336]`` to embeddings ``[N, D]``. For CMMD.
        lpips: From two float ``[N, 3, 64, 64]`` in -1…1 to a distance of each two, ``[N, …]``. For LPIPS.
    """

    fid: Path | None = None
    clip: Path | None = None
    lpips: Path | None = None

    def options(self) -> list[str]:
        """The options that name those that are there."""
        return [f"--{name}-weights" for name in ("fid", "clip", "lpips") if getattr(self, name) is not None]


class PublishedMetrics:
    """Published distances of drawn to real windows; see docs/evaluate.md.

    Args:
        networks: What to compute them by.

    Raises:
        ModelError: torchmetrics, which FID and KID need, is not installed, or a file is no such network.
    """

    def __init__(self, networks: Networks) -> None:
        self._inception = None if networks.fid is None else _Inception(networks.fid)
        self._clip = None if networks.clip is None else _load(networks.clip, "--clip-weights")
        self._lpips = None if networks.lpips is None else _load(networks.lpips, "--lpips-weights")
        self._networks = networks
        self._embedded: tuple[list[Any], list[Any]] = ([], [])
        self._apart: dict[str, list[Any]] = {"changed": [], "unchanged": []}

    def add(self, drawn: UInt8Array, real: UInt8Array) -> None:
        """Note windows uint8 ``[N, S, S, 3]``: about changed pixels of later dates, and of earlier dates."""
        if self._inception is not None:
            self._inception.add(drawn, real)
        if self._clip is not None:
            for found, windows in zip(self._embedded, (drawn, real), strict=True):
                found.append(_flat(self._call(self._clip, "clip", _stack(windows, _CLIP_PX))))

    def add_dates(self, sort: str, before: UInt8Array, after: UInt8Array) -> None:
        """Note windows uint8 ``[N, S, S, 3]`` of two dates about the same pixels, ``changed`` or ``unchanged`` ones."""
        if self._lpips is not None:
            pair = [_stack(windows, _LPIPS_PX).float() / 127.5 - 1 for windows in (before, after)]
            self._apart[sort].append(_flat(self._call(self._lpips, "lpips", *pair)).mean(axis=1))

    def figures(self) -> dict[str, float]:
        """``fid_changed``, ``kid_changed``, ``cmmd_changed``, ``lpips_changed``, ``lpips_unchanged``."""
        found = {} if self._inception is None else self._inception.figures()
        if self._embedded[0]:
            drawn, real = (np.concatenate(parts) for parts in self._embedded)
            found["cmmd_changed"] = clip_discrepancy(drawn, real)
        for sort, parts in self._apart.items():
            if parts:
                found[f"lpips_{sort}"] = float(np.concatenate(parts).mean())
        return found

    def _call(self, network: Any, name: str, *images: Any) -> Any:
        import torch

        try:
            with torch.no_grad():
                found = network(*images).float().cpu()
            return found.reshape(len(images[0]), -1)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            path = getattr(self._networks, name)
            raise ModelError(
                f"{path} fails on images {list(images[0].shape)}: {one_line(error, path)}",
                f"docs/evaluate.md says what --{name}-weights has to take and give",
            ) from None


class _Inception:
    """FID and KID as torchmetrics computes them."""

    def __init__(self, weights: Path) -> None:
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
            from torchmetrics.image.kid import KernelInceptionDistance
        except ImportError:
            raise ModelError("--fid-weights needs torchmetrics", _INSTALL) from None
        script = _load(weights, "--fid-weights")
        try:
            network = _features_of(script)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that all features are kept: they are few
                self._fid = FrechetInceptionDistance(feature=network)
                self._kid = KernelInceptionDistance(feature=network, subset_size=_SUBSET)
        except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise _no_network(weights, "--fid-weights", error) from None

    def add(self, drawn: UInt8Array, real: UInt8Array) -> None:
        for windows, is_real in ((drawn, False), (real, True)):
            for metric in (self._fid, self._kid):
                metric.update(_stack(windows, _INCEPTION_PX), real=is_real)

    def figures(self) -> dict[str, float]:
        """KID over subsets drawn the same way every time."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return {"fid_changed": float(self._fid.compute()), "kid_changed": float(self._kid.compute()[0])}


def _load(weights: Path, option: str) -> Any:
    import torch

    try:
        return torch.jit.load(str(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_network(weights, option, error) from None


def _no_network(weights: Path, option: str, error: Exception) -> ModelError:
    reason = f"{weights} is no TorchScript network of images: {one_line(error, weights)}"
    return ModelError(reason, f"Give {option} another file")


def _features_of(script: Any) -> Any:
    """A network as a module that gives features only."""
    import torch

    named = "return_features" in {argument.name for argument in script.forward.schema.arguments}

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.script = script

        @torch.no_grad()
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.script(images, return_features=True) if named else self.script(images)
            return found.float().flatten(1)

    return Features()


def _stack(windows: UInt8Array, side_px: int) -> Any:
    """Windows uint8 ``[N, S, S, 3]`` as a tensor uint8 ``[N, 3, side, side]``."""
    import torch
    import torch.nn.functional as F

    stack = torch.from_numpy(np.ascontiguousarray(windows.transpose(0, 3, 1, 2)))
    if stack.shape[-1] == side_px:
        return stack
    return F.interpolate(stack.float(), (side_px, side_px), mode="bilinear").round().to(torch.uint8)


def _flat(found: Any) -> npt.NDArray[np.float64]:
    return np.asarray(found.numpy(), dtype=np.float64)
