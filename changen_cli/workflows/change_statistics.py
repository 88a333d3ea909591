"""What changes, how much, how large and how close together: of datasets made, and of real ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from changen_cli.core.types import BoolArray
from changen_cli.exports.reading import Row

_FEWEST_OBJECTS = 5
_KEPT = 100_000
"""Object sizes kept; quantiles of the first so many."""


class ChangeStatistics:
    """Running figures of change masks; feed it with :meth:`add`.

    An object is a connected region of changed pixels, so that sets with and without events compare.
    """

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._sizes: list[int] = []
        self._counts: list[int] = []
        self._spacing: list[float] = []

    def add(self, change: BoolArray, known: BoolArray) -> None:
        """Note one pair.

        Args:
            change: bool ``[H, W]``, what changed.
            known: bool ``[H, W]``, where that is known.
        """
        self._shares.append(float(change.sum() / max(1, known.sum())))
        labels, count = ndimage.label(change)
        self._counts.append(count)
        if not count:
            return
        sizes = np.bincount(labels.ravel())[1:]
        self._sizes += sizes[: max(0, _KEPT - len(self._sizes))].tolist()
        middles = np.array(ndimage.center_of_mass(change, labels, np.arange(1, count + 1)))
        spacing = clark_evans(middles, change.shape)
        if not math.isnan(spacing):
            self._spacing.append(spacing)

    def figures(self) -> dict[str, float]:
        """Figures by name; NaN where there was nothing to tell.

        ``changed_share`` mean over pairs, ``objects_per_pair`` mean, ``object_px_10``, ``_50`` and ``_90`` quantiles,
        ``clark_evans`` mean over pairs of five objects and more.
        """
        sizes = np.quantile(self._sizes, (0.1, 0.5, 0.9)) if self._sizes else np.full(3, math.nan)
        return {
            "changed_share": _mean(self._shares),
            "objects_per_pair": _mean(self._counts),
            **{f"object_px_{quantile}": float(size) for quantile, size in zip((10, 50, 90), sizes, strict=True)},
            "clark_evans": _mean(self._spacing),
        }


def clark_evans(points: npt.NDArray[np.floating], shape: Sequence[int]) -> float:
    """Mean distance to the nearest neighbour over that of points strewn at random (Clark and Evans, Ecology 1954).

    Corrected for the edges of the field (Donnelly 1978). Below 1 points come in clusters, above they keep apart.

    Args:
        points: ``[N, 2]``, in px.
        shape: Height and width of the field in px.

    Returns:
        > 0; NaN for fewer than five points.
    """
    count, (height, width) = len(points), shape
    if count < _FEWEST_OBJECTS:
        return math.nan
    nearest = spatial.cKDTree(points).query(points, k=2)[0][:, 1].mean()
    area, rim = height * width, 2 * (height + width)
    expected = 0.5 * math.sqrt(area / count) + (0.0514 + 0.041 / math.sqrt(count)) * rim / count
    return float(nearest / expected)


class Asked:
    """Running figures of rows and event logs: what a recipe asked for, and what came of it."""

    def __init__(self) -> None:
        self.samples = 0
        self._asked: list[float] = []
        self._made: list[float] = []
        self._met = self._steps = self._events = 0
        self._areas: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, row: Row, events: Iterable[Row]) -> None:
        """Note one sample."""
        self.samples += 1
        for event in events:
            pair = (str(event["from_name"]), str(event["to_name"]))
            self._events += 1
            self._counts[pair] += 1
            self._areas[pair] += int(event["area_px"])
        if row.get("negative"):
            return
        self._steps += len(row["changed_fraction"])
        self._asked += map(float, row.get("asked") or ())
        self._made += map(float, row["changed_fraction"])
        self._met += sum(map(bool, row.get("met") or ()))

    def figures(self) -> dict[str, float]:
        """``asked_share`` and ``made_share``, means over steps; ``met_share`` of the steps; ``events_per_step``."""
        steps = max(1, self._steps)
        return {
            "asked_share": _mean(self._asked),
            "made_share": _mean(self._made),
            "met_share": self._met / steps if self._asked else math.nan,
            "events_per_step": self._events / steps,
        }

    def transitions(self, recorded: Sequence[Row], names: Sequence[str]) -> list[Row]:
        """The transition matrix, one row per pair of classes that occurs: events, area, and the area asked for.

        Args:
            recorded: ``transitions_px`` of the manifest's statistics; empty where none were asked for.
            names: Class names in id order.
        """
        asked = {(names[row["from_class"]], names[row["to_class"]]): int(row["asked"]) for row in recorded}
        total = max(1, sum(self._areas.values()))
        return [
            {
                "from": pair[0],
                "to": pair[1],
                "events": self._counts[pair],
                "px": self._areas[pair],
                "share": round(self._areas[pair] / total, 4),
            }
            | ({"asked_px": asked.get(pair, 0)} if asked else {})
            for pair in sorted({*self._areas, *asked}, key=lambda pair: (-self._areas[pair], pair))
        ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
