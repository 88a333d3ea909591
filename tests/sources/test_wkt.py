from __future__ import annotations

import time

import pytest

from changen_cli.sources.wkt import parse_polygons


def test_polygon_with_hole_and_z_keeps_x_and_y() -> None:
    text = "POLYGON Z ((0 0 9, 8 0 9, 8 8 9, 0 0 9), (1 1 9, 2 1 9, 2 2 9, 1 1 9))"
    (polygon,) = parse_polygons(text)
    assert [ring.shape for ring in polygon] == [(4, 2), (4, 2)]
    assert polygon[1].tolist() == [[1, 1], [2, 1], [2, 2], [1, 1]]


@pytest.mark.parametrize(
    "text", ["polygonz((0 0 1,4 0 1,4 4 1))", "SRID=4326;POLYGON((0 0,4 0,4 4))", " POLYGON ( (0 0, 4 0, 4 4) ) "]
)
def test_spellings_are_read_and_open_rings_closed(text: str) -> None:
    ((ring,),) = parse_polygons(text)
    assert ring.tolist() == [[0, 0], [4, 0], [4, 4], [0, 0]]


def test_multipolygon_gives_each_part_and_skips_empty_ones() -> None:
    parts = parse_polygons("MULTIPOLYGON (((0 0, 4 0, 4 4, 0 0)), EMPTY, ((-1e1 5.5, 9 5, 9 9, -1e1 5.5)))")
    assert len(parts) == 2
    assert parts[1][0][0].tolist() == [-10, 5.5]


@pytest.mark.parametrize("text", ["POLYGON EMPTY", "MULTIPOLYGON Z EMPTY", "multipolygon empty"])
def test_empty(text: str) -> None:
    assert parse_polygons(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(((",
        "POINT (1 2)",
        "POLYGON",
        "POLYGON ((0 0, 1 1, 0 0)",
        "POLYGON ((0 0, 1 1))",
        "POLYGON ((0 0, 4 0, 4 4, 0 0)) x",
        "POLYGON ((0 0, nan 0, 4 4, 0 0))",
        "POLYGON ((0 0, 1e300 0, 4 4, 0 0))",
        "POLYGON ((0, 4, 4, 0))",
        "POLYGON ((a b, 1 0, 1 1))",
        "POLYGON ((0 0, 4 0, 4 4, 0 0) (1 1))",
        "MULTIPOLYGON ((0 0, 4 0, 4 4, 0 0))",
        "POLYGON FUNNY ((0 0, 4 0, 4 4))",
    ],
)
def test_invalid_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_polygons(text)


@pytest.mark.parametrize(
    "text", ["POLYGON " + "a " * 1_000_000, "(" * 5_000_000, "POLYGON ((" + "0 0," * 200_000 + "0 0))"]
)
def test_text_without_end_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"not a polygon|vertices"):
        parse_polygons(text)
    assert time.perf_counter() - started < 2
