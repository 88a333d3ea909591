"""Figures that compare drawn images with real ones: pure functions on arrays, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage, stats

from changen_cli.core.types import BoolArray, UInt8Array

Array = npt.NDArray[np.float64]

TEXTURE_PX = 24
"""Side of a texture patch in px; three halvings must divide it."""
RIM_PX = 3.0
"""A rim is looked at this far to either side."""
FAR_PX = 9.0
"""Up to this far outside a rim lies the ground its figures are relative to."""
RIM_STATISTICS = (
    "across", "along", "directed", "luma_step", "chroma_step", "mean_step",
    "fine_luma", "fine_chroma", "middle_luma", "spread", "chroma_noise",
)  # fmt: skip
"""Names of the figures :func:`rim_statistics` returns."""
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_FEWEST_PX = 24
_CLIP_WIDTH = 10.0


def frechet_distance(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Fréchet distance of two sets of features, taken as Gaussians (Heusel et al., NeurIPS 2017).

    ``|μa − μb|² + tr(Σa + Σb − 2 (Σa^½ Σb Σa^½)^½)``. It is biased upwards for few vectors: compare only figures of
    sets of the same sizes.

    Args:
        a: ``[N, D]``, N ≥ 2.
        b: ``[M, D]``, M ≥ 2.

    Returns:
        ≥ 0, in squared units of the features.

    Raises:
        ValueError: For fewer than two vectors, or different widths.
    """
    a, b = _checked(a, b)
    root = _matrix_root(np.atleast_2d(np.cov(a.T)))
    cross = _matrix_root(root @ np.atleast_2d(np.cov(b.T)) @ root)
    spread = a.var(axis=0, ddof=1).sum() + b.var(axis=0, ddof=1).sum() - 2 * np.trace(cross)
    return max(0.0, float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + spread))


def kernel_distance(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """Kernel distance of two sets of features: the unbiased squared MMD under ``(x·y/D + 1)³``.

    Bińkowski et al., ICLR 2018. Its expectation does not depend on the sizes of the sets and is 0 for equal
    distributions, so single figures may be slightly negative.

    Args:
        a: ``[N, D]``, N ≥ 2.
        b: ``[M, D]``, M ≥ 2.

    Raises:
        ValueError: For fewer than two vectors, or different widths.
    """
    a, b = _checked(a, b)
    width = a.shape[1]

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / width + 1) ** 3)

    return _discrepancy(a, b, kernel)


def clip_discrepancy(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> float:
    """CMMD (Jayasumana et al., CVPR 2024): 1000 times the squared MMD of unit vectors under a Gaussian of width 10.

    The unbiased estimate, so that figures of sets of different sizes compare; single ones may be slightly negative.

    Args:
        a: Embeddings ``[N, D]``, N ≥ 2; scaled to unit length here.
        b: ``[M, D]``, M ≥ 2.

    Raises:
        ValueError: For fewer than two vectors, or different widths.
    """

    def unit(x: Array) -> Array:
        return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray(np.exp((x @ y.T - 1) / _CLIP_WIDTH**2))  # |x - y|² = 2 - 2 x·y

    a, b = _checked(a, b)
    return 1e3 * _discrepancy(unit(a), unit(b), kernel)


def _discrepancy(a: Array, b: Array, kernel: Callable[[Array, Array], Array]) -> float:
    """Unbiased squared maximum mean discrepancy."""

    def within(x: Array) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return within(a) + within(b) - 2 * float(kernel(a, b).mean())


def _checked(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> tuple[Array, Array]:
    if min(len(a), len(b)) < 2 or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"two sets of at least two vectors of one width, not {a.shape} and {b.shape}")
    return a.astype(np.float64), b.astype(np.float64)


def _matrix_root(matrix: Array) -> Array:
    """Square root of a symmetric matrix without negative eigenvalues; rounding may have given it some."""
    values, vectors = linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def texture_features(patch: UInt8Array) -> Array:
    """Log energies of a Haar decomposition at three scales in luma and chroma, and mean colours.

    Args:
        patch: uint8 ``[24, 24, 3]``.

    Returns:
        float64 ``[30]``: per scale, finest first, the diagonal, horizontal and vertical energies of the three
        bands, then the colours. Number 6 is the finest luma energy, 7 the finest chroma energy.
    """
    plane = patch.astype(np.float64) @ _TO_YCC.T
    out = []
    for _ in range(3):
        a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
        for band in (a - b + c - d, a + b - c - d, a - b - c + d):
            out.append(np.log(np.abs(band).mean(axis=(0, 1)) / 2 + 0.1))
        plane = (a + b + c + d) / 4
    return np.concatenate([*out, patch.mean(axis=(0, 1)) / 64])


def texture_patches(image: UInt8Array, area: BoolArray) -> list[Array]:
    """Texture features of the patches of an image that lie in ``area`` for the most part.

    Args:
        image: uint8 ``[H, W, 3]``.
        area: bool ``[H, W]``.

    Returns:
        One vector of :func:`texture_features` per patch of a grid of half a patch.
    """
    size, found = TEXTURE_PX, []
    for row in range(0, image.shape[0] - size + 1, size // 2):
        for col in range(0, image.shape[1] - size + 1, size // 2):
            if area[row : row + size, col : col + size].mean() > 0.85:
                found.append(texture_features(image[row : row + size, col : col + size]))
    return found


def grain(drawn: npt.NDArray[np.floating], real: npt.NDArray[np.floating]) -> float:
    """Finest chroma energy of texture features ``[N, 30]`` over that of real ones; 1 is right, more is noise."""
    return float(np.exp(drawn[:, 7].mean() - real[:, 7].mean()))


def sharpness(drawn: npt.NDArray[np.floating], real: npt.NDArray[np.floating]) -> float:
    """Finest luma energy of texture features ``[N, 30]`` over that of real ones; 1 is right, below is blurred."""
    return float(np.exp(drawn[:, 6].mean() - real[:, 6].mean()))


def redrawn_area(before: UInt8Array, after: UInt8Array) -> BoolArray:
    """Where an image was drawn anew, bool ``[H, W]``; pixels inside that happen to be equal count too.

    Only for images whose unchanged pixels are kept as they are.
    """
    different = (before != after).any(axis=-1)
    closed = ndimage.binary_closing(np.pad(different, 3), iterations=2)[3:-3, 3:-3]
    return np.asarray(ndimage.binary_fill_holes(closed | different))


def seam_ratio(before: UInt8Array, after: UInt8Array, changed: BoolArray) -> float:
    """Gradient along the rim of what was redrawn, after over before; 1 where no border shows.

    Args:
        before: uint8 ``[H, W, 3]``.
        after: uint8 ``[H, W, 3]``.
        changed: bool ``[H, W]``, pixels whose class changed: edges within them are wanted.

    Returns:
        A ratio; NaN when nothing was redrawn.
    """
    area = ndimage.binary_dilation(changed, iterations=8) & (before != after).any(axis=-1)
    rim = ndimage.binary_dilation(area) & ~ndimage.binary_erosion(area, iterations=2) & ~changed
    if not rim.any():
        return float("nan")

    def steepness(image: UInt8Array) -> float:
        luma = image @ _TO_YCC[0]
        return float(np.hypot(ndimage.sobel(luma, 0), ndimage.sobel(luma, 1))[rim].mean())

    return steepness(after) / max(steepness(before), 1e-6)


def rim_statistics(image: UInt8Array, area: BoolArray, usable: BoolArray) -> Array | None:
    """Describe the rim of an area: does the image look alike on both sides, or is there a seam?

    All figures are logarithms of ratios or of steps in grey levels, so that a linear probe can weigh them.

    Args:
        image: uint8 ``[h, w, 3]``.
        area: bool ``[h, w]``; its outline is the rim.
        usable: bool ``[h, w]``, pixels that may be looked at; others have no influence.

    Returns:
        float64 ``[11]``, named in :data:`RIM_STATISTICS`: gradient across and along the rim against the ground
        farther out, the one against the other, local steps in luma and chroma over the rim, the step of the means,
        fine luma, fine chroma, middle luma energy and spread inside against outside, and fine chroma energy inside
        against farther out. None where too little of the rim is usable.
    """
    depth, height = ndimage.distance_transform_edt(area), ndimage.distance_transform_edt(~area)
    signed = np.where(area, depth - 0.5, 0.5 - height)
    inner, outer = usable & area & (signed < RIM_PX), usable & ~area & (signed > -RIM_PX)
    far = usable & ~area & (signed <= -RIM_PX) & (signed > -FAR_PX)
    edge = (inner | outer) & (np.abs(signed) < 2)
    if min(part.sum() for part in (inner, outer, far, edge)) < _FEWEST_PX:
        return None
    # What may not be looked at must not reach in through the filters either: the nearest pixel stands in for it.
    nearest = ndimage.distance_transform_edt(~usable, return_distances=False, return_indices=True)
    planes = (image.astype(np.float64) @ _TO_YCC.T)[tuple(nearest)]
    luma, chroma = planes[..., 0], planes[..., 1:]
    across, along = _directed_gradients(luma, signed)
    fine = np.abs(planes - ndimage.gaussian_filter(planes, (1, 1, 0)))
    middle = np.abs(ndimage.gaussian_filter(luma, 1) - ndimage.gaussian_filter(luma, 2.5))
    fine_chroma = fine[..., 1:].mean(axis=-1)

    def ratio(plane: Array, one: BoolArray, other: BoolArray, floor: float) -> float:
        return float(np.log((plane[one].mean() + floor) / (plane[other].mean() + floor)))

    # A tenth or half of a grey level: in plain areas rounding, not the image, decides what is below.
    return np.array(
        [
            ratio(across, edge, far, 0.5),
            ratio(along, edge, far, 0.5),
            float(np.log((across[edge].mean() + 0.5) / (along[edge].mean() + 0.5))),
            float(np.log(np.abs(_steps(luma, inner, outer)[edge]).mean() + 1)),
            float(np.log(np.hypot(*(_steps(chroma[..., i], inner, outer) for i in range(2)))[edge].mean() + 0.5)),
            float(np.log(abs(luma[inner].mean() - luma[outer].mean()) + 1)),
            ratio(fine[..., 0], inner, outer, 0.5),
            ratio(fine_chroma, inner, outer, 0.1),
            ratio(middle, inner, outer, 0.5),
            float(np.log((luma[inner].std() + 1) / (luma[outer].std() + 1))),
            ratio(fine_chroma, inner, far, 0.1),
        ]
    )


def _directed_gradients(luma: Array, signed: Array) -> tuple[Array, Array]:
    """Size of the luma gradient across and along the level lines of a signed distance."""
    normal = np.stack(np.gradient(ndimage.gaussian_filter(signed, 1)))
    normal /= np.maximum(np.hypot(*normal), 1e-6)
    rows, cols = np.gradient(luma)
    return np.abs(rows * normal[0] + cols * normal[1]), np.abs(rows * normal[1] - cols * normal[0])


def _steps(plane: Array, inner: BoolArray, outer: BoolArray) -> Array:
    """Local mean over the pixels of one side less that over the other's; 0 where a side has none nearby."""

    def mean(side: BoolArray) -> tuple[Array, Array]:
        weight = ndimage.gaussian_filter(side.astype(np.float64), 2)
        return ndimage.gaussian_filter(plane * side, 2) / np.maximum(weight, 1e-6), weight

    (one, weight_one), (other, weight_other) = mean(inner), mean(outer)
    return np.where(np.minimum(weight_one, weight_other) > 0.02, one - other, 0.0)


def auc(positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative; ties count half."""
    ranks = stats.rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def probe_auc(
    drawn: npt.NDArray[np.floating],
    real: npt.NDArray[np.floating],
    places: Sequence[str],
    *,
    folds: int = 5,
    penalty: float = 1.0,
) -> float:
    """How well a logistic probe tells drawn from real on places it was not fitted to.

    Scores are compared within a fold only; scores of different probes have no common scale.

    Args:
        drawn: ``[N, D]``.
        real: ``[N, D]``, the counterparts.
        places: N names; a place is never in both the fitted and the tested part.
        folds: Most parts the places are dealt to.
        penalty: Weight of the squared coefficients (of standardised figures) in the loss.

    Returns:
        Area under the ROC curve; 0.5: no better than guessing. NaN with fewer than two places.
    """
    tests = deal(places, folds)
    if len(tests) < 2:
        return float("nan")
    values, weights = [], []
    for test in tests:
        score = LogisticProbe(drawn[~test], real[~test], penalty)
        values.append(auc(score(drawn[test]), score(real[test])))
        weights.append(int(test.sum()) ** 2)
    return float(np.average(values, weights=weights))


def deal(places: Sequence[str], folds: int) -> list[BoolArray]:
    """Deal places to at most ``folds`` parts of about equal size; bool ``[N]`` per part: which items are in it."""
    names = np.asarray(places)
    sizes = sorted(((int((names == name).sum()), str(name)) for name in set(places)), reverse=True)
    parts: list[list[str]] = [[] for _ in range(min(folds, len(sizes)))]
    counts = [0] * len(parts)
    for size, name in sizes:  # largest first, always to the emptiest part
        emptiest = counts.index(min(counts))
        parts[emptiest].append(name)
        counts[emptiest] += size
    return [np.asarray(np.isin(names, part)) for part in parts]


class LogisticProbe:
    """Logistic regression with an L2 penalty, fitted by Newton's method (iteratively reweighted least squares).

    Args:
        positive: ``[N, D]``.
        negative: ``[M, D]``.
        penalty: Weight of the squared coefficients (of standardised figures) in the loss.
    """

    def __init__(self, positive: npt.NDArray[np.floating], negative: npt.NDArray[np.floating], penalty: float) -> None:
        x = np.concatenate([positive, negative]).astype(np.float64)
        self.mean, self.std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        x = self._design(x)
        y = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
        ridge = penalty * np.eye(x.shape[1])
        ridge[-1, -1] = 1e-9  # the constant is free
        self.weights = np.zeros(x.shape[1])
        for _ in range(50):
            p = 1 / (1 + np.exp(-np.clip(x @ self.weights, -30, 30)))
            slope = x.T @ (p - y) + ridge @ self.weights
            step = np.linalg.solve((x.T * np.maximum(p * (1 - p), 1e-6)) @ x + ridge, slope)
            self.weights -= step
            if np.abs(step).max() < 1e-8:
                break

    def _design(self, x: npt.NDArray[np.floating]) -> Array:
        return np.column_stack([(x - self.mean) / self.std, np.ones(len(x))])

    def __call__(self, x: npt.NDArray[np.floating]) -> Array:
        """Scores ``[N]``: log odds of being positive."""
        return np.asarray(self._design(x) @ self.weights)
