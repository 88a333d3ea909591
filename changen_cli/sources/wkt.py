"""A small reader for the two WKT geometries that building labels use."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Ring = npt.NDArray[np.float64]
"""float64 ``[n, 2]``, (x, y) per vertex, closed: the last vertex repeats the first."""
Polygon = list[Ring]
"""The outer ring, then its holes."""

_TOKEN = re.compile(r"[(),]|[^\s(),]+")
# Far outside any image or globe; larger numbers would only overflow in the rasteriser.
_MAX_COORDINATE = 1e7
_MAX_CHARACTERS = 4_000_000
_MAX_VERTICES = 100_000
_MAX_WORDS = 4


def parse_polygons(text: str) -> list[Polygon]:
    """Parse ``POLYGON`` or ``MULTIPOLYGON`` text, with or without Z and M; only x and y are kept.

    Args:
        text: Well-known text, e.g. ``POLYGON ((0 0, 4 0, 4 4, 0 0))``.

    Returns:
        The polygons; an empty list for ``EMPTY``. Rings that are not closed are closed.

    Raises:
        ValueError: The text is no such geometry, a number is not finite, a ring has fewer than three vertices, or
            there are more than 100 000 of them.
    """
    if not isinstance(text, str):
        raise ValueError("the geometry is no text")
    if len(text) > _MAX_CHARACTERS or text.count(",") > _MAX_VERTICES:
        raise ValueError(f"more than {_MAX_VERTICES} vertices")
    tokens = _TOKEN.findall(text)
    words: list[str] = []
    while tokens and tokens[0] not in "(),":
        if len(words) == _MAX_WORDS:
            raise ValueError(f"not a polygon: {text[:40]!r}")
        words.append(tokens.pop(0).upper())
    if words and words[0].startswith("SRID="):
        words[0] = words[0].partition(";")[2]
    kind, *rest = [word for word in words if word] or [""]
    for suffix in ("ZM", "Z", "M"):  # "POLYGONZ" is as common as "POLYGON Z"
        if kind in (f"POLYGON{suffix}", f"MULTIPOLYGON{suffix}"):
            kind = kind.removesuffix(suffix)
    if kind not in ("POLYGON", "MULTIPOLYGON"):
        raise ValueError(f"not a polygon: {text[:40]!r}")
    rest = [word for word in rest if word not in ("Z", "M", "ZM")]
    if rest == ["EMPTY"] and not tokens:
        return []
    if rest:
        raise ValueError(f"unexpected {rest[0]!r}")
    tokens.reverse()  # popped from the end
    polygons = [_polygon(tokens)] if kind == "POLYGON" else _polygon_list(tokens)
    if tokens:
        raise ValueError(f"text after the geometry: {tokens[-1]!r}")
    return [polygon for polygon in polygons if polygon]


def _take(tokens: list[str], wanted: str = "") -> str:
    """Pop the next token, which must be ``wanted`` if that is given."""
    if not tokens:
        raise ValueError("the text ends early")
    token = tokens.pop()
    if wanted and token != wanted:
        raise ValueError(f"expected {wanted!r}, found {token!r}")
    return token


def _more(tokens: list[str]) -> bool:
    """Pop a comma (True) or the closing bracket (False)."""
    token = _take(tokens)
    if token not in (",", ")"):
        raise ValueError(f"expected ',' or ')', found {token!r}")
    return token == ","


def _polygon_list(tokens: list[str]) -> list[Polygon]:
    _take(tokens, "(")
    polygons = [_polygon(tokens)]
    while _more(tokens):
        polygons.append(_polygon(tokens))
    return polygons


def _polygon(tokens: list[str]) -> Polygon:
    if tokens and tokens[-1].upper() == "EMPTY":
        tokens.pop()
        return []
    _take(tokens, "(")
    rings = [_ring(tokens)]
    while _more(tokens):
        rings.append(_ring(tokens))
    return rings


def _ring(tokens: list[str]) -> Ring:
    _take(tokens, "(")
    vertices = []
    while True:
        numbers = []
        while tokens and tokens[-1] not in "(),":
            numbers.append(float(tokens.pop()))
        if not 2 <= len(numbers) <= 4:
            raise ValueError(f"a vertex has {len(numbers)} numbers")
        vertices.append(numbers[:2])
        if not _more(tokens):
            break
    ring = np.asarray(vertices, dtype=np.float64)
    if not np.isfinite(ring).all() or np.abs(ring).max() > _MAX_COORDINATE:
        raise ValueError("a coordinate is not finite or far too large")
    if not np.array_equal(ring[0], ring[-1]):
        ring = np.concatenate([ring, ring[:1]])
    if len(ring) < 4:
        raise ValueError("a ring has fewer than three vertices")
    return ring
