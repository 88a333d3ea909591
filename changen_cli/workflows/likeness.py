"""Do drawn changes look like real ground? Windows about changed pixels against windows of real pixels, by features.

Features are those of the bundled segmenter. Windows are compared at random pixels of
the same classes of the same pairs, so that content differs as little as it can.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import ModelError
from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.exports.findings import one_line
from changen_cli.synthesis.measures import frechet_distance, kernel_distance
from changen_cli.workflows.image_pairs import ImagePair
from changen_cli.workflows.measures import WINDOW_PX, centred_window

Describe = Callable[[UInt8Array], npt.NDArray[np.floating]]
"""uint8 ``[N, S, S, 3]`` to features ``[N, D]``."""

WINDOWS = 512
"""Windows of each sort that are wanted of a set."""
FEWEST = 32
_OF_A_PAIR = (8, 64)
_INSTALL = 'Install it with: pip install "changen[metrics]"'
_INPUT_PX = 299
_SORTS = ("changed", "first", "unchanged")


class Likeness:
    """Features of windows: about changed pixels of later dates, and of unchanged pixels of both; see :meth:`add`.

    Args:
        describe: Gives the features of windows.
        pairs: So many pairs are to come: of fewer, more windows are taken each.
        published: Gets the windows of changed pixels and of earlier dates too.
    """

    def __init__(self, describe: Describe, pairs: int, published: PublishedDistances | None = None) -> None:
        self._published = published
        self._describe = describe
        self._each = min(max(_OF_A_PAIR[0], WINDOWS // max(1, pairs)), _OF_A_PAIR[1])
        self._found: dict[str, list[npt.NDArray[np.floating]]] = {sort: [] for sort in _SORTS}

    def add(self, pair: ImagePair, rng: np.random.Generator) -> None:
        """Note the windows of one pair: for every changed one, two of unchanged ground of the class it shows now."""
        if min(pair.change.shape) < WINDOW_PX:
            return
        still = pair.known & ~pair.change
        windows: dict[str, list[UInt8Array]] = {sort: [] for sort in _SORTS}
        for place in _draw(pair.change, self._each, rng):
            like = still if pair.masks is None else still & (pair.masks[0] == pair.masks[1][place])
            others = _draw(like, 2, rng)
            if len(others) == 2:
                windows["changed"].append(centred_window(pair.after, *place))
                windows["first"].append(centred_window(pair.before, *others[0]))
                windows["unchanged"].append(centred_window(pair.after, *others[1]))
        for sort, found in windows.items():
            if found:
                self._found[sort].append(self._describe(np.stack(found)))
        if self._published is not None and windows["changed"]:
            self._published.add(np.stack(windows["changed"]), np.stack(windows["first"]))

    def features(self, sort: str) -> npt.NDArray[np.floating]:
        """``[N, D]``: of windows ``changed``, ``unchanged`` (both of later dates), or ``first`` (earlier dates)."""
        return np.concatenate(self._found[sort]) if self._found[sort] else np.zeros((0, 1))

    def figures(self, real: Likeness | None = None) -> dict[str, Any]:
        """Distances of changed, and for comparison of unchanged, windows of later dates to those of earlier dates.

        Args:
            real: The same of real pairs. Their figures go beside, with the distances between made and real changes
                and between made and real unchanged ground: the second is what the two sets differ by anyway.
        """
        changed, first, unchanged = (self.features(sort) for sort in _SORTS)
        found: dict[str, Any] = {"windows": len(changed)}
        if len(changed) < FEWEST:
            return found
        found |= {
            "kernel_changed": kernel_distance(changed, first),
            "kernel_unchanged": kernel_distance(unchanged, first),
            "frechet_changed": frechet_distance(changed, first),
            "frechet_unchanged": frechet_distance(unchanged, first),
        }
        if self._published is not None:
            found |= self._published.figures()
        if real is not None and len(real.features("changed")) >= FEWEST:
            found |= {f"real_{name}": value for name, value in real.figures().items()}
            found["kernel_changed_to_real"] = kernel_distance(changed, real.features("changed"))
            found["kernel_unchanged_to_real"] = kernel_distance(unchanged, real.features("unchanged"))
        return {name: round(float(value), 6) if name != "windows" else value for name, value in found.items()}


def bundled_describer() -> Describe:
    """Features of the bundled segmenter, 96 per window, on the CPU."""
    from changen_cli.synthesis.hub import BUNDLED, SEGMENTER
    from changen_cli.synthesis.segmenter import load_segmenter

    return load_segmenter(BUNDLED / f"{SEGMENTER}.safetensors").describe


class PublishedDistances:
    """FID and KID of drawn to real windows as torchmetrics computes them, by a network the user has.

    Args:
        weights: TorchScript of a network from uint8 ``[N, 3, 299, 299]`` to features ``[N, D]``, or of the usual
            Inception, whose features are asked for by ``return_features``. Nothing is ever downloaded.

    Raises:
        ModelError: torchmetrics is not installed, or the file is no such network.
    """

    def __init__(self, weights: Path) -> None:
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance
            from torchmetrics.image.kid import KernelInceptionDistance
        except ImportError:
            raise ModelError("--fid-weights needs torchmetrics", _INSTALL) from None
        try:
            network = _feature_network(weights)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that all features are kept: they are few
                self._fid = FrechetInceptionDistance(feature=network)
                self._kid = KernelInceptionDistance(feature=network, subset_size=FEWEST)
        except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = f"{weights} is no TorchScript network of images: {one_line(error, weights)}"
            raise ModelError(reason, "Give --fid-weights another file") from None

    def add(self, drawn: UInt8Array, real: UInt8Array) -> None:
        """Note windows uint8 ``[N, S, S, 3]``, enlarged to 299 px."""
        import torch
        import torch.nn.functional as F

        for windows, is_real in ((drawn, False), (real, True)):
            stack = torch.from_numpy(np.ascontiguousarray(windows.transpose(0, 3, 1, 2))).float()
            large = F.interpolate(stack, (_INPUT_PX, _INPUT_PX), mode="bilinear").round().to(torch.uint8)
            for metric in (self._fid, self._kid):
                metric.update(large, real=is_real)

    def figures(self) -> dict[str, float]:
        """``fid_changed`` and ``kid_changed``, the latter over subsets drawn the same way every time."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return {"fid_changed": float(self._fid.compute()), "kid_changed": float(self._kid.compute()[0])}


def _feature_network(weights: Path) -> Any:
    """The network of a TorchScript file, as a module that gives features."""
    import torch

    script = torch.jit.load(str(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    named = "return_features" in {argument.name for argument in script.forward.schema.arguments}

    class Features(torch.nn.Module):
        """Gives features only."""

        def __init__(self) -> None:
            super().__init__()
            self.script = script

        @torch.no_grad()
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.script(images, return_features=True) if named else self.script(images)
            return found.float().flatten(1)

    return Features()


def _draw(where: BoolArray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Rows and columns of at most ``count`` pixels of an area."""
    flat = np.flatnonzero(where)
    chosen = rng.choice(flat, min(count, flat.size), replace=False) if flat.size else flat
    return [(int(place // where.shape[1]), int(place % where.shape[1])) for place in chosen]
