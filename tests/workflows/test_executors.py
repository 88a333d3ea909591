"""Shards made in any order, by workers that know nothing of each other, add up to the dataset of one process."""

from __future__ import annotations

import pickle
import random
from itertools import count

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.manifest import library_versions
from changen_cli.core.recipe import Recipe
from changen_cli.workflows import executors
from changen_cli.workflows.executors import Job
from changen_cli.workflows.generate import generate
from changen_cli.workflows.shards import plan_tasks
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.workflows.worker import Kit, Worker, with_absolute_paths
from tests.conftest import write_pairs

from .runs import Stop, change, content


class Elsewhere(executors.Here):
    """Every shard is made by another worker, in no order; what goes to and fro could have gone over a network."""

    def __init__(self, recipe: Recipe, images: bool) -> None:
        super().__init__(recipe, images)
        self._asked = recipe

    def make(self, job: Job) -> str:
        kit = pickle.dumps(Kit(job.library, job.textures, job.source.meaning_of_255, job.facts))
        tasks = list(plan_tasks(job.source, job.recipe, job.todo))
        random.Random(4).shuffle(tasks)
        for number, task in zip(count(job.dataset.next_number), tasks, strict=False):
            images = job.facts.compute is not None
            worker = Worker(with_absolute_paths(self._asked), images, library_versions())
            worker.prepare(pickle.loads(kit))
            pickle.dumps(worker.make(pickle.loads(pickle.dumps(task)), number))
        if job.storage is not None:
            job.storage.pull()
        return ""


@pytest.mark.parametrize("layout", ["folder", "parquet"])
@pytest.mark.parametrize("limit", [None, 5])
def test_workers_give_the_bytes_of_one_process(layout, limit, tmp_path, make_recipe, monkeypatch) -> None:
    folder = write_pairs(tmp_path / "in", 4, size=192)
    (folder / "images" / "s1.png").write_bytes(b"broken")
    recipe = make_recipe(
        folder,
        source={"res": 96, "max_skipped": 0.5},
        output={"path": str(tmp_path / "whole" / "out"), "format": layout},
        run={"batch_size": 2, "shard_size": 2, "device": "cpu", "threads": 1},
        limit=limit,
    )
    generate(recipe)
    broken = change(recipe, output={"path": str(tmp_path / "out")})
    with pytest.raises(KeyboardInterrupt):
        generate(change(broken, run={"shard_size": 1}), Stop(1))
    monkeypatch.setattr(executors, "Here", Elsewhere)
    result = generate(broken)
    assert result.samples == (limit or 12)
    assert content(tmp_path / "out") == content(tmp_path / "whole" / "out")
    assert not (tmp_path / "out" / ".staging").exists()


def test_a_worker_with_other_versions_or_another_model_is_refused(tmp_path, make_recipe, model_file) -> None:
    recipe = make_recipe(write_pairs(tmp_path / "in", 1), output={"path": str(tmp_path / "out")})
    with pytest.raises(UsageError, match=r"has numpy .*, the run was started with 1\.0"):
        Worker(recipe, False, library_versions() | {"numpy": "1.0"}).facts()
    facts = Worker(recipe, True, library_versions()).facts()
    with pytest.raises(UsageError, match="draws with no model cpu float32, the others with tiny"):
        Worker(change(recipe, synthesis={"strength": 0.0}), True, library_versions()).prepare(Kit([], [], None, facts))


def test_what_a_cluster_needs_is_told_in_one_line(tmp_path, make_recipe) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    recipe = make_recipe(write_pairs(tmp_path / "in", 1), output={"path": str(tmp_path / "out")})
    for address, reason in (("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"), ("there:x", "names no port")):
        with pytest.raises(UsageError, match=reason):
            simulate_dataset(change(recipe, run={"executor": "ray", "ray_address": address}))
        assert not (tmp_path / "out").exists()
