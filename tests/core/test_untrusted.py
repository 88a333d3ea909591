from __future__ import annotations

import os
from pathlib import Path

import pytest

from changen_cli.core.untrusted import (
    inside,
    is_plain_name,
    parse_json,
    read_lines,
    read_text,
    readable_text,
)


def test_files_are_read_up_to_their_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo\nthree")
    assert read_text(tmp_path / "a", 13) == "one\ntwo\nthree"
    assert list(read_lines(tmp_path / "a", 5)) == ["one\n", "two\n", "three"]
    with pytest.raises(ValueError, match="larger than"):
        read_text(tmp_path / "a", 12)
    with pytest.raises(ValueError, match="has a line of more than"):
        list(read_lines(tmp_path / "a", 4))


def test_json_that_is_nested_too_deeply_is_no_crash() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    with pytest.raises(ValueError, match="Exceeds the limit"):
        parse_json("1" * 5000)


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "C:\\a",
        "C:a",
        "a\\b",
        "\\\\host\\share",
        "a\0b",
        "a\nb",
        "",
        ".",
        None,
        3,
        ["a"],
        "x" * 300,
        "a/" * 2000,
        "a\udce9",
    ],
)
def test_names_that_leave_their_folder(tmp_path: Path, name: object) -> None:
    with pytest.raises(ValueError, match=r"is no path inside|is no file name"):
        inside(tmp_path, name)


def test_links_that_leave_their_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "sub" / "in").symlink_to(root / "own")
    assert inside(root, "sub/in") == root / "sub/in"
    assert inside(root, "sub/new.png") == root / "sub/new.png"
    for name in ("out", "up/secret", "loop"):
        with pytest.raises(ValueError, match="is a link"):
            inside(root, name)
    os.symlink(root, tmp_path / "door")  # the folder itself may be reached by a link
    assert inside(tmp_path / "door", "sub/in") == tmp_path / "door/sub/in"


def test_labels_become_text_that_can_be_stored() -> None:
    assert readable_text("a\ud800b\n\x1b[31mc\u202e") == "a\\ud800b__[31mc_"
    assert readable_text("x" * 500) == "x" * 200
    assert [readable_text(value) for value in (7, 1.5, [1], {"a": 1})] == ["7", "1.5", "list", "dict"]


def test_plain_names() -> None:
    assert all(map(is_plain_name, ("tier3--a_00_v00", "a", "0.x-y", "a" * 200, "with space#1", "ä", "-a")))
    assert not any(map(is_plain_name, ("", ".a", "a/b", "..", "a" * 201, None, 3, "a\n", "a\\b", "C:a")))
