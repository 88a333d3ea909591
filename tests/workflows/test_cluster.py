"""Runs on a real Ray cluster of two nodes on this machine, with workers, nodes and the head killed under them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.recipe import Recipe
from changen_cli.workflows.generate import generate
from tests.conftest import write_pairs

from .conftest import manifest
from .runs import change, content
from .test_signals import start, wait_for

pytestmark = pytest.mark.cluster

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "loopback-tests-only-0123456789abcdef"}


class Nodes:
    """Two nodes with room for one worker each; the head has none."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        store = {"object_store_memory": 80_000_000, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **store})
        self.workers = [self.cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(2)]
        self.address = self.cluster.address

    def kill(self, node: Any) -> None:
        """End all processes of a node with SIGKILL."""
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    pytest.importorskip("ray", reason="Ray is not installed")
    cluster = Nodes()
    yield cluster
    cluster.cluster.shutdown()


Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "in", 14)


@pytest.fixture
def whole(source: Path, tmp_path: Path, make_recipe: Callable[..., Recipe], model_file: Path) -> Recipe:
    """The recipe of the run, and beside it what one unbroken process makes of it."""
    recipe = make_recipe(
        source,
        synthesis={"model": str(model_file), "inference_steps": 40, "strength": 1.0},
        output={"path": str(tmp_path / "whole" / "out")},
        run={"batch_size": 1, "device": "cpu", "threads": 1},
    )
    generate(recipe)
    return recipe


def begin(source: Path, out: Path, model: Path, nodes: Nodes) -> subprocess.Popen[str]:
    where = ("--executor", "ray", "--ray-address", nodes.address, "--shard-size", 1)
    process = start(source, out, model, *where)
    return process


def sealed(out: Path) -> int:
    return len(list(out.glob("shards/*.json")))


def workers_of_ray() -> list[int]:
    """Processes of our workers."""
    found = subprocess.run(["pgrep", "-f", "ray::Worker"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def test_two_nodes_give_the_bytes_of_one_process(nodes, source, tmp_path, model_file, whole) -> None:
    out = tmp_path / "out"
    process = begin(source, out, model_file, nodes)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert content(out) == content(whole.output_path)
    assert sealed(out) == 14 and not (out / ".staging").exists() and not (out / ".lock").exists()


def test_a_killed_worker_and_a_killed_node_cost_nothing_but_time(nodes, source, tmp_path, model_file, whole) -> None:
    out = tmp_path / "out"
    process = begin(source, out, model_file, nodes)
    wait_for(lambda: sealed(out) >= 2 and len(workers_of_ray()) == 2, process, 120)
    os.kill(workers_of_ray()[0], signal.SIGKILL)
    there = sealed(out)
    wait_for(lambda: sealed(out) >= there + 2, process, 120)
    nodes.kill(nodes.workers[0])
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert content(out) == content(whole.output_path)
    assert not (out / ".staging").exists()


def test_without_its_head_a_run_ends_and_goes_on_elsewhere(nodes, source, tmp_path, model_file, whole) -> None:
    out = tmp_path / "out"
    process = begin(source, out, model_file, nodes)
    wait_for(lambda: sealed(out) >= 2, process, 120)
    nodes.kill(nodes.cluster.head_node)
    began = time.monotonic()
    said = process.communicate(timeout=120)[1]
    assert time.monotonic() - began < 60
    assert process.returncode == 1, said
    lines = [line for line in said.splitlines() if line.startswith("Error")]
    assert len(lines) == 1 and "head of the Ray cluster" in lines[0] and "Traceback" not in said, said
    assert manifest(out)["status"] == "failed" and 2 <= sealed(out) < 14
    generate(change(whole, output={"path": str(out)}))
    assert content(out) == content(whole.output_path)


def test_it_ends_when_told_to(nodes, source, tmp_path, model_file, whole) -> None:
    out = tmp_path / "out"
    process = begin(source, out, model_file, nodes)
    wait_for(lambda: sealed(out) >= 2, process, 120)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 143 and time.monotonic() - began < 15, said
    assert manifest(out)["status"] == "interrupted"
    generate(change(whole, output={"path": str(out)}))
    assert content(out) == content(whole.output_path)
