"""Faults of sources, clocks and processes while runs are on, really injected."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from changen_cli.core.errors import ChangenError, IncompleteError, SceneError
from changen_cli.core.shards import read_shards
from changen_cli.sources import readers
from changen_cli.workflows.replay import replay
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import picture, write_pairs

from .conftest import manifest
from .disks import check_sound
from .runs import Told, change, content
from .test_signals import LAUNCH, wait_for

RUN = {"batch_size": 1, "shard_size": 2, "device": "auto", "threads": 1}

DEFAULTS = {"model": "changen-mini", "inference_steps": 10, "strength": 0.1}


@pytest.fixture
def recipe(tmp_path, make_recipe):
    """Eight small scenes; masks only, as the command makes them."""
    folder = write_pairs(tmp_path / "in", 8, size=96)
    return make_recipe(folder, synthesis=DEFAULTS, run=RUN, output={"path": str(tmp_path / "out")})


@pytest.fixture
def last(tmp_path) -> Path:
    """The image read last."""
    return tmp_path / "in" / "images" / "s7.png"


class Meanwhile(Told):
    """Does something once the first sample is there: all names are listed then, and the last images not yet read."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self.act: Callable[[], object] | None = act

    def scene(self, images_done: int, samples_done: int) -> None:
        if self.act and samples_done:
            act, self.act = self.act, None
            act()


def whole(recipe, tmp_path):
    """What an unbroken run makes."""
    other = change(recipe, output={"path": str(tmp_path / "whole" / "out")})
    simulate_dataset(other)
    return content(other.output_path)


def test_an_image_vanishes(recipe, last, tmp_path) -> None:
    want = whole(recipe, tmp_path)
    kept = last.read_bytes()
    told = Meanwhile(last.unlink)
    result = simulate_dataset(recipe, told)
    assert result.samples == 7 and result.failed == 1
    (skip,) = manifest(recipe.output_path)["skipped"]
    assert skip["path"] == "images/s7.png" and "does not exist" in skip["reason"] and skip["failed"]
    assert any("skipped images/s7.png" in note for note in told.notes)
    last.write_bytes(kept)
    assert simulate_dataset(change(recipe, output={"mode": "extend"})).samples == 8
    assert {**content(recipe.output_path), "README.md": 0} == {**want, "README.md": 0}, "the mode is on the card"


def test_the_folder_vanishes(recipe, tmp_path) -> None:
    """A network disk goes away, and comes back."""
    want, folder = whole(recipe, tmp_path), tmp_path / "in"
    with pytest.raises(IncompleteError, match=r"\d of 8 images failed, more than --max-skipped 20%"):
        simulate_dataset(recipe, Meanwhile(lambda: folder.rename(tmp_path / "gone")))
    assert 0 < check_sound(recipe.output_path) < 8
    with pytest.raises(ChangenError, match=f"{folder} does not exist"):
        simulate_dataset(recipe)
    (tmp_path / "gone").rename(folder)
    assert simulate_dataset(recipe).samples == 8, "the same command goes on"
    assert content(recipe.output_path) == want


def test_an_image_changes_after_objects_were_taken_from_it(recipe, last) -> None:
    told = Meanwhile(lambda: Image.fromarray(picture(77, 96)[0]).save(last))
    assert simulate_dataset(recipe, told).samples == 8
    assert manifest(recipe.output_path)["changed"] == {"images/s7.png": "changed"}
    assert any("1 images changed after something was made of them: images/s7.png" in note for note in told.notes)


def test_an_image_changes_before_it_is_read(recipe, last) -> None:
    """What is recorded is what the sample was made of."""
    recipe = change(recipe, events={"kinds": ("remove",)})
    simulate_dataset(recipe, Meanwhile(lambda: Image.fromarray(picture(77, 96)[0]).save(last)))
    assert manifest(recipe.output_path)["changed"] == {}
    assert replay(recipe.output_path, "s7_v00").identical
    Image.fromarray(picture(78, 96)[0]).save(last)
    with pytest.raises(SceneError, match=r"s7.png or its label changed"):
        replay(recipe.output_path, "s7_v00")


def while_it_is_read(monkeypatch, name: str, times: int) -> None:
    """Write to an image right after its pixels were read, the first few times."""
    read, left = readers.read_scene, [times]

    def reading(candidate, *rest, **more):
        scene = read(candidate, *rest, **more)
        if candidate.path.name == name and left[0]:
            left[0] -= 1
            with candidate.path.open("ab") as file:
                file.write(b"x")
        return scene

    monkeypatch.setattr(readers, "read_scene", reading)


def test_an_image_changes_while_it_is_read(recipe, monkeypatch) -> None:
    recipe = change(recipe, events={"kinds": ("remove",)})
    while_it_is_read(monkeypatch, "s7.png", 1)
    assert simulate_dataset(recipe).samples == 7
    (skip,) = manifest(recipe.output_path)["skipped"]
    assert skip == {
        "path": "images/s7.png",
        "reason": "it or its label changed or vanished while it was read",
        "failed": True,
    }
    assert simulate_dataset(change(recipe, output={"mode": "extend"})).samples == 8


def test_an_image_changes_while_objects_are_taken_from_it(recipe, monkeypatch) -> None:
    while_it_is_read(monkeypatch, "s7.png", 1)
    with pytest.raises(SceneError, match=r"s7.png or its label changed while it was read\. Run again"):
        simulate_dataset(recipe)
    assert not recipe.output_path.exists()
    assert simulate_dataset(recipe).samples == 8


JUMPING = """
import random, sys, time
jumps, now = random.Random(int(sys.argv.pop(1))), time.time
time.time = lambda: now() + jumps.choice((-1e9, -3600, 0, 3600, 1e9))
from changen_cli.cli.app import main
main()
"""


def start(launch: list[str], recipe, *more: object) -> subprocess.Popen[str]:
    """``changen simulate`` as a process."""
    given = (
        "simulate", "-i", recipe.source.input, "-o", recipe.output_path, "--classes", "background,building,road", "-q",
        "--shard-size", recipe.run.shard_size, "--variants", recipe.variants, *more,
    )  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launch, *map(str, given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_clocks_jump_within_runs_and_between(recipe, tmp_path) -> None:
    """Hours and decades, forwards and backwards: budgets are kept by a clock that does not, and nothing is made twice."""
    want = whole(recipe, tmp_path)
    codes, shards = [], []
    for seed, budget in ((1, "0.001s"), (2, "0.001s"), (3, "1h")):
        process = start([sys.executable, "-c", JUMPING, str(seed)], recipe, "--time-budget", budget)
        _, said = process.communicate(timeout=120)
        assert "Traceback" not in said, said
        codes.append(process.returncode)
        shards.append(len([*read_shards(recipe.output_path)]))
        for path in (tmp_path / "in").rglob("*.png"):
            os.utime(path, (seed * 1e9, seed * 1e9))
    assert (codes, shards) == ([3, 3, 0], [1, 2, 4]), said
    assert content(recipe.output_path) == want
    assert manifest(recipe.output_path)["changed"] == {}


def attempt(recipe, barrier) -> None:
    barrier.wait()
    try:
        simulate_dataset(recipe)
    except ChangenError as error:
        os.write(2, f"{error}\n".encode())  # in one piece: several processes say so at once
        os._exit(error.exit_code)
    os._exit(0)


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_many_runs_begin_at_once(rounds, recipe, tmp_path, capfd) -> None:
    """On an output that is not there, is there, or was cut off: one makes it, the others are told who does."""
    want, context = whole(recipe, tmp_path), multiprocessing.get_context("fork")
    for number in range(rounds):
        barrier = context.Barrier(5)
        processes = [context.Process(target=attempt, args=(recipe, barrier)) for _ in range(5)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        codes = sorted(process.exitcode for process in processes)
        said = capfd.readouterr().err.splitlines()
        assert set(codes) <= {0, 4} and codes[0] == 0, said
        assert len(said) == codes.count(4) and all("out is being written by " in line for line in said)
        assert content(recipe.output_path) == want
        assert not (recipe.output_path / ".lock").exists()
        if number % 3 == 0:
            shutil.rmtree(recipe.output_path)
        elif number % 3 == 1:
            (recipe.output_path / "shards" / "00001.json").unlink()
            text = (recipe.output_path / "manifest.json").read_text()
            (recipe.output_path / "manifest.json").write_text(text.replace('"complete"', '"running"'))


def children(pid: int) -> list[int]:
    """Processes that simulate for another one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("victim", ["worker", pytest.param("run", marks=pytest.mark.slow)])
def test_one_of_several_processes_is_killed(victim, recipe, tmp_path) -> None:
    recipe = change(recipe, variants=6)
    want, out = whole(recipe, tmp_path), recipe.output_path
    process = start(LAUNCH, recipe, "--workers", 2)
    wait_for(lambda: (out / "shards" / "00000.json").exists() and len(children(process.pid)) == 2, process)
    workers = children(process.pid)
    os.kill(process.pid if victim == "run" else workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    if victim == "worker":
        fix = "Run the same command again to go on, with fewer --workers"
        assert said == f"Error: a process that simulates died, for want of memory perhaps. {fix}\n"
        assert process.returncode == 1
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers end with their run"
        time.sleep(0.05)
    assert 0 < check_sound(out) < 48
    simulate_dataset(recipe)
    assert content(out) == want


BROKEN: tuple[Callable[[Path], object], ...] = (
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:200]),
    lambda path: path.write_text("no image"),
    lambda path: Image.new("RGB", (10, 10)).save(path, "PNG"),
)


MEASURED = """
import atexit, resource, sys
from changen_cli.cli.app import main
atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))
main()
"""


@pytest.mark.slow
def test_ten_thousand_scenes_of_which_five_percent_are_broken(tmp_path, make_recipe) -> None:
    """Each is either a sample or a skip with its reason, and memory does not grow with their number."""
    peaks_mb, draw = [], random.Random(0)
    drawn = write_pairs(tmp_path / "drawn", 20, size=48)
    for count in (1000, 10_000):
        source, broken = tmp_path / f"in{count}", set(draw.sample(range(count), count // 20))
        for folder in ("images", "masks"):
            (source / folder).mkdir(parents=True)
            for index in range(count):
                target = source / folder / f"s{index:05d}.png"
                shutil.copyfile(drawn / folder / f"s{index % 20}.png", target)
                if index in broken and folder == "images":
                    BROKEN[index % 4](target)
        out = str(tmp_path / f"out{count}")
        recipe = make_recipe(source, synthesis=DEFAULTS, output={"path": out}, run={"shard_size": 64})
        began = time.monotonic()
        process = start([sys.executable, "-c", MEASURED], recipe)
        _, said = process.communicate(timeout=3000)
        assert process.returncode == 0, said
        peaks_mb.append(int(said.splitlines()[-1]) / 1024)
        print(f"{count} scenes: {time.monotonic() - began:.0f} s, {peaks_mb[-1]:.0f} MB")
        counts = manifest(recipe.output_path)["counts"]
        assert counts == {
            "samples": count - count // 20,
            "scenes": count - count // 20,
            "skipped": count // 20,
            "failed": count // 20,
        }
        names = {skip["path"] for skip in manifest(recipe.output_path)["skipped"] if skip["reason"]}
        assert names == {f"images/s{index:05d}.png" for index in broken}
    assert peaks_mb[1] - peaks_mb[0] < 50
    assert simulate_dataset(recipe).nothing_to_do
