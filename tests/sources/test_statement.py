"""``changen-source.yaml``: who says what about an input folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.sources.folder import open_source
from changen_cli.sources.statement import Statement, read_statement
from changen_cli.workflows.setup import SAMPLE


def test_without_a_file_only_the_name_is_known(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")
    assert read_statement(tmp_path) == Statement(tmp_path.name)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("license: CC BY 4.0", Statement("tiles", ("cc-by-4.0",))),
        ("license: [cc0-1.0, odbl]\nname: My city", Statement("My city", ("cc0-1.0", "odbl"))),
        ("attribution: >-\n  (c) one\n  and two", Statement("tiles", (), "(c) one and two")),
        ("license:", Statement("tiles")),
    ],
)
def test_what_is_said(tmp_path: Path, text: str, statement: Statement) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "changen-source.yaml").write_text(text)
    assert read_statement(folder) == statement


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("license: mine", "'mine' is no licence the Hugging Face Hub knows"),
        ("licence: mit", "no statement about a source"),
        ("- mit", "no statement"),
        ("", "no statement"),
        ("license: [1]", "1 is no text"),
        ("license: 3", "3 is no text"),
        ("license: {a: b}", "is no text"),
        ("name: [", "expected the node content"),
        ("name: &a [1]\nlicense: [*a, *a]", "aliases"),
        ("[" * 5000, "nested too deeply"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "changen-source.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        read_statement(tmp_path)
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_the_bundled_sample_says_its_licences() -> None:
    statement = read_statement(SAMPLE)
    assert statement.license == ("cc-by-4.0", "odbl")
    assert "OpenStreetMap" in statement.attribution and "HOTOSM" in statement.attribution
    assert open_source(SAMPLE).count_images() == 3, "the file is no image"
