"""``changen evaluate`` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from tests.hub.datasets import write_dataset


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_evaluate_as_typed(tmp_path: Path) -> None:
    out, other = write_dataset(tmp_path / "out"), write_dataset(tmp_path / "other", 8)
    done = run("evaluate", out, "--real", other, "--no-likeness", "--report", "--quiet")
    assert done.exit_code == 0 and done.stdout.endswith(f"{out / 'report.html'}\n")
    assert (
        "difference_smoothed" in done.stdout and "which date is later" in done.stdout and "clark evans" in done.stdout
    )
    assert "shortcuts:" in done.stderr and "labels: 0 errors, 0 warnings" in done.stderr
    assert "shortcuts.change.noise.real_auc" in (out / "report.html").read_text()
    done = run("evaluate", out, "--no-likeness", "--json", "--samples", 4, "--quiet")
    assert json.loads(done.stdout) == json.loads((out / "evaluation.json").read_text())
    assert json.loads(done.stdout)["looked_at"]["samples"] == 4


def test_wrong_labels_end_with_one(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    (out / "classes.json").write_text((out / "classes.json").read_text() + " ")
    done = run("evaluate", out, "--no-likeness", "--quiet")
    assert done.exit_code == 1 and "classes.json: its bytes are not those" in done.stderr
    done = run("evaluate", out, "--real", tmp_path / "nowhere")
    assert done.exit_code == 2 and "Error: --real" in done.stderr
    assert run("evaluate", tmp_path).exit_code == 2
