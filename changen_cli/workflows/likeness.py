"""Do drawn changes look like real ground? Windows about changed pixels against windows of real pixels, by features.

Features are those of the bundled segmenter. Windows are compared at random pixels of
the same classes of the same pairs, so that content differs as little as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.synthesis.measures import frechet_distance, kernel_distance
from changen_cli.workflows.image_pairs import ImagePair
from changen_cli.workflows.measures import WINDOW_PX, centred_window
from changen_cli.workflows.published_metrics import PublishedMetrics

Describe = Callable[[UInt8Array], npt.NDArray[np.floating]]
"""uint8 ``[N, S, S, 3]`` to features ``[N, D]``."""

WINDOWS = 512
"""Windows of each sort that are wanted of a set."""
FEWEST = 32
_OF_A_PAIR = (8, 64)
_SORTS = ("changed", "first", "unchanged")


class Likeness:
    """Features of windows: about changed pixels of later dates, and of unchanged pixels of both; see :meth:`add`.

    Args:
        describe: Gives the features of windows.
        pairs: So many pairs are to come: of fewer, more windows are taken each.
        published: Gets the windows too.
    """

    def __init__(self, describe: Describe, pairs: int, published: PublishedMetrics | None = None) -> None:
        self._published = published
        self._describe = describe
        self._each = min(max(_OF_A_PAIR[0], WINDOWS // max(1, pairs)), _OF_A_PAIR[1])
        self._found: dict[str, list[npt.NDArray[np.floating]]] = {sort: [] for sort in _SORTS}

    def add(self, pair: ImagePair, rng: np.random.Generator) -> None:
        """Note the windows of one pair: for every changed one, two of unchanged ground of the class it shows now."""
        if min(pair.change.shape) < WINDOW_PX:
            return
        still = pair.known & ~pair.change
        windows: dict[str, list[UInt8Array]] = {sort: [] for sort in (*_SORTS, "was", "was_unchanged")}
        for place in _draw(pair.change, self._each, rng):
            like = still if pair.masks is None else still & (pair.masks[0] == pair.masks[1][place])
            others = _draw(like, 2, rng)
            if len(others) == 2:
                windows["changed"].append(centred_window(pair.after, *place))
                windows["first"].append(centred_window(pair.before, *others[0]))
                windows["unchanged"].append(centred_window(pair.after, *others[1]))
                windows["was"].append(centred_window(pair.before, *place))
                windows["was_unchanged"].append(centred_window(pair.before, *others[1]))
        if not windows["changed"]:
            return
        stacks = {sort: np.stack(found) for sort, found in windows.items()}
        for sort, found in self._found.items():
            found.append(self._describe(stacks[sort]))
        if self._published is not None:
            self._published.add(stacks["changed"], stacks["first"])
            self._published.add_dates("changed", stacks["was"], stacks["changed"])
            self._published.add_dates("unchanged", stacks["was_unchanged"], stacks["unchanged"])

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


def _draw(where: BoolArray, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Rows and columns of at most ``count`` pixels of an area."""
    flat = np.flatnonzero(where)
    chosen = rng.choice(flat, min(count, flat.size), replace=False) if flat.size else flat
    return [(int(place // where.shape[1]), int(place % where.shape[1])) for place in chosen]
