"""Faults of disks and paths, really injected: what is left is sound, the message helps, and the next run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.errors import OutputError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.replay import replay
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.workflows.validate import validate
from tests.conftest import write_pairs

from .conftest import manifest, tree
from .disks import check_sound, small_disk
from .runs import Stop, change, content

RUN = {"batch_size": 1, "shard_size": 1, "device": "cpu", "threads": 1}


@pytest.fixture
def recipe(tmp_path, make_recipe):
    """Four small scenes; images without a model, or masks."""
    folder = write_pairs(tmp_path / "in", 4, size=96)
    return make_recipe(folder, synthesis={"strength": 0}, run=RUN, output={"path": str(tmp_path / "whole" / "out")})


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        yield disk


def command(recipe, out: Path, *more: object) -> Result:
    """The recipe as a command."""
    given = (
        "generate", "-i", recipe.source.input, "-o", out, "--classes", "background,building,road", "--strength", 0,
        "--shard-size", 1, "--batch-size", 1, "--device", "cpu", "--threads", 1, "-q", "--inference-steps", 4,
        "--model", recipe.synthesis.model, "--no-gate", *more,
    )  # fmt: skip
    return CliRunner().invoke(app, [str(argument) for argument in given])


def fills_up(disk, recipe, sizes_kb) -> None:
    generate(recipe)
    whole = content(recipe.output_path)
    out = disk.path / "out"
    here = change(recipe, output={"path": str(out)})
    met = set()
    for size_kb in sizes_kb:
        disk.clear()
        disk.remount(f"size={size_kb}k")
        with pytest.raises(OutputError, match=r"out cannot be written to: No space left on device\. Make room and run"):
            generate(here)
        met.add(check_sound(out))
        assert not list(disk.path.rglob(".partial*")) and not (out / ".lock").exists()
        assert not out.exists() or manifest(out)["status"] != "complete"
        disk.remount("size=20m")
        generate(here)
        assert content(out) == whole
    assert not [finding for finding in validate(out).findings if finding.severity == "error"]
    assert len(met) > 1, "it was full at several moments"


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_a_full_disk(layout, disk, recipe) -> None:
    """Between shards, and while the tables are written."""
    fills_up(disk, change(recipe, output={"format": layout}), (1100, 3600))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_a_disk_that_fills_up_at_any_moment(layout, disk, recipe) -> None:
    fills_up(disk, change(recipe, output={"format": layout}), range(4, 3700, 61))


def test_a_full_disk_as_users_meet_it(disk, recipe) -> None:
    disk.remount("size=1100k")
    out = disk.path / "out"
    done = command(recipe, out)
    assert done.exit_code == 1
    fix = "Make room and run the same command again: what is finished is kept"
    assert done.stderr == f"Error: {out} cannot be written to: No space left on device. {fix}\n"
    kept = check_sound(out)
    assert 0 < kept < 4
    disk.remount("size=20m")
    assert command(recipe, out).exit_code == 0
    assert replay(out, "s0_v00").identical


def test_a_disk_that_may_only_be_read(disk, recipe) -> None:
    out = disk.path / "out"
    disk.remount("size=20m")
    with pytest.raises(KeyboardInterrupt):
        generate(change(recipe, output={"path": str(out)}), Stop(2))
    before = tree(disk.path)
    disk.remount("ro")
    for folder in (out, disk.path / "new"):
        done = command(recipe, folder)
        assert done.exit_code == 1
        fix = "Make it writable, or choose another --output"
        assert done.stderr == f"Error: {folder} cannot be written to: Read-only file system. {fix}\n"
    assert replay(out, "s0_v00").identical, "reading is all it takes"
    assert tree(disk.path) == before
    disk.remount("rw")
    assert command(recipe, out).exit_code == 0
    assert manifest(out)["counts"]["samples"] == 4


def test_a_run_killed_over_its_first_file(recipe) -> None:
    """What is left then is no stranger's folder."""
    recipe.output_path.mkdir(parents=True)
    (recipe.output_path / ".partial-123-manifest.json").write_text('{"schema_ver')
    assert simulate_dataset(recipe).samples == 4
    assert not list(recipe.output_path.glob(".*"))


ODD = "50% done; $HOME `x` 'quoted\" [a*b]? #1: & ünï — 日本語 \\ {0} %s.zip"


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_odd_paths(layout, recipe, tmp_path) -> None:
    """Folders called anything: the dataset is the same, nothing is left beside it, and every command finds it."""
    recipe = change(recipe, output={"format": layout}, limit=2)
    generate(recipe)
    source, out = tmp_path / f"in {ODD}", tmp_path / f"out {ODD}" / f"-o {ODD}"
    shutil.copytree(recipe.source.input, source)
    odd = change(recipe, source={"input": str(source)}, output={"path": str(out)})
    with pytest.raises(KeyboardInterrupt):
        generate(odd, Stop(1))
    generate(odd)
    plain, found = content(recipe.output_path), content(out)
    for name in ("source", "README.md", "preview.png"):  # they say what the source is called
        del plain[name], found[name]
    assert found == plain
    assert not [finding for finding in validate(out).findings if finding.severity == "error"]
    assert replay(out, "s0_v00").identical
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    "name", ["ü 1 (2)", "50% #1", "a;b&c=d", "x" * 200, 'it\'s "so"', "日本語", "[a-b]*?", "%d %s", "-o"]
)
def test_odd_names_of_images(name, recipe, tmp_path) -> None:
    """Every image gives its sample, or is skipped with a reason; ids can be file names everywhere."""
    for folder in ("images", "masks"):
        place = Path(recipe.source.input) / folder
        (place / "s1.png").rename(place / f"{name}.png")
    result = simulate_dataset(change(recipe, output={"path": str(tmp_path / "out")}))
    assert result.samples == 4 and not result.skipped
    assert not [finding for finding in validate(tmp_path / "out").findings if finding.severity == "error"]
    for sample in (path.stem for path in (tmp_path / "out" / "train" / "events").iterdir()):
        assert sample.isascii() or sample.isprintable()
        assert replay(tmp_path / "out", sample).identical
