"""Spoiling what is well-formed: most of it stays, so that the deeper parts of a parser are reached too."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from changen_cli.core.errors import ChangenError

examples = settings(max_examples=400 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 25)
"""How many are tried: a few in every run of the tests, many in every round of `make fuzz`."""
SLOWEST_S = 5.0
"""No small input may take longer, in processor time."""

_NUMBERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, 1e-300]), st.floats()
)
_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            "..",
            "../../x",
            "/etc/passwd",
            "C:\\x",
            "a\0b",
            "\ud800",
            "\u202e",
            "x" * 5000,
            "NaN",
            "POLYGON EMPTY",
            "1e999",
        ]
    ),
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=8,
)
"""Anything JSON can hold, and what only Python's reader of it takes."""


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in entries for place in ((value, key), *places(inner))]


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """A copy of a JSON value with a few of its parts replaced, removed, repeated or renamed."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(0, 4))):
        found = places(value)
        if not found:
            break
        container, key = draw(st.sampled_from(found[:200]))
        what = draw(st.sampled_from(["replace", "remove", "repeat", "rename"]))
        if what == "remove":
            del container[key]
        elif what == "repeat" and isinstance(container, list):
            container += [copy.deepcopy(container[key])] * draw(st.integers(1, 20))
        elif what == "rename" and isinstance(container, dict):
            container[draw(_TEXTS)] = container.pop(key)
        else:
            container[key] = draw(JUNK)
    return draw(JUNK) if draw(st.integers(0, 30)) == 0 else value


@st.composite
def spoilt_bytes(draw: st.DrawFn, whole: bytes, edges: int = 0) -> bytes:
    """Bytes with some overwritten, cut, repeated or put in.

    Args:
        whole: What is spoilt.
        edges: So many first and last bytes, where headers lie, get half of the edits; 0 for any place.
    """
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        size = max(1, len(data))
        anywhere = st.integers(0, size - 1)
        near = (
            st.one_of(st.integers(0, min(edges, size) - 1), st.integers(max(0, size - edges), size - 1))
            if edges
            else anywhere
        )
        start = draw(st.one_of(near, anywhere))
        length = draw(st.integers(1, 16))
        what = draw(st.sampled_from(["set", "number", "cut", "repeat", "insert", "end"]))
        if what == "set":
            data[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif what == "number":  # what sizes and offsets are made of
            value, width = (
                draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1])),
                draw(st.sampled_from([2, 4])),
            )
            order = draw(st.sampled_from(["little", "big"]))
            data[start : start + width] = (value % 2 ** (8 * width)).to_bytes(width, order)
        elif what == "cut":
            del data[start : start + length]
        elif what == "repeat":
            data[start:start] = data[start : start + length] * draw(st.integers(1, 50))
        elif what == "insert":
            data[start:start] = draw(st.binary(max_size=length))
        else:
            del data[start:]
    return bytes(data)


def spoilt_text(value: Any) -> st.SearchStrategy[bytes]:
    """JSON as bytes: spoilt in its parts, or in its letters."""
    return st.one_of(spoilt(value).map(as_json), spoilt_bytes(as_json(value)))


def as_json(value: Any) -> bytes:
    """JSON as bytes; lone surrogates stay escaped."""
    return json.dumps(value).encode("ascii")


@contextmanager
def refusing(*others: type[Exception]) -> Iterator[None]:
    """Let a known error pass, if it is one line; anything else fails, and so does what takes too long.

    Args:
        others: Further errors that are documented.
    """
    started = time.process_time()
    try:
        yield
    except ChangenError as error:
        text = str(error)
        assert text.strip() and len(text.splitlines()) == 1 and len(text) < 2000, text[:300]
        text.encode("utf-8")
    except others:
        pass
    assert time.process_time() - started < SLOWEST_S
