"""``changen replay`` as people type it."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_replay_as_typed(pairs_tree, tmp_path) -> None:
    out = tmp_path / "out"
    asked = ("-i", pairs_tree, "-o", out, "--classes", "background,building,road", "--limit", 1, "--strength", 0, "-q")
    assert run("generate", *asked).exit_code == 0
    done = run("replay", out, "--sample", "s0_v00", "--quiet")
    assert (done.exit_code, done.stdout) == (0, "s0_v00: byte-identical, 10 files\n")
    image = out / "train" / "images" / "s0_v00_t1.png"
    Image.fromarray(np.array(Image.open(image)) ^ 1).save(image)
    done = run("replay", out, "--sample", "s0_v00", "--step", 0, "-q", "-o", tmp_path / "copy")
    assert done.exit_code == 3
    assert done.stdout.splitlines() == [
        "train/images/s0_v00_t1.png: differs, PSNR 48.13 dB, the stored file changed after it was written",
        "s0_v00, step 0: 1 of 8 files are not the same, byte for byte; masks and events are equal",
    ]
    assert (tmp_path / "copy" / "train" / "images" / "s0_v00_t1.png").is_file()
    told = json.loads(run("replay", out, "--sample", "s0_v00", "--json", "-q").stdout)
    assert told["labels_equal"] and not told["identical"] and len(told["files"]) == 10
    assert {"psnr_db": 48.13, "state": "differs"}.items() <= told["files"][1].items()
    wrong = run("replay", out, "--sample", "s0")
    assert wrong.exit_code == 2 and "Nearest: s0_v00" in wrong.stderr and wrong.stderr.count("\n") == 1
