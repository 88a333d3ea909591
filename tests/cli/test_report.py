"""``changen report`` and ``changen gif`` as people type them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from tests.hub.datasets import write_dataset


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_report_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    out = write_dataset(tmp_path / "out")
    done = run("report", out, "--samples", 4, "--open")
    assert (done.exit_code, done.stdout) == (0, f"{out / 'report.html'}\n") and "4 of 6 samples" in done.stderr
    assert opened == [(out / "report.html").as_uri()]
    done = run("report", out, "--output", tmp_path / "page.html", "--json", "--quiet")
    assert json.loads(done.stdout) == {
        "report": str(tmp_path / "page.html"), "shown": 6, "samples": 6,
        "bytes": (tmp_path / "page.html").stat().st_size, "picture_px": 1024,
    }  # fmt: skip
    assert run("validate", out, "--quiet").stdout == "" and "report.html" not in run("validate", out).stderr


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for command in ("report", "gif"):
        done = run(command, tmp_path)
        assert done.exit_code == 2 and "Error:" in done.stderr and not list(tmp_path.iterdir())


def test_gif_as_typed(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    done = run("gif", out, "--sample", "scene0003_v00", "-o", tmp_path / "film.webp", "--no-outlines")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'film.webp'}\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")
def test_serve_as_typed_ends_quietly(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    command = [sys.executable, "-m", "changen_cli.cli", "report", str(out), "--serve", "--port", "0", "--quiet"]
    for ending in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
            assert serving.stdout
            url = serving.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert b"changen report" in answer.read()
            serving.send_signal(ending)
            _, said = serving.communicate(timeout=20)
            assert serving.returncode == 0 and "Traceback" not in said
    assert not (out / "report.html").exists()
