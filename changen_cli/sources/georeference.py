"""Where a pixel lies on the ground: pixel sizes in metres, and the georeference hidden in xBD labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import GeoTransform

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

Points = npt.NDArray[np.float64]
"""float64 ``[n, 2]``: (col, row) in pixels or (longitude, latitude) in degrees."""

MAX_RMS_M = 5.0
"""A fitted georeference that misses its own vertices by more is wrong and not used."""
NOT_PLACED = "the file names a reference system, but not where in it the image lies"
_ROUNDS = 10
_LEAST_GSD_M, _LARGEST_GSD_M = 1e-3, 1e5


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Return the length of one degree of longitude and of latitude, in metres, on WGS 84 at ``latitude`` degrees."""
    phi = math.radians(latitude)
    lon = 111412.84 * math.cos(phi) - 93.5 * math.cos(3 * phi) + 0.118 * math.cos(5 * phi)
    lat = 111132.92 - 559.82 * math.cos(2 * phi) + 1.175 * math.cos(4 * phi)
    return lon, lat


def is_placed(transform: Affine) -> bool:
    """Whether a file says where it lies: without a geotransform, pixel numbers stand in for coordinates.

    One that maps all pixels to a line, or to no number, says nothing either.
    """
    usable = all(map(math.isfinite, transform[:6])) and transform.determinant != 0
    return usable and transform != transform.identity()


def plausible_gsd(gsd_m: float) -> bool:
    """Whether an image can have pixels of this size: between a millimetre and a hundred kilometres."""
    return _LEAST_GSD_M <= gsd_m <= _LARGEST_GSD_M


def ground_sampling_distance(crs: CRS, transform: GeoTransform, shape: tuple[int, int]) -> float | None:
    """Return the pixel size in metres at the image's centre, or None when it cannot be known.

    Degrees are converted at the latitude; Web Mercator metres are shrunk to ground metres, which they exceed by
    1/cos(latitude). Pixels that are not square give the side of a square of the same area.

    Args:
        crs: The reference system of ``transform``.
        transform: Pixel to map coordinates.
        shape: (height, width) in pixels.
    """
    from rasterio.warp import transform as reproject

    a, b, c, d, e, f = transform
    row, col = shape[0] / 2, shape[1] / 2
    x, y = a * col + b * row + c, d * col + e * row + f
    area = abs(a * e - b * d)
    try:
        if crs.is_geographic:
            lon_m, lat_m = metres_per_degree(y)
            area *= abs(lon_m * lat_m)
        elif crs.is_projected:
            area *= crs.linear_units_factor[1] ** 2
            if crs.to_dict().get("proj") in ("merc", "webmerc"):
                _, latitudes = reproject(crs, "EPSG:4326", [x], [y])
                area *= math.cos(math.radians(latitudes[0])) ** 2
        else:
            return None
    except Exception:  # unit and projection tables of PROJ fail in many ways; the size is a convenience, not a must
        return None
    gsd_m = math.sqrt(area) if math.isfinite(area) else 0.0
    return gsd_m if plausible_gsd(gsd_m) else None


@dataclass(frozen=True)
class Fit:
    """A georeference fitted to vertices known both in pixels and in degrees.

    Attributes:
        transform: Pixel to (longitude, latitude); None when it is unusable.
        rms_m: Root mean square distance of the vertices from the fit, in metres.
        vertices: Number of vertices used.
        rejected: Objects left out because they disagree with the others.
        reason: Why there is no usable fit; empty when there is one.
    """

    transform: GeoTransform | None
    rms_m: float | None
    vertices: int
    rejected: int = 0
    reason: str = ""


def fit_geotransform(objects: Sequence[tuple[Points, Points]]) -> Fit:
    """Fit the affine map from pixels to degrees by least squares.

    Objects that lie far off the common map (a polygon that was edited in one list only) are left out, as long as
    more than half of the vertices stay.

    Args:
        objects: Per object its vertices in pixels and the same vertices in degrees, ``[n, 2]`` each.

    Returns:
        The fit; ``transform`` is None when fewer than four vertices, or only collinear ones, are known, when degrees
        are out of range, or when the residual exceeds :data:`MAX_RMS_M`.
    """
    total = sum(len(pixels) for pixels, _ in objects)
    if total < 4:
        return Fit(None, None, total, reason="fewer than 4 vertices are known in pixels and in degrees")
    everything = np.concatenate([degrees for _, degrees in objects])
    if np.abs(everything[:, 0]).max() > 180 or np.abs(everything[:, 1]).max() > 90:
        return Fit(None, None, total, reason="lng_lat holds values that are no degrees")
    scale = np.asarray(metres_per_degree(float(everything[:, 1].mean())))

    everywhere = np.concatenate([pixels for pixels, _ in objects])
    sizes = [len(pixels) for pixels, _ in objects]
    # Plain least squares is bent by a single moved object until that one no longer stands out. Weighting each object
    # by the inverse of its error, again and again, leads to the map that most of them agree on.
    weights = np.ones(len(objects))
    for _ in range(_ROUNDS):
        matrix = _least_squares(everywhere, everything, np.repeat(weights, sizes))
        if matrix is None:
            return Fit(None, None, total, reason="the vertices lie on one line")
        errors = np.asarray([_rms_m(matrix, pixels, degrees, scale) for pixels, degrees in objects])
        weights = 1 / np.maximum(errors, 0.01)
    limit = max(1.0, 3 * float(np.median(errors)))
    kept = [pair for pair, error in zip(objects, errors, strict=True) if error <= limit]
    if 2 * sum(len(pixels) for pixels, _ in kept) <= total:
        kept = list(objects)
    pixels, degrees = np.concatenate([p for p, _ in kept]), np.concatenate([d for _, d in kept])
    matrix = _least_squares(pixels, degrees, np.ones(len(pixels)))
    rejected = len(objects) - len(kept)
    if matrix is None:
        return Fit(None, None, len(pixels), rejected, "the vertices lie on one line")
    rms_m = _rms_m(matrix, pixels, degrees, scale)
    (a, b, c), (d, e, f) = matrix.tolist()
    if rms_m > MAX_RMS_M:
        reason = f"the residual of {rms_m:.1f} m exceeds {MAX_RMS_M:.0f} m"
        return Fit(None, rms_m, len(pixels), rejected, reason)
    return Fit((a, b, c, d, e, f), rms_m, len(pixels), rejected)


def _least_squares(pixels: Points, degrees: Points, weights: npt.NDArray[np.float64]) -> Points | None:
    """Return the float64 ``[2, 3]`` map, or None when the vertices do not span a plane."""
    # Both sides are centred: degrees near 100 with pixel sizes of 1e-6 would lose half of the digits otherwise.
    middle, target = np.average(pixels, axis=0, weights=weights), np.average(degrees, axis=0, weights=weights)
    centred = pixels - middle
    spread = np.linalg.svd(centred, compute_uv=False)
    if len(spread) < 2 or spread[1] < 1e-3 * spread[0] or spread[1] == 0:
        return None
    root = np.sqrt(weights / weights.max())[:, None]
    linear = np.linalg.lstsq(centred * root, (degrees - target) * root, rcond=None)[0].T
    return np.concatenate([linear, (target - linear @ middle)[:, None]], axis=1)


def _rms_m(matrix: Points, pixels: Points, degrees: Points, scale: Points) -> float:
    residual = (pixels @ matrix[:, :2].T + matrix[:, 2] - degrees) * scale
    return float(np.sqrt((residual**2).sum(axis=1).mean()))
