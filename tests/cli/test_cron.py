"""docs/cron.md is true: its crontab line makes a dataset whatever happens meanwhile, its units are valid."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from changen_cli.core.recipe_files import load_recipe
from changen_cli.workflows.generate import generate
from tests.conftest import write_pairs
from tests.workflows.runs import content

TEXT = (Path(__file__).parents[2] / "docs" / "cron.md").read_text()
COMMAND, FOLDER = "/opt/changen/bin/changen", "/data/series"
FIELD = re.compile(r"[\d*/,-]+")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def crontab_command() -> str:
    """The command of the crontab line, as cron reads it."""
    (line,) = blocks("crontab")
    *fields, command = line.strip().split(maxsplit=5)
    assert len(fields) == 5 and all(FIELD.fullmatch(field) for field in fields)
    assert "%" not in command and COMMAND in command and FOLDER in command
    return command


def write_recipe(folder: Path, *changes: tuple[str, str]) -> Path:
    """The recipe of the page, with some of its text replaced."""
    (text,) = blocks("yaml")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_the_recipe_of_the_page(tmp_path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    assert (recipe.run.time_budget, recipe.run.disk_budget) == (25 * 60, 200e9)
    assert recipe.source.input == str(tmp_path / "tiles") and crontab_command()


def test_the_units_of_the_page(tmp_path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    service, timer = blocks("ini")
    assert COMMAND in service
    (tmp_path / "changen.service").write_text(service.replace(COMMAND, sys.executable))
    (tmp_path / "changen.timer").write_text(timer)
    units = [str(tmp_path / name) for name in ("changen.service", "changen.timer")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "changen" in line]
    assert done.returncode == 0 and not said, done.stderr


class Cron:
    """Runs the line of the page as cron does: by ``sh``, in the home folder, with next to no environment."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "series"
        self.folder.mkdir()
        self.out = self.folder / "dataset"
        changen = tmp_path / "changen"
        changen.write_text(
            f'#!/bin/sh\nPYTHONPATH={Path(__file__).parents[2]} OMP_NUM_THREADS=1 exec {sys.executable} -m changen_cli.cli "$@"\n'
        )
        changen.chmod(changen.stat().st_mode | stat.S_IXUSR)
        self.command = crontab_command().replace(COMMAND, str(changen)).replace(FOLDER, str(self.folder))

    def start(self) -> subprocess.Popen[bytes]:
        home = self.folder.parent
        environment = {"HOME": str(home), "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        return subprocess.Popen(["/bin/sh", "-c", self.command], cwd=home, env=environment, stdin=subprocess.DEVNULL)

    def run(self) -> int:
        return self.start().wait(300)

    def samples(self) -> int:
        return len(list(self.out.glob("train/events/*.jsonl")))

    def pid(self) -> int:
        """Who holds the lock."""
        try:
            return int(json.loads((self.out / ".lock").read_text())["pid"])
        except (OSError, ValueError):
            return 0

    def until(self, condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 120
        while not condition() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was met"

    def lines(self) -> list[str]:
        return (self.folder / "cron.log").read_text().splitlines()


@pytest.mark.slow
def test_the_line_of_the_page_makes_the_dataset_of_an_unbroken_run(tmp_path) -> None:
    cron = Cron(tmp_path)
    source = write_pairs(cron.folder / "tiles", 14)
    # Slow enough to be met while it runs.
    changes = [
        ("shard_size: 16", "shard_size: 2"),
        ("run:\n", "synthesis: {strength: 0.5, inference_steps: 20}\nrun:\n"),
    ]
    short = [("time_budget: 25m", "time_budget: 1s"), *changes]
    recipe = write_recipe(cron.folder, *changes)
    assert generate(load_recipe(recipe, {"output.path": str(tmp_path / "whole" / "dataset")})).samples == 14

    write_recipe(cron.folder, *short)
    assert cron.run() == 3 and "is used up" in cron.lines()[-1]
    assert 2 <= cron.samples() < 12
    write_recipe(cron.folder, *changes)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, 137), (signal.SIGINT, 130), (signal.SIGKILL, 137)):
        before, process = cron.samples(), cron.start()
        cron.until(lambda before=before: cron.pid() and cron.samples() > before, process)
        holder = cron.pid()
        if number == signal.SIGTERM:
            assert cron.run() == 4 and f"process {holder} on" in cron.lines()[-1]
        os.kill(holder, number)
        assert process.wait(60) in (code, -number)
    write_recipe(cron.folder, ("time_budget: 25m", "time_budget: 5s"), *changes)
    (source / "images" / "s0.png").touch()  # a backup program, say
    runs = 0
    while cron.run() == 3:
        runs += 1
        assert runs < 14
    assert content(cron.out) == content(tmp_path / "whole" / "dataset")
    log = cron.lines()
    assert cron.run() == 0 and cron.lines() == log, "nothing to do, nothing to say"
    ends = [json.loads(line).get("reason", "")[:13] for line in (cron.out / "run.log").open() if '"end"' in line]
    assert {"SIGTERM", "Ctrl-C", "--time-budget"} <= {*ends} and ends[-1] == ""
