"""``changen push-to-hub`` as users run it: its own process, the client's own settings, a Hub on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import changen_cli
from changen_cli.cli.push import parse_size
from changen_cli.cli.upload_progress import UploadLines, size
from changen_cli.core.errors import UsageError
from tests.hub.datasets import make_sample, write_dataset
from tests.hub.server import serve
from tests.hub.state import Hub

ROOT = Path(changen_cli.__file__).parents[1]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    with serve(tmp_path / "hub") as found:
        yield found


@pytest.fixture
def start(hub: tuple[str, Hub], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return ``start(*arguments, **environment)``: a process of the command, or of ``-c`` code."""

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        env = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub[0], "HF_TOKEN": "hf_writer",
            "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "COLUMNS": "200",
        }  # fmt: skip
        line = [sys.executable, *(() if arguments[0] == "-c" else ("-m", "changen_cli.cli")), *arguments]
        return subprocess.Popen(
            line, env=env | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    return run


@pytest.fixture
def changen(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Return ``run(*arguments, **environment)``: exit code, standard output, standard error."""

    def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
        process = start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    return run


LOAD = """
import hashlib, json, sys
import numpy as np
from datasets import load_dataset
data = load_dataset("org/series", split="train")
digest = lambda image: hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
print(json.dumps([[row["image_name"], *(digest(row[f"t{t}_{kind}"]) for kind in ("image", "mask") for t in (1, 2))] for row in data]))
"""


def expected(count: int) -> list[list[str]]:
    import hashlib

    rows = []
    for number in range(count):
        sample = make_sample(number)
        arrays = [array for kind in (sample.images, sample.masks) for array in kind]
        rows.append([sample.id, *(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)])
    return rows


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_what_is_pushed_loads_pixel_for_pixel(
    changen: Callable[..., tuple[int, str, str]], hub: tuple[str, Hub], tmp_path: Path, layout: Any
) -> None:
    import json

    write_dataset(tmp_path / "out", 5, layout)
    code, out, err = changen("push-to-hub", "out", "--repo-id", "org/series", "--verify")
    assert (code, out) == (0, f"{hub[0]}/datasets/org/series\n")
    assert "6 files sent" in err and "3 samples loaded back are equal" in err and "cc-by-4.0" in err
    code, out, err = changen("-c", LOAD)
    assert code == 0, err
    assert json.loads(out) == expected(5)


def test_a_push_that_is_killed_mid_shard_goes_on_where_it_was(
    start: Callable[..., subprocess.Popen[str]], changen: Callable[..., tuple[int, str, str]],
    hub: tuple[str, Hub], tmp_path: Path,
) -> None:  # fmt: skip
    write_dataset(tmp_path / "out", 6, side=200)
    state, go_on = hub[1], threading.Event()
    fault = state.fault("^PUT", skip=2, cut_after=70_000, go_on=go_on)
    arguments = ("push-to-hub", "out", "--repo-id", "org/series", "--shard-size", "300kB", "--workers", "1")
    process = start(*arguments)
    assert fault.reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    go_on.set()
    assert len(state.uploads) == 2 and len(state.repos["dataset", "org/series"].messages) == 1
    assert len(list((tmp_path / "out" / ".push").glob("building-*/*.parquet"))) >= 1, "killed on the spot"

    code, _, err = changen(*arguments)
    assert code == 0, err
    assert "2 of 6 shards are on the Hub already" in err
    assert len(state.uploads) == 7 and set(state.uploads.values()) == {1}, "6 shards and the contact sheet, each once"
    assert sorted(state.started.values()) == [1, 1, 1, 1, 1, 1, 2], "only what was cut off began twice"
    assert not list((tmp_path / "out" / ".push").glob("building-*"))
    code, _, err = changen("-c", LOAD)
    assert code == 0, err


def test_ctrl_c_ends_it_at_once_and_keeps_what_was_sent(
    start: Callable[..., subprocess.Popen[str]], hub: tuple[str, Hub], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "out", 4, side=200)
    fault = hub[1].fault("^PUT", skip=1, cut_after=50_000, times=99)
    process = start("push-to-hub", "out", "--repo-id", "org/series", "--shard-size", "300kB", "--workers", "1")
    assert fault.reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "Interrupted. What was finished is kept." in err and "Traceback" not in err
    assert len(hub[1].repos["dataset", "org/series"].messages) == 1
    assert not list((tmp_path / "out" / ".push").glob("building-*"))


def test_a_dry_run_prints_what_would_be_done(
    changen: Callable[..., tuple[int, str, str]], hub: tuple[str, Hub], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "out", 2)
    code, out, _ = changen("push-to-hub", "out", "--repo-id", "org/series", "--private", "--dry-run")
    lines = out.splitlines()
    assert code == 0 and hub[1].repos == {}
    assert lines[0] == f"create  {hub[0]}/datasets/org/series (private, cc-by-4.0)"
    assert lines[1].startswith("send    data/train-00000-of-00001.parquet  ") and lines[1].endswith("kB")
    assert [line.split()[1] for line in lines[2:-1]] == [
        "classes.json",
        "checksums.sha256",
        "manifest.json",
        "preview.png",
        "README.md",
    ]
    assert lines[-1] == "Nothing was sent."


@pytest.mark.parametrize(
    ("code", "said", "more", "environment"),
    [
        (1, "does not accept the token", (), {"HF_TOKEN": "hf_expired"}),
        (1, "does not accept the token", ("--token-file", "expired"), {}),
        (2, "--token-file nowhere cannot be read", ("--token-file", "nowhere"), {}),
        (2, "--token-file empty is empty", ("--token-file", "empty"), {}),
        (1, "may not write to org/series", (), {"HF_TOKEN": "hf_reader"}),
        (1, "no access token", (), {"HF_TOKEN": ""}),
        (1, "cannot be reached", (), {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        (1, "cannot be reached", (), {"HF_HUB_OFFLINE": "1"}),
        (2, "no licence the Hugging Face Hub knows", ("--license", "mine"), {}),
        (2, "--shard-size", ("--shard-size", "2GB"), {}),
        (2, "--split", ("--split", "0.5,0.6"), {}),
        (2, "place(s) only", ("--split", "0.8,0.1,0.1"), {}),
    ],
)
def test_what_is_refused_in_one_line(
    changen: Callable[..., tuple[int, str, str]], hub: tuple[str, Hub], tmp_path: Path,
    code: int, said: str, more: tuple[str, ...], environment: dict[str, str],
) -> None:  # fmt: skip
    write_dataset(tmp_path / "out", 2)
    (tmp_path / "expired").write_text("hf_expired\n")
    (tmp_path / "empty").write_text("\n")
    found, out, err = changen("push-to-hub", "out", "--repo-id", "org/series", *more, **environment)
    assert found == code and out == ""
    assert err.startswith("Error: ") and said in err and err.count("\n") == 1
    assert "hf_" not in err.replace("hf_xet", "")
    assert hub[1].repos == {}


def test_the_token_shows_in_no_output_and_no_file(
    changen: Callable[..., tuple[int, str, str]], hub: tuple[str, Hub], tmp_path: Path
) -> None:
    write_dataset(tmp_path / "out", 2)
    hub[1].fault("^PUT", status=500)
    (tmp_path / "token").write_text("hf_writer\n")
    outputs = [
        changen("push-to-hub", "out", "--repo-id", "org/series", "--token-file", "token", HF_TOKEN="", **debug)
        for debug in ({}, {"CHANGEN_DEBUG": "1", "HF_DEBUG": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9", "CHANGEN_DEBUG": "1"})
    ]  # fmt: skip
    assert [code for code, _, _ in outputs] == [0, 0, 1]
    assert not any("hf_writer" in out + err for _, out, err in outputs)
    written = [path for folder in ("out", "home") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert not any(b"hf_writer" in path.read_bytes() for path in written)


def test_no_option_takes_the_token_itself(changen: Callable[..., tuple[int, str, str]]) -> None:
    """Whoever is on the machine can read the command lines of its processes."""
    for command in ("push-to-hub", "push-model"):
        code, out, err = changen(command, "out", "--repo-id", "org/series", "--token", "hf_" + "a" * 34)
        assert code == 2 and "No such option: --token" in err and "hf_aaa" not in out + err


def test_the_token_is_read_from_standard_input(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    write_dataset(tmp_path / "out", 2)
    code = "import sys; from changen_cli.cli.push import read_token; from pathlib import Path; print(read_token(Path('-')))"
    process = start("-c", f"import io, sys; sys.stdin = io.StringIO('hf_x\\n'); {code}")
    assert process.communicate(timeout=60)[0].strip() == "hf_x"


PEAK = """
import resource, sys
from changen_cli.cli.app import app
try:
    app(["push-to-hub", sys.argv[1], "--repo-id", "org/series", "--shard-size", "5MB", "--quiet"])
except SystemExit as done:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    sys.exit(done.code)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_dataset(
    changen: Callable[..., tuple[int, str, str]], hub: tuple[str, Hub], tmp_path: Path
) -> None:
    peaks = []
    for name, count in (("one", 3), ("thirty", 90)):
        out = write_dataset(tmp_path / name, count, side=512)
        code, printed, err = changen("-c", PEAK, str(out))
        assert code == 0, err
        peaks.append(int(printed.split()[-1]))
    assert len(hub[1].uploads) == 30 + 1, "140 MB, of which the first shard was there already, and a contact sheet"
    assert peaks[1] - peaks[0] < 50, peaks


@pytest.mark.parametrize(("text", "bytes_"), [("500MB", 500_000_000), ("0.2gb", 200_000_000), ("300 kB", 300_000)])
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_size(text) == bytes_
    assert parse_size(size(bytes_)) == bytes_


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "nan", "inf", "1TB", "501MB", "10"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--shard-size"):
        parse_size(text)


def test_progress_tells_bytes_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = UploadLines(every_s=0)
    lines.sent(0, 4_000_000)
    lines.sent(1_000_000, 4_000_000)
    said = capsys.readouterr().err
    assert said.startswith("1.0 MB of 4.0 MB sent, ") and said.endswith(" left\n") and said.count("\n") == 1
