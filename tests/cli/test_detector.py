"""``changen train-detector``, ``changen detect`` and ``changen evaluate --probe`` as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from tests.hub.datasets import write_dataset


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def real_set(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder, values in (("A", 256), ("B", 256), ("label", 2)):
        (root / folder).mkdir(parents=True)
        for stem in ("1", "2"):
            shape = (64, 64) if folder == "label" else (64, 64, 3)
            pixels = rng.integers(0, values, shape, dtype=np.uint8) * (255 if folder == "label" else 1)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{stem}.png")
    return root


def test_train_tune_and_detect(tmp_path: Path) -> None:
    out, real = write_dataset(tmp_path / "out"), real_set(tmp_path / "real")
    quick = ("--max-images", 4, "--batch-size", 2, "--crop-size", 32, "--threads", 1)
    done = run("train-detector", out, real, "--output", tmp_path / "first", "--license", "CC0-1.0", *quick)
    assert done.exit_code == 0 and done.stdout == f"{tmp_path / 'first'}\n", done.stderr
    assert "6 pairs (changen)" in done.stderr and "2 pairs (levir-cd)" in done.stderr
    done = run("train-detector", real, "--output", tmp_path / "tuned", "--init", tmp_path / "first", "-q", *quick)
    assert done.exit_code == 0, done.stderr
    done = run(
        "detect", real / "A" / "1.png", real / "B" / "1.png", "--model", tmp_path / "tuned", "-o", tmp_path / "x.png",
    )  # fmt: skip
    assert done.exit_code == 0 and done.stdout == f"{tmp_path / 'x.png'}\n" and "look at" in done.stderr
    done = run(
        "detect", real / "A", real / "B", "-m", tmp_path / "tuned" / "model.safetensors", "-o", tmp_path / "y",
        "--json", "-q",
    )  # fmt: skip
    told = json.loads(done.stdout)["pairs"]
    assert [Path(row["change"]).name for row in told] == ["1.png", "2.png"] and 0 <= told[0]["changed_share"] <= 1


def test_bad_requests_are_one_line(tmp_path: Path) -> None:
    real = real_set(tmp_path / "real")
    image = real / "A" / "1.png"
    for arguments, code, said in (
        (("detect", image, image), 2, "train-detector"),
        (("detect", image, image, "-m", tmp_path / "none"), 1, "none"),
        (("train-detector", tmp_path / "none", "-o", tmp_path / "d"), 2, "DATASET"),
        (("train-detector", real, "-o", tmp_path / "d", "--size", "1x256", "--init", "segmenter"), 2, "shape"),
        (("train-detector", real, "-o", tmp_path / "d", "--init", tmp_path / "none"), 1, "--init"),
        (("train-detector", real, "-o", tmp_path / "d", "--crop-size", 512), 2, "512 px"),
        (("evaluate", tmp_path, "--unchanged", real), 2, "--probe"),
    ):
        done = run(*arguments, "-q")
        assert done.exit_code == code and done.stdout == "", (arguments, done.stderr)
        assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and said in done.stderr
    assert not (tmp_path / "d").exists()


def test_the_probe_as_typed(tmp_path: Path) -> None:
    out, real = write_dataset(tmp_path / "out"), real_set(tmp_path / "real")
    done = run(
        "evaluate", out, "--no-likeness", "--real", real, "--probe", "--probe-pairs", 8, "--unchanged", real,
        "--threads", 1, "--detectors", tmp_path / "kept", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "zero-shot on real (levir-cd), 2 pairs" in done.stdout and "label exchange" in done.stdout
    assert (tmp_path / "kept" / "ours" / "model.safetensors").is_file()
