from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.errors import UsageError
from changen_cli.core.yaml_files import LARGEST_BYTES, dump_yaml, parse_yaml, read_yaml

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
    | st.sampled_from(["1e-3", "no", "on", "2018-06-15", "010", "12:30", "~", "=", "<<", "1_0", ".nan", "0x1f", "5%"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def test_values_are_what_they_look_like() -> None:
    text = (
        "[no, on, Yes, true, 010, 1e-3, .5, -2., 2018, 2018-06, 2018-06-15, 12:30, 1_0, 0x1f, 5%, 2-10%, ~, null, '']"
    )
    assert parse_yaml(text, "x") == [
        "no", "on", "Yes", True, 10, 0.001, 0.5, -2.0, 2018, "2018-06", "2018-06-15", "12:30", "1_0", "0x1f", "5%", "2-10%",
        None, None, "",
    ]  # fmt: skip
    assert parse_yaml("a:\nb: 1", "x") == {"a": None, "b": 1}
    assert parse_yaml("", "x") is None


@given(PLAIN)
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_yaml(dump_yaml(value), "x") == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3", "x, line 3, column 1: 'a' is given twice"),
        ("s:\n  a: 1\n  a: 1", "x, line 3, column 3: 'a' is given twice"),
        ("a: &b [1]\nc: [*b, *b]", "x, line 2, column 5: aliases (*name) are not understood"),
        ("? [a]\n: 1", "a key is no name"),
        ("? {a: 1}\n: 1", "a key is no name"),
        ("a: [1", "x: "),
        ("a:\n\tb: 1", "x, line 2, column 1: "),
        ("a: !!python/object/apply:os.system [id]", "tags (!!python/object/apply:os.system) are not understood"),
        ("a: !!timestamp x", "tags (!!timestamp) are not understood"),
        ("a: 1\nb: ! x", "x, line 2, column 4: tags (!) are not understood"),
        ("[" * 3000, "x: nested too deeply"),
        ("a: '\x00'", "unacceptable character"),
        ('a: "x\\0"', "x: a text with a zero byte"),
        ('"\\uD800": 1', r"x: a text with half a character (\ud800)"),
        ("a: 1\n---\nb: 1", "x, line 2, column 1: "),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_yaml(text, "x")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_any_editor(tmp_path: Path) -> None:
    path = tmp_path / "réglages.yaml"
    for content in ("a: é\nb: 2\n".encode(), "a: é\r\nb: 2\r\n".encode(), "a: é\nb: 2".encode("utf-8-sig")):
        path.write_bytes(content)
        assert read_yaml(path) == {"a": "é", "b": 2}
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UsageError, match=r"réglages\.yaml is not UTF-8 text \(byte 3\)\. Save it as UTF-8"):
        read_yaml(path)
    path.write_bytes(b"a: " + b"x" * LARGEST_BYTES)
    with pytest.raises(UsageError, match="larger than 256 KiB"):
        read_yaml(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
