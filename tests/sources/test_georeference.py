from __future__ import annotations

import numpy as np
import pytest
from rasterio.crs import CRS

from changen_cli.sources.georeference import fit_geotransform, ground_sampling_distance, metres_per_degree

LON, LAT, STEP = -95.4, 29.7, 5e-6


def to_degrees(pixels: np.ndarray) -> np.ndarray:
    return np.stack([LON + STEP * pixels[:, 0], LAT - STEP * 0.9 * pixels[:, 1]], axis=1)


def squares(count: int = 6) -> list[np.ndarray]:
    base = np.array([[0, 0], [20, 0], [20, 30], [0, 30]], dtype=float)
    return [base + np.array([(i * 137) % 900, (i * 311) % 900]) for i in range(count)]


def test_exact_vertices_give_the_map_back() -> None:
    fit = fit_geotransform([(p, to_degrees(p)) for p in squares()])
    assert fit.transform == pytest.approx((STEP, 0, LON, 0, -STEP * 0.9, LAT), abs=1e-11)
    assert fit.rms_m is not None
    assert fit.rms_m < 1e-3
    assert (fit.vertices, fit.rejected) == (24, 0)


def test_noise_shows_in_the_residual_in_metres() -> None:
    rng = np.random.default_rng(0)
    metre = 1 / np.asarray(metres_per_degree(LAT))
    pairs = [(p, to_degrees(p) + rng.normal(size=p.shape) * metre) for p in squares(40)]
    fit = fit_geotransform(pairs)
    assert fit.transform is not None
    assert fit.rms_m == pytest.approx(2**0.5, rel=0.15)


def test_an_object_moved_in_one_list_is_left_out() -> None:
    pairs = [(p, to_degrees(p)) for p in squares()]
    pairs[2] = (pairs[2][0], pairs[2][1] + 0.002)
    fit = fit_geotransform(pairs)
    assert fit.rejected == 1
    assert fit.transform == pytest.approx((STEP, 0, LON, 0, -STEP * 0.9, LAT), abs=1e-10)


def test_a_large_residual_is_reported_and_not_used() -> None:
    rng = np.random.default_rng(1)
    fit = fit_geotransform([(p, to_degrees(p) + rng.normal(size=p.shape) * 1e-3) for p in squares()])
    assert fit.transform is None
    assert fit.rms_m is not None
    assert fit.rms_m > 5
    assert "exceeds 5 m" in fit.reason


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 2)), np.array([[0.0, 0], [1, 1], [2, 2], [3, 3], [9, 9]]), np.ones((8, 2))]
)
def test_too_few_or_collinear_vertices(pixels: np.ndarray) -> None:
    fit = fit_geotransform([(pixels, to_degrees(pixels))])
    assert fit.transform is None
    assert fit.reason


def test_no_objects_and_no_degrees() -> None:
    assert fit_geotransform([]).transform is None
    assert "no degrees" in fit_geotransform([(squares(1)[0], squares(1)[0] * 100)]).reason


def test_pixel_size_in_metres() -> None:
    degrees = (1e-5, 0.0, 10.0, 0.0, -1e-5, 60.0)
    expected = np.sqrt(1e-5 * 55800 * 1e-5 * 111412)
    assert ground_sampling_distance(CRS.from_epsg(4326), degrees, (100, 100)) == pytest.approx(expected, rel=1e-3)
    assert ground_sampling_distance(CRS.from_epsg(32633), (0.5, 0, 5e5, 0, -0.5, 5e6), (9, 9)) == pytest.approx(0.5)
    # Web Mercator at 60 degrees north: map metres are twice as long as ground metres.
    mercator = (1.0, 0.0, 0.0, 0.0, -1.0, 8399737.9)
    assert ground_sampling_distance(CRS.from_epsg(3857), mercator, (2, 2)) == pytest.approx(0.5, rel=1e-3)
    feet = CRS.from_epsg(2263)
    assert ground_sampling_distance(feet, (1.0, 0, 1e6, 0, -1.0, 2e5), (2, 2)) == pytest.approx(0.3048, rel=1e-3)
