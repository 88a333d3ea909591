"""Real runs, ended by signals from outside, and two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_pairs

from .conftest import manifest, rows

LAUNCH = [sys.executable, "-m", "changen_cli.cli"]


def start(source: Path, out: Path, model: Path, *more: object) -> subprocess.Popen[str]:
    """``changen generate`` with the tiny model, slow enough to be met while it runs."""
    arguments = (
        "generate", "-i", source, "-o", out, "--classes", "background,building,road", "--model", model,
        "--inference-steps", 40, "--strength", 1, "--device", "cpu", "--threads", 1, "--batch-size", 1, "--no-gate", "-q", *more,
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*LAUNCH, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_was_finished(number, code, tmp_path, model_file) -> None:
    source, out = write_pairs(tmp_path / "pairs", 12), tmp_path / "out"
    process = start(source, out, model_file)
    wait_for(lambda: len(list(out.glob("train/events/*.jsonl"))) >= 2, process)
    process.send_signal(number)
    began = time.monotonic()
    assert process.wait(20) == code
    assert time.monotonic() - began < 10
    said = process.communicate()[1]
    assert "Interrupted" in said and "Traceback" not in said
    assert manifest(out)["status"] == "interrupted"
    kept = [row["image_name"] for row in rows(out)]
    assert 2 <= len(kept) < 12
    assert kept == sorted(path.stem for path in (out / "train" / "events").iterdir())
    assert not (out / ".lock").exists()


def test_one_run_per_folder(tmp_path, model_file) -> None:
    source, out = write_pairs(tmp_path / "pairs", 6), tmp_path / "out"
    process = start(source, out, model_file)
    wait_for((out / ".lock").exists, process)
    wait_for(lambda: json.loads((out / ".lock").read_text() or "{}").get("pid") == process.pid, process)
    second = start(source, out, model_file)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 4, said
    assert said.count("\n") == 1 and f"process {process.pid} on" in said
    assert process.wait(120) == 0
    assert len(rows(out)) == 6
