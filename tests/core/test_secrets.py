"""Tokens and keys, wherever they may slip into a text."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.recipe import build_recipe
from changen_cli.core.secrets import holds_login, masked

TOKEN = "hf_" + "AbCdEfGhIj" * 3 + "1234"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"the token {TOKEN} is wrong", "the token *** is wrong"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic dXNlcjpwYXNzd29yZA=='}", "{'authorization': 'Basic ***'}"),
        ("Bearer abcdef0123456789", "Bearer ***"),
        ("https://h/x?X-Amz-Credential=AKIA/2&X-Amz-Signature=ab12&a=1", "https://h/x?X-Amz-Credential=***&X-Amz-Signature=***&a=1"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("http://me:pass@host:80/x", "http://***@host:80/x"),
        ("s3://KEY:SE+CRET@bucket/x", "s3://***@bucket/x"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert str(OutputError(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download(repo, name)", "hf_xet is not installed", "org/name@main", "basic rectangles are drawn",
        "https://huggingface.co/org/name", "tokens, width 192", "mail me@example.org", "bearer of bad news",
    ],
)  # fmt: skip
def test_what_does_not(text: str) -> None:
    assert masked(text) == text


def test_the_tokens_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "opensesame")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")  # no word is masked for being somebody's key
    assert masked("say opensesame, x") == "say ***, x"


@pytest.mark.parametrize(
    "part", ["://", "token", "a-", "authorization ", "https://" + "a" * 999, "-", "Bearer ", "hf_A"]
)
def test_masking_takes_no_time(part: str) -> None:
    started = time.process_time()
    masked(part * (500_000 // len(part)))
    assert time.process_time() - started < 5, "quadratic ones take minutes"


@pytest.mark.parametrize("key", ["source.input", "output.path"])
def test_a_recipe_holds_no_login(key: str) -> None:
    section, name = key.split(".")
    values = {"source": {"input": "in"}} | {section: {"input": "in", name: "s3://KEY:SECRET@bucket/x"}}
    values = {
        part: {k: v for k, v in inner.items() if part == "source" or k == "path"} for part, inner in values.items()
    }
    with pytest.raises(UsageError, match="would be published") as error:
        build_recipe(values)
    assert "SECRET" not in str(error.value)
    assert holds_login("s3://a@b") and not holds_login("s3://bucket/a@b")


def test_a_traceback_nobody_expected_holds_no_token() -> None:
    code = f"""
from changen_cli.cli import app
def broken():
    raise RuntimeError("asked with {TOKEN}")
app.app = broken
app.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "RuntimeError: asked with ***" in done.stderr and "Traceback" in done.stderr
