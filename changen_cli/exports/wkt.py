"""Polygons as well-known text."""

from __future__ import annotations

import re

from changen_cli.exports.objects import Polygon, Ring

_TEXT = re.compile(r"\s*(MULTI)?POLYGON\s*(EMPTY|\(.*\))\s*", re.IGNORECASE | re.DOTALL)
# No two of its parts can match the same digits, else a text that does not fit would be tried in every way to cut it.
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_RING = rf"\(\s*{_NUMBER}\s+{_NUMBER}(?:\s*,\s*{_NUMBER}\s+{_NUMBER})*\s*\)"
_POLYGON = rf"\(\s*{_RING}(?:\s*,\s*{_RING})*\s*\)"
_POLYGONS = re.compile(rf"\(\s*{_POLYGON}(?:\s*,\s*{_POLYGON})*\s*\)")


def to_wkt(polygons: list[Polygon]) -> str:
    """``POLYGON`` or ``MULTIPOLYGON``; empty where there is none."""
    texts = ["(" + ", ".join(_ring(ring) for ring in polygon) + ")" for polygon in polygons]
    if len(texts) == 1:
        return f"POLYGON {texts[0]}"
    return f"MULTIPOLYGON ({', '.join(texts)})" if texts else "POLYGON EMPTY"


def _ring(ring: Ring) -> str:
    return "(" + ", ".join(f"{x} {y}" for x, y in ring) + ")"


def from_wkt(text: str) -> list[Polygon]:
    """Parse ``POLYGON`` or ``MULTIPOLYGON``; without any polygon where it is empty.

    Raises:
        ValueError: It is neither, or a ring is not closed or has fewer than three corners.
    """
    found = _TEXT.fullmatch(text)
    if not found:
        raise ValueError("is no POLYGON and no MULTIPOLYGON")
    body = found[2]
    if body.upper() == "EMPTY":
        return []
    body = body if found[1] else f"({body})"
    if not _POLYGONS.fullmatch(body):
        raise ValueError("has no rings of pairs of numbers")
    polygons = [
        [[(float(x), float(y)) for x, y in (pair.split() for pair in ring[1:-1].split(","))] for ring in rings]
        for rings in (re.findall(_RING, polygon) for polygon in re.findall(_POLYGON, body))
    ]
    if any(len(ring) < 4 or ring[0] != ring[-1] for polygon in polygons for ring in polygon):
        raise ValueError("has a ring that is not closed")
    return polygons
