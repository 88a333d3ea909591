"""Polygons along pixel edges: what the simulator writes fills to what it changed."""

from __future__ import annotations

import numpy as np
import pytest

from changen_cli.events import polygon_wkt
from changen_cli.exports.polygons import fill_polygon


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_filling_undoes_tracing(seed: int, share: float) -> None:
    """Pieces, holes, islands in holes, corners that touch."""
    shape = np.random.default_rng(seed).random((9, 13)) < share
    rows, cols = np.nonzero(shape)
    filled, box = fill_polygon(polygon_wkt(shape, (40, 7)))
    assert box == (rows.min() + 40, cols.min() + 7, rows.max() + 41, cols.max() + 8)
    assert np.array_equal(filled, shape[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no WKT polygon"),
        ("LINESTRING (0 0, 1 1)", "no WKT polygon"),
        ("POLYGON ((0 0, 2 0, 2 2, 0 2))", "not closed"),
        ("POLYGON ((0 0, 2 0, 2 2, 0 0))", "an edge across pixels"),
        ("POLYGON ((0.5 0, 2 0, 2 2, 0.5 2, 0.5 0))", "no whole pixels"),
        ("POLYGON ((0 0 1, 2 0 1, 2 2 1, 0 0 1))", "not closed"),
        ("POLYGON ((0 0, 1e5 0, 0 0))", "no WKT polygon"),
        (f"POLYGON (({'1' * 99} 0, 2 0, 2 2, {'1' * 99} 0))", "no whole pixels"),
        ("POLYGON ((0 0, 0 200000, 200000 200000, 200000 0, 0 0))", "larger than any tile"),
        ("POLYGON ((0 0, 0 9000000000000000000, 9000000000000000000 0, 0 0))", "larger than any tile"),
    ],
)
def test_other_texts_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fill_polygon(text)
