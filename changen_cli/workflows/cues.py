"""Cues of a pair of dates by which a detector could tell what changed, or which date is which, without seeing change.

Figures are of patches about a few hundred drawn pixels of the pair, so that cost does not grow with the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, UInt8Array

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

CHANGE_CUES = ("difference", "difference_smoothed", "contrast", "sharpness", "noise", "jpeg_grid")
"""What may tell changed pixels from others."""
DATE_CUES = CHANGE_CUES[2:]
"""What may tell the later date from the earlier one."""
POINTS = 128
"""Pixels of a pair that are looked at: changed ones, unchanged ones, and those far from any change."""
FEWEST = 32
_HALF = 20
_PATCH = 2 * _HALF
_GRID = 8
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_SMOOTHED_PX = 5
_LOCAL_PX = 7
"""Half sides of the windows that local figures are taken over: 11 and 15 px."""


@dataclass(frozen=True, eq=False)
class PairCues:
    """What was seen of one pair.

    Attributes:
        place: What it shows; probes are tested on other places than they were fitted to.
        changed: Cue → ``[N, D]``, N changed pixels; empty where too few changed, or all did.
        unchanged: Cue → ``[M, D]``.
        date: ``[4]``, log of the later over the earlier date for :data:`DATE_CUES`, 20 px and more from any change;
            None where nothing is.
        identical: Share of the unchanged pixels that are the same in all channels; NaN where all changed.
    """

    place: str
    changed: dict[str, Array]
    unchanged: dict[str, Array]
    date: Array | None
    identical: float


def observe(
    before: UInt8Array,
    after: UInt8Array,
    change: BoolArray,
    known: BoolArray,
    place: str,
    rng: np.random.Generator,
) -> PairCues:
    """Measure the cues of one pair.

    Args:
        before: uint8 ``[H, W, 3]``, the earlier date.
        after: uint8 ``[H, W, 3]``.
        change: bool ``[H, W]``, what changed.
        known: bool ``[H, W]``; other pixels are not looked at.
        place: Name of what it shows.
        rng: Source of all randomness: which pixels are looked at.
    """
    still = known & ~change
    same = (before == after).all(axis=-1)
    areas = (change & known, still, still & ~ndimage.maximum_filter(change, _PATCH + 1))
    changed_at, still_at, far_at = (_draw(area, POINTS, rng) for area in areas)
    count, enough = len(changed_at), min(len(changed_at), len(still_at)) >= FEWEST
    if not len(still_at) + count:
        return PairCues(place, {}, {}, None, float("nan"))
    points = np.concatenate([changed_at, still_at, far_at])
    earlier, later = _Patches(before, points), _Patches(after, points)
    figures = _local_figures(earlier, later)
    last = count + len(still_at)
    return PairCues(
        place,
        {cue: values[:count] for cue, values in figures.items()} if enough else {},
        {cue: values[count:last] for cue, values in figures.items()} if enough else {},
        _date_steps(figures, earlier, later, last) if len(far_at) >= FEWEST else None,
        float(same[still].mean()) if still.any() else float("nan"),
    )


def _draw(where: BoolArray, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows and columns ``[N, 2]`` of at most ``count`` pixels of an area, in random order."""
    flat = np.flatnonzero(where)
    chosen = rng.choice(flat, min(count, flat.size), replace=False) if flat.size else flat
    return np.stack(np.unravel_index(chosen, where.shape), axis=1).astype(np.int64)


class _Patches:
    """Patches of one date about drawn pixels, 40 px a side, mirrored at the edges of the image."""

    def __init__(self, image: UInt8Array, points: npt.NDArray[np.int64]) -> None:
        padded = np.pad(image, ((_HALF, _HALF), (_HALF, _HALF), (0, 0)), mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (_PATCH, _PATCH), axis=(0, 1))
        self.corners = points - _HALF
        self.colour = np.moveaxis(windows[points[:, 0], points[:, 1]], 1, -1).astype(np.float32)
        self.luma = self.colour @ _LUMA
        fine = ndimage.gaussian_filter(self.luma, (0, 1, 1))
        middle = ndimage.gaussian_filter(self.luma, (0, 2.5, 2.5))
        self.contrast = np.log(_window(self.luma, _LOCAL_PX).std(axis=(1, 2)) + 1)
        detail = _size(self.luma - fine) + 0.25
        self.sharpness = np.log(detail / (_size(fine - middle) + 0.25))
        self.noise = np.log(_noise(_window(self.luma, _LOCAL_PX + 1)) + 0.25)
        self.steps = [self._steps(axis) for axis in (0, 1)]

    def _steps(self, axis: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Mean step between neighbouring rows (or columns) of every patch, and where in a JPEG block each lies."""
        steps = np.abs(np.diff(self.luma, axis=1 + axis)).mean(axis=2 - axis)
        phases = (self.corners[:, axis, None] + 1 + np.arange(_PATCH - 1)) % _GRID
        return steps, phases

    def by_phase(self, axis: int, first: int = 0) -> Array:
        """Mean step of patches from the ``first`` on by place in a JPEG block, ``[8]``: one stands out at its edges."""
        steps, phases = (part[first:] for part in self.steps[axis])
        sums = np.bincount(phases.ravel(), steps.ravel(), _GRID)
        return np.asarray(sums / np.maximum(np.bincount(phases.ravel(), minlength=_GRID), 1))

    def grid(self) -> Array:
        """How much the whole date's block edges stand out in every patch, ``[N]``, log."""
        total = np.zeros(len(self.luma))
        for axis in (0, 1):
            steps, phases = self.steps[axis]
            edge = phases == self.by_phase(axis).argmax()
            on = (steps * edge).sum(axis=1) / np.maximum(edge.sum(axis=1), 1)
            off = (steps * ~edge).sum(axis=1) / np.maximum((~edge).sum(axis=1), 1)
            total += np.log((on + 0.5) / (off + 0.5))
        return total


def _window(patches: FloatArray, half: int) -> FloatArray:
    """The middle of every patch."""
    return patches[:, _HALF - half : _HALF + half + 1, _HALF - half : _HALF + half + 1]


def _size(band: FloatArray) -> FloatArray:
    return np.asarray(np.abs(_window(band, _LOCAL_PX)).mean(axis=(1, 2)))


def _noise(luma: FloatArray) -> FloatArray:
    """Noise of every patch in grey levels, of its plainest parts (operator of Immerkær, CVIU 1996)."""
    rows = luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]
    answer = np.abs(rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:])
    return np.asarray(np.percentile(answer.reshape(len(luma), -1), 20, axis=1) / 6)


def _date_steps(figures: dict[str, Array], before: _Patches, after: _Patches, first: int) -> Array:
    """Later less earlier date for :data:`DATE_CUES`, mean over the patches from the ``first`` on."""

    def edges(date: _Patches) -> float:
        means = (date.by_phase(axis, first) for axis in (0, 1))
        return float(sum(np.log((mean.max() + 0.05) / (np.median(mean) + 0.05)) for mean in means))

    local = [figures[cue][first:, 0].mean() for cue in DATE_CUES[:-1]]
    return np.array([*local, edges(after) - edges(before)])


def _local_figures(before: _Patches, after: _Patches) -> dict[str, Array]:
    """Cue → ``[N, D]``; of those of :data:`DATE_CUES` the first column is the later less the earlier date."""
    difference = after.colour - before.colour
    around = _window(difference, _SMOOTHED_PX)
    found = {
        "difference": np.log1p(np.abs(difference[:, _HALF, _HALF]).mean(axis=-1))[:, None],
        "difference_smoothed": np.log1p(
            np.stack([np.abs(around).mean(axis=(1, 2, 3)), np.abs(around.mean(axis=(1, 2))).mean(axis=-1)], axis=1)
        ),
    }
    pairs = {cue: (getattr(before, cue), getattr(after, cue)) for cue in DATE_CUES[:-1]}
    pairs["jpeg_grid"] = (before.grid(), after.grid())
    for cue, (first, second) in pairs.items():
        step = second - first
        found[cue] = np.stack([step, np.abs(step)], axis=1)
    return {cue: values.astype(np.float64) for cue, values in found.items()}
