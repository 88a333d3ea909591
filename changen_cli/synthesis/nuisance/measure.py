"""What is measured between two real acquisitions of one place, robust to what changed there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from changen_cli.core.types import UInt8Array
from changen_cli.synthesis.nuisance.colour import VEIL, greenness, with_season
from changen_cli.synthesis.nuisance.light import find_shadows

FloatArray = npt.NDArray[np.float32]

_BLOCK_PX = 8
_KEPT = 0.7
"""Share of the blocks that is taken for unchanged: those that a common transfer of colours explains best."""
_ROUNDS = 6
_DARKEST, _BRIGHTEST = 8.0, 247.0
_FARTHEST_PX = 12
_CELLS = 4
_FEWEST = 12
_BAND = (0.12, 0.32)
SMALLEST_PX = 96


@dataclass(frozen=True)
class Difference:
    """How the second acquisition of a place differs from the first. NaN where a pair says nothing of it.

    Attributes:
        gain: Log gain common to the channels.
        balance: Log gain of each channel, less the common one.
        haze: Share of the veil.
        saturation: Log gain of the distance from grey.
        field: Standard deviation of the log gain over the tile.
        materials: How far the log gains of two thirds of the blocks stay within, beside what is common to all.
        season: State of the vegetation, less that of the first.
        shadow_depth: Log ratio of the depth of shadows.
        shadow_shift: Rows and columns between the shadows.
        shift: Rows and columns between the contents.
        warp: Root mean square displacement of the corners beyond the shift, px.
        blur: Squared sigma of the point spread, less that of the first, px².
        noise: Standard deviation of the noise of both, grey levels.
        unchanged: Correlation of the two after alignment: low where hardly anything stayed.
    """

    gain: float
    balance: tuple[float, ...]
    haze: float
    saturation: float
    field: float
    materials: float
    season: float
    shadow_depth: float
    shadow_shift: tuple[float, float]
    shift: tuple[float, float]
    warp: float
    blur: float
    noise: tuple[float, float]
    unchanged: float


def measure_pair(first: UInt8Array, second: UInt8Array) -> Difference:
    """Measure how two acquisitions of one place differ.

    Colours are compared on means of 8x8 px by a line through the 70 % that agree best (trimmed as by Rousseeuw, 1984),
    so that what changed has no say, nor does what misregistration does to edges. Shifts come from phase correlation
    (Kuglin and Hines, 1975).

    Args:
        first: uint8 ``[H, W, 3]``, at least 96 px on either side.
        second: uint8 ``[H, W, 3]``.
    """
    grey = [image.mean(axis=-1, dtype=np.float32) for image in (first, second)]
    shift = find_shift(*grey)
    aligned = ndimage.shift(second, (-shift[0], -shift[1], 0), order=1, mode="nearest")
    a, b = _blocks(first), _blocks(aligned)
    lit = ((a > _DARKEST) & (a < _BRIGHTEST) & (b > _DARKEST) & (b < _BRIGHTEST)).all(axis=1)
    a, b = a[lit], b[lit]
    if len(a) < 4 * _FEWEST:
        a, b = _blocks(first), _blocks(aligned)
    slope, intercept, kept = _transfer(a, b)
    veil = VEIL * 255
    gains = np.log(np.maximum(slope + intercept / veil, 0.05))
    predicted = np.maximum(a * slope + intercept, 1)
    answer = np.log(np.maximum(b, 1) / predicted)
    shadows = [find_shadows(np.asarray(Image.fromarray(image).reduce(2))) for image in (first, aligned)]
    return Difference(
        gain=float(gains.mean()),
        balance=tuple(float(value) for value in gains - gains.mean()),
        haze=float(np.mean(intercept / veil) / max(float(np.mean(slope + intercept / veil)), 0.05)),
        saturation=_saturation(a[kept], b[kept]),
        field=_field(first, aligned, slope, intercept),
        materials=_materials(a, answer),
        season=_season(a, b / np.maximum(predicted, 1), predicted),
        shadow_depth=_shadow_depth(first, aligned, shadows),
        shadow_shift=_shadow_shift(shadows),
        shift=shift,
        warp=_warp(grey[0], aligned.mean(axis=-1, dtype=np.float32)),
        blur=_blur(grey[0], grey[1]),
        noise=(noise_level(grey[0]), noise_level(grey[1])),
        unchanged=float(np.corrcoef(a.mean(axis=1), b.mean(axis=1))[0, 1]),
    )


def _blocks(image: UInt8Array) -> FloatArray:
    """Means of blocks, float32 ``[N, 3]``."""
    height, width = (length // _BLOCK_PX * _BLOCK_PX for length in image.shape[:2])
    parts = image[:height, :width].reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX, 3)
    return parts.mean(axis=(1, 3), dtype=np.float32).reshape(-1, 3)


def _transfer(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Slope and intercept of every channel, and which blocks they explain best."""
    kept = np.ones(len(a), dtype=np.bool_)
    slope, intercept = np.ones(3, np.float32), np.zeros(3, np.float32)
    for _ in range(_ROUNDS):
        x, y = a[kept], b[kept]
        centre_x, centre_y = x.mean(axis=0), y.mean(axis=0)
        # Both dates are noisy: the geometric mean of either regression's slope shrinks neither.
        spread_x, spread_y = x.std(axis=0), y.std(axis=0)
        slope = np.clip(spread_y / np.maximum(spread_x, 1), 0.3, 3.0).astype(np.float32)
        intercept = (centre_y - slope * centre_x).astype(np.float32)
        rest = np.abs(b - a * slope - intercept).sum(axis=1)
        kept = rest <= np.quantile(rest, _KEPT)
    return slope, intercept, kept


def _saturation(a: FloatArray, b: FloatArray) -> float:
    colour = [(values - values.mean(axis=1, keepdims=True)).std() / values.mean() for values in (a, b)]
    return float(np.log(colour[1] / colour[0])) if min(colour) > 0.02 else float("nan")


def _field(first: UInt8Array, second: UInt8Array, slope: FloatArray, intercept: FloatArray) -> float:
    """Spread of the median log gain over 16 cells of the tile."""
    ratio = np.log((second.mean(-1) + 1) / np.maximum((first * slope + intercept).mean(-1), 1))
    height, width = (length // _CELLS for length in ratio.shape)
    cells = ratio[: height * _CELLS, : width * _CELLS].reshape(_CELLS, height, _CELLS, width)
    return _spread(np.median(cells, axis=(1, 3)).ravel())


def _materials(a: FloatArray, answer: FloatArray) -> float:
    """Two thirds of the blocks keep to the common transfer this closely; greens are left to the season."""
    bare = greenness(a / np.float32(255)) < 0.5
    if bare.sum() < 4 * _FEWEST:
        return float("nan")
    rest = answer[bare].mean(axis=1)
    return float(np.quantile(np.abs(rest - np.median(rest)), 0.68))


def _season(a: FloatArray, ratio: FloatArray, predicted: FloatArray) -> float:
    """Vegetation of the second date: by how much greens became greener than the common transfer says."""
    seen = ratio * predicted
    green = greenness(a / np.float32(255)) + greenness(np.clip(seen, 0, 255) / np.float32(255)) > 0.8
    if green.sum() < _FEWEST:
        return float("nan")
    before, after = (
        np.median(colours[green], axis=0).astype(np.float32) / np.float32(255) for colours in (predicted, seen)
    )

    def excess(colour: FloatArray) -> float:
        return float((3 * colour[1] - colour.sum()) / max(float(colour.sum()), 1e-3))

    unit = excess(with_season(before[None], 0.5)[0]) - excess(with_season(before[None], -0.5)[0])
    return float(np.clip((excess(after) - excess(before)) / unit, -2, 2)) if unit > 0.02 else float("nan")


def _shadow_depth(first: UInt8Array, second: UInt8Array, shadows: list[FloatArray]) -> float:
    depths = []
    for image, shaded in zip((first, second), shadows, strict=True):
        luma = np.asarray(Image.fromarray(image).reduce(2)).mean(-1) + 1
        lit = ndimage.uniform_filter(luma, 49)
        if (shaded > 0.7).sum() < 20 * _FEWEST:
            return float("nan")
        depths.append(float(np.median(np.log(lit / luma)[shaded > 0.7])))
    return float(np.log(depths[1] / depths[0])) if min(depths) > 0 else float("nan")


def _shadow_shift(shadows: list[FloatArray]) -> tuple[float, float]:
    if min(float(shaded.mean()) for shaded in shadows) < 0.02:
        return float("nan"), float("nan")
    row, col = find_shift(*(ndimage.gaussian_filter(shaded, 1.0) for shaded in shadows), whiten=False)
    return 2 * row, 2 * col


def find_shift(first: FloatArray, second: FloatArray, *, whiten: bool = True) -> tuple[float, float]:
    """Rows and columns by which the content of the second image lies further, to about a tenth of a pixel.

    Args:
        first: float32 ``[H, W]``.
        second: float32 ``[H, W]``.
        whiten: Compare phases alone, else correlate.
    """
    window = np.outer(*(np.hanning(length) for length in first.shape))
    spectra = [np.fft.rfft2((image - image.mean()) * window) for image in (first, second)]
    cross = spectra[1] * np.conj(spectra[0])
    frequency = np.hypot(np.fft.fftfreq(first.shape[0])[:, None], np.fft.rfftfreq(first.shape[1])[None])
    if whiten:
        cross /= np.abs(cross) + 1e-9
        cross *= np.exp(-((frequency / 0.18) ** 2))
    surface = np.fft.irfft2(cross, s=first.shape)
    surface = np.roll(surface, (_FARTHEST_PX, _FARTHEST_PX), (0, 1))[: 2 * _FARTHEST_PX + 1, : 2 * _FARTHEST_PX + 1]
    row, col = (int(value) for value in np.unravel_index(int(surface.argmax()), surface.shape))
    fine = [_vertex(surface[:, col], row), _vertex(surface[row], col)]
    return row - _FARTHEST_PX + fine[0], col - _FARTHEST_PX + fine[1]


def _vertex(line: npt.NDArray[np.float64], place: int) -> float:
    """Where a parabola through the largest value and its neighbours is highest."""
    if not 0 < place < len(line) - 1:
        return 0.0
    left, middle, right = line[place - 1 : place + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _warp(first: FloatArray, second: FloatArray) -> float:
    """Displacement of the corners by the affine map that explains the shifts of nine windows best."""
    height, width = first.shape
    side = (height // 2, width // 2)
    places, shifts = [], []
    for row in np.linspace(0, height - side[0], 3).astype(int):
        for col in np.linspace(0, width - side[1], 3).astype(int):
            cut = slice(row, row + side[0]), slice(col, col + side[1])
            places.append((row / (height - side[0]) - 0.5, col / (width - side[1]) - 0.5, 1.0))
            shifts.append(find_shift(first[cut], second[cut]))
    design, found = np.array(places), np.array(shifts)
    keep = np.hypot(*(found - np.median(found, axis=0)).T) < 2
    if keep.sum() < 6:
        return float("nan")
    entries = np.linalg.lstsq(design[keep], found[keep], rcond=None)[0][:2]
    # The centres of the windows span half of the tile.
    return float(2 * 0.5 * np.sqrt((entries**2).sum()))


def _blur(first: FloatArray, second: FloatArray) -> float:
    """From the slope of the log ratio of the two power spectra against squared frequency."""
    window = np.outer(*(np.hanning(length) for length in first.shape))
    power = [np.abs(np.fft.rfft2((image - image.mean()) * window)) ** 2 for image in (first, second)]
    frequency = np.hypot(np.fft.fftfreq(first.shape[0])[:, None], np.fft.rfftfreq(first.shape[1])[None])
    rings = np.linspace(*_BAND, 13)
    place = np.digitize(frequency, rings)
    x, y = [], []
    for ring in range(1, len(rings)):
        here = place == ring
        x.append(float((frequency[here] ** 2).mean()))
        y.append(float(np.log(power[1][here].mean() / power[0][here].mean())))
    return -float(np.polyfit(x, y, 1)[0]) / (4 * np.pi**2)


def noise_level(grey: FloatArray) -> float:
    """Standard deviation of the noise, from second differences in the flattest tenth of a tile (Immerkær, 1996)."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32) / 6
    rest = ndimage.convolve(grey, kernel, mode="reflect")
    height, width = (length // 16 * 16 for length in grey.shape)
    blocks = rest[:height, :width].reshape(height // 16, 16, width // 16, 16).swapaxes(1, 2).reshape(-1, 256)
    return float(np.quantile(blocks.std(axis=1), 0.1))


def _spread(values: npt.NDArray[np.floating]) -> float:
    """Standard deviation from the middle two thirds."""
    low, high = np.quantile(values, (1 / 6, 5 / 6))
    return float(high - low) / 1.935
