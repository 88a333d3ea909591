"""The lock of an output folder, against real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from changen_cli.core import lock
from changen_cli.core.errors import LockedError
from changen_cli.core.lock import FILE_NAME, OutputLock, read_holder

HOLD = """
import sys, time
from pathlib import Path
from changen_cli.core.lock import OutputLock
with OutputLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of ``tmp_path / "out"``."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_live_one_is_respected_and_a_killed_ones_taken_over(other, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(LockedError, match=f"out is being written by process {other.pid} on .*, since 20") as error:
        OutputLock(out)
    assert error.value.exit_code == 4 and "\n" not in str(error.value)
    assert read_holder(out).pid == other.pid
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (out / FILE_NAME).is_file(), "nobody tidied up"
    assert read_holder(out) is None
    with OutputLock(out):
        assert read_holder(out).pid == os.getpid()
        with pytest.raises(LockedError):
            OutputLock(out)
    assert not out.exists(), "nothing came of it"


def test_it_leaves_what_lies_beside_it(tmp_path) -> None:
    (tmp_path / "mine").write_text("x")
    with OutputLock(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def note(path, **changes) -> None:
    with OutputLock(path.parent):
        text = path.read_text()
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(json.loads(text) | changes))


def test_another_machines_is_respected_while_it_is_touched(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.1)
    path = tmp_path / "out" / FILE_NAME
    note(path, host="elsewhere", pid=1)
    with pytest.raises(LockedError, match="process 1 on elsewhere"):
        OutputLock(path.parent)
    assert read_holder(path.parent).host == "elsewhere"
    old = time.time() - lock.STALE_S - 1
    os.utime(path, (old, old))
    assert read_holder(path.parent) is None
    with OutputLock(path.parent):
        pass


def test_the_holder_touches_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.05)
    with OutputLock(tmp_path / "out"):
        path = tmp_path / "out" / FILE_NAME
        os.utime(path, (0, 0))
        deadline = time.time() + 5
        while path.stat().st_mtime < 1 and time.time() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 1


def test_a_later_process_of_the_same_number_is_not_the_holder(tmp_path) -> None:
    path = tmp_path / "out" / FILE_NAME
    note(path, ticks=1)
    assert read_holder(path.parent) is None, "this very process has that number, and began later"


@pytest.mark.parametrize("jump_s", [-1e8, -200, 200, 1e8])
def test_another_machines_is_respected_whatever_the_clocks_say(jump_s, tmp_path, monkeypatch) -> None:
    """The clock of this machine jumps, or that of the other one is wrong."""
    monkeypatch.setattr(lock, "BEAT_S", 0.1)
    path = tmp_path / "out" / FILE_NAME
    note(path, host="elsewhere", pid=1)
    stop, now = threading.Event(), time.time() + jump_s

    def touch() -> None:
        while not stop.wait(0.05):
            os.utime(path, ns=(0, round(now * 1e9) + time.monotonic_ns() % 10**9))

    other = threading.Thread(target=touch)
    other.start()
    try:
        with pytest.raises(LockedError, match="process 1 on elsewhere"):
            OutputLock(path.parent)
    finally:
        stop.set()
        other.join()
    os.utime(path, (now, now))
    with OutputLock(path.parent):
        assert read_holder(path.parent).pid == os.getpid()


def test_the_folder_may_be_removed_at_any_moment(tmp_path) -> None:
    """The run before removes an output nothing came of."""
    out, end = tmp_path / "out", time.monotonic() + 1

    def disturb() -> None:
        while time.monotonic() < end:
            with suppress(OSError):
                out.rmdir()

    other = threading.Thread(target=disturb)
    other.start()
    while time.monotonic() < end:
        with OutputLock(out):
            pass
    other.join()


@pytest.mark.parametrize("content", ["", "half a", "[1]", '{"pid": 1}'])
def test_a_broken_note_locks_nobody_out(tmp_path, content) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert read_holder(tmp_path) is None
    with OutputLock(tmp_path / "."):
        pass


def test_without_kernel_locks_the_note_decides(other, tmp_path, monkeypatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LockedError):
        OutputLock(tmp_path / "out")
    other.kill()
    other.wait()
    with OutputLock(tmp_path / "out"):
        pass
