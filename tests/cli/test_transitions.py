"""``changen transitions``: list, show, fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.transitions import load_transitions, preset_names


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transitions", *(str(argument) for argument in arguments)])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    mask = np.full((50, 60), 2, np.uint8)
    for folder in ("t1_masks", "t2_masks"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "pairs" / folder / "a.png")
        mask[10:30, 10:30] = 5
    return tmp_path / "pairs"


def test_list() -> None:
    done = run("list")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(preset_names())
    assert len(json.loads(run("list", "--json").stdout)["transitions"]) == len(preset_names())


def test_show(tmp_path: Path) -> None:
    done = run("show", "flood")
    assert done.exit_code == 0
    cells = next(line for line in done.stdout.splitlines() if line.strip().startswith("bareland")).split()
    assert cells[-1] == "70" and cells.count("30") == 1
    assert "edge of water advances over bareland" in done.stdout and "by 2-15 m: 50% of a step" in done.stdout
    path = tmp_path / "mine.yaml"
    path.write_text(
        "rates: {a: {b: 0.125}}\nboost: 0.5\nsizes_px: {median: 800, spread: 2.5}\nchange_area: [0.01, 0.2]"
    )
    for told in ("12.5", "87.5", "parts of 800 px", "1.00% to 20.00% of a tile", "boosted by 0.5"):
        assert told in run("show", path).stdout
    assert yaml.safe_load(run("show", "flood", "--yaml").stdout)["moves"][0]["class"] == "water"
    assert load_transitions(json.loads(run("show", "flood", "--json").stdout)) == load_transitions("flood")
    wrong = run("show", "floood")
    assert wrong.exit_code == 2 and "did you mean flood?" in wrong.stderr


def test_fit(pairs: Path, tmp_path: Path) -> None:
    done = run("fit", "--pairs", pairs)
    assert done.exit_code == 0, done.stderr
    assert yaml.safe_load(done.stdout)["rates"] == {"rangeland": {"tree": 0.133333}}
    assert "1 pairs, 1 change regions, 13.33% of the pixels change; 0 pairs skipped" in done.stderr
    target = tmp_path / "learned.yaml"
    done = run("fit", "--pairs", pairs, "-o", target, "--quiet", "--layout", "masks", "--gsd", "2")
    assert (done.exit_code, done.stdout.strip(), done.stderr) == (0, str(target), "")
    assert load_transitions(str(target)).sizes_m2.median == 1600
    again = run("fit", "--pairs", pairs, "-o", target)
    assert again.exit_code == 1 and "--overwrite" in again.stderr
    found = json.loads(run("fit", "--pairs", pairs, "-q", "--json").stdout)
    assert (found["pairs"], found["skipped"], found["output"]) == (1, 0, None)
    assert found["rates"] == {"rangeland": {"tree": 0.133333}}
