"""``changen export`` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def dataset(pairs_tree: Path) -> Path:
    out = pairs_tree.with_name("dataset")
    made = run(
        "generate", "--input", pairs_tree, "--output", out, "--classes", "background,building,road", "--steps", 2,
        "--strength", 0, "--quiet",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    return out


def test_export_as_typed(dataset, tmp_path) -> None:
    done = run("export", dataset, "--as", "levir-cd", "-o", tmp_path / "levir", "--split", "0.5,0.5", "--pairs", "all")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'levir'}\n"
    counts = {split: len(list((tmp_path / "levir" / split / "label").iterdir())) for split in ("train", "val")}
    assert sum(counts.values()) == 9
    for split, count in counts.items():
        assert f"{split}: {count} pairs of {count // 3} place(s)" in done.stderr
    labels = [np.asarray(Image.open(path)) for path in (tmp_path / "levir").glob("*/label/*.png")]
    assert all(label.any() for label in labels)


def test_as_json(dataset, tmp_path) -> None:
    done = run("export", dataset, "--as", "second", "--map", "background=ground", "-o", tmp_path / "second", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "output": str(tmp_path / "second"), "layout": "second", "samples": 3, "items": {"train": 6},
        "places": {"train": 3}, "notes": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--as", "nothing"], 2, ("nothing is not known", "torchange")),
        (["--as", "second"], 2, ("background", "--map")),
        (["--as", "levir-cd", "--map", "road=ground"], 2, ("--map", "second")),
        (["--as", "second", "--map", "road"], 2, ("road=ground",)),
        (["--as", "levir-cd", "--pairs", "some"], 2, ("--pairs some", "first-last")),
        (["--as", "levir-cd", "--split", "0.9,0.2"], 2, ("--split 0.9,0.2", "add up to 1")),
    ],
)
def test_bad_requests_are_one_line(arguments, code, words, dataset, tmp_path) -> None:
    done = run("export", dataset, "-o", tmp_path / "out", *arguments)
    assert done.exit_code == code and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_layout() -> None:
    from changen_cli.exports.formats import FORMATS

    shown = run("export", "--help").stdout
    assert all(name in shown for name in FORMATS)


def test_an_interruption_says_that_nothing_is_kept(dataset, tmp_path, monkeypatch) -> None:
    from changen_cli.exports.binary import LevirCD

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LevirCD, "close", interrupted)
    done = run("export", dataset, "--as", "levir-cd", "-o", tmp_path / "out", "-q")
    assert done.exit_code == 130 and done.stderr == "Interrupted: nothing was written.\n"
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".partial*"))
