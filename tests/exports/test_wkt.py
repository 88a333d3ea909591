from __future__ import annotations

import time

import pytest

from changen_cli.exports.wkt import from_wkt, to_wkt

SQUARE = [(0.0, 0.0), (0.0, 8.0), (8.0, 8.0), (0.0, 0.0)]
HOLE = [(1.0, 2.5), (1.0, 3.0), (-2.0, 3.0), (1.0, 2.5)]


@pytest.mark.parametrize("polygons", [[], [[SQUARE]], [[SQUARE, HOLE]], [[SQUARE, HOLE], [SQUARE]]])
def test_what_is_written_is_read_back(polygons: list) -> None:
    assert from_wkt(to_wkt(polygons)) == polygons


def test_numbers_of_all_kinds() -> None:
    assert from_wkt("POLYGON((1. -.5,+2e0 1E1 , 3 4,1. -.5))") == [[[(1, -0.5), (2, 10), (3, 4), (1, -0.5)]]]


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON ((" + "11111111 11111111, " * 20_000 + "x))",
        "POLYGON ((1 " + "1" * 20_000 + "x))",
        "POLYGON ((1 1" + " " * 20_000 + "x))",
        "MULTIPOLYGON (" + "((1 1, 1 1)), " * 20_000 + "x)",
        "POLYGON " + "(" * 20_000,
    ],
    ids=["pairs", "digits", "spaces", "polygons", "brackets"],
)
def test_a_text_that_does_not_fit_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"no rings of pairs|is no POLYGON"):
        from_wkt(text)
    assert time.perf_counter() - started < 2
