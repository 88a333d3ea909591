"""Job arrays: ranks that never talk make one dataset, in any order, at once, and after being killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from changen_cli.core.errors import IncompleteError, LockedError, UsageError
from changen_cli.core.lock import OutputLock
from changen_cli.workflows.generate import generate
from changen_cli.workflows.ranks import Share, locked, share_of
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import write_pairs

from .conftest import manifest
from .runs import Stop, change, content

SMALL = {"batch_size": 2, "shard_size": 1, "device": "cpu", "threads": 1}


@pytest.fixture
def recipe(tmp_path, make_recipe):
    folder = write_pairs(tmp_path / "in", 7, size=128)
    (folder / "images" / "s2.png").write_bytes(b"broken")
    return make_recipe(
        folder, source={"res": 64, "max_skipped": 0.5}, output={"path": str(tmp_path / "out")}, run=SMALL
    )


def whole_of(recipe, tmp_path):
    whole = change(recipe, output={"path": str(tmp_path / "whole" / "out")})
    generate(whole)
    return content(whole.output_path)


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_the_last_rank_completes_the_dataset(layout, limit, recipe, tmp_path) -> None:
    recipe = change(recipe, output={"format": layout}, limit=limit)
    for rank in (1, 0, 2):
        result = generate(change(recipe, run={"rank": rank, "world_size": 3}))
        assert result.share == ("" if rank == 2 else f"rank {rank} of 3")
        assert manifest(recipe.output_path)["status"] == ("complete" if rank == 2 else "running")
    assert result.samples == (limit or 24)
    assert content(recipe.output_path) == whole_of(recipe, tmp_path)
    assert not (recipe.output_path / ".staging").exists()
    assert generate(change(recipe, run={"rank": 1, "world_size": 3})).nothing_to_do


def test_a_rank_that_was_cut_off_goes_on_and_so_does_a_run_without_ranks(recipe, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(change(recipe, run={"rank": 1, "world_size": 2}), Stop(1))
    assert generate(change(recipe, run={"rank": 0, "world_size": 2})).share
    there = {path.name for path in (recipe.output_path / "shards").glob("*.json")}
    with pytest.raises(IncompleteError, match="--time-budget"):
        generate(change(recipe, run={"rank": 1, "world_size": 2, "time_budget": 1e-6}))
    assert generate(recipe).samples == 24
    assert there < {path.name for path in (recipe.output_path / "shards").glob("*.json")}
    assert content(recipe.output_path) == whole_of(recipe, tmp_path)


def test_ranks_that_begin_at_once(recipe, tmp_path) -> None:
    arguments = ["-m", "changen_cli.cli", "simulate", "-i", recipe.source.input, "--res", "64", "--max-skipped", "1"]
    arguments += ["--classes", "background,building,road", "--shard-size", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "3"}
    runs = [
        subprocess.Popen(
            [sys.executable, *arguments, "-o", str(tmp_path / "out")],
            env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(3)
    ]  # fmt: skip
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], "".join(said)
    assert any("RANK" in text for text in said)
    out = change(recipe, output={"path": str(tmp_path / "whole" / "out")}, run={"shard_size": 16})
    simulate_dataset(out)
    here, there = content(tmp_path / "out"), content(out.output_path)
    assert {k: v for k, v in here.items() if k.startswith("train/")} == {
        k: v for k, v in there.items() if k.startswith("train/")
    }
    assert here["counts"] == there["counts"] and here["status"] == "complete"


def test_ranks_of_one_array_go_together_and_nothing_else_does(tmp_path) -> None:
    out = tmp_path / "out"
    with locked(out, Share(0, 2)), locked(out, Share(1, 2)):
        for other in (Share(), Share(0, 2), Share(2, 3)):
            with pytest.raises(LockedError, match=f"process {os.getpid()}"), locked(out, other):
                pass
    assert not out.exists()
    with OutputLock(out), pytest.raises(LockedError), locked(out, Share(0, 2)):
        pass


def slurm(task: int, first: int, last: int, step: int = 1) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": (last - first) // step + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "rank", "world_size"),
    [
        ({}, 0, 1),
        (slurm(3, 0, 7), 3, 8),
        (slurm(11, 10, 12), 1, 3),
        (slurm(20, 0, 30, 10), 2, 4),
        (slurm(5, 5, 5), 0, 1),
        ({"RANK": "2", "WORLD_SIZE": "4"}, 2, 4),
    ],
)
def test_ranks_of_slurm_and_torchrun(environment, rank, world_size, make_recipe, tmp_path) -> None:
    share = share_of(make_recipe(tmp_path), environment)
    assert (share.rank, share.world_size) == (rank, world_size)
    told = share_of(make_recipe(tmp_path, run={"rank": 0, "world_size": 1}), environment)
    assert told.is_whole, "what is said explicitly counts"


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"run": {"rank": 1}}, "--world-size of how many"),
        ({"run": {"world_size": 4}}, "--rank which one"),
        ({"run": {"rank": 4, "world_size": 4}}, "no rank 4 of 4"),
        ({"run": {"rank": 1, "world_size": 4}, "output": {"mode": "overwrite"}}, "--mode overwrite"),
        ({"run": {"rank": 1, "world_size": 4, "executor": "ray"}}, "shares out the work itself"),
        ({"run": {"rank": 1, "world_size": 4}, "source": {"input": "a.zip"}}, "unpack"),
    ],
)
def test_ranks_that_cannot_be(sections, reason, make_recipe, tmp_path) -> None:
    with pytest.raises(UsageError, match=reason):
        share_of(change(make_recipe(tmp_path), **sections), {})


def test_numbers_of_ranks_never_meet() -> None:
    taken = [number for rank in range(3) for _, number in zip(range(5), Share(rank, 3).numbers(7 + rank), strict=False)]
    assert len(set(taken)) == 15 and min(taken) >= 7
    assert Path(Share(1, 12).name).name == "00001-of-00012"
