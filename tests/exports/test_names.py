"""File names that every reader can take."""

from __future__ import annotations

import io
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.exports.names import SafeNames


@given(st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=20))
def test_names_are_distinct_safe_and_listable(ids) -> None:
    """np.loadtxt, with which lists are read, cuts at spaces and #. [wgcban/ChangeFormer datasets/CD_dataset.py]"""
    given_names = SafeNames("im1", "Image1")
    names = [given_names(name) for name in ids]
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) and len(name) <= 200 for name in names)
    assert not any("im1" in name or "Image1" in name for name in names)
    if names:
        read = np.atleast_1d(np.loadtxt(io.StringIO("".join(f"{name}.png\n" for name in names)), dtype=str))
        assert list(read) == [f"{name}.png" for name in names]


def test_what_is_safe_stays() -> None:
    names = SafeNames("im1")
    assert names("banepa_00000000_v00_t0_t1") == "banepa_00000000_v00_t0_t1"
    assert names("claim1_v00").startswith("claim_1_v00.")
    assert names("A") == "A" and names("a").startswith("a.")
