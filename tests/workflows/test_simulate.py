"""Runs that make masks only: the same as generate's, without torch, in the same layout."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import changen_cli
from changen_cli.core.errors import IncompleteError, OutputError, UsageError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.simulate import simulate_dataset

from .conftest import load, manifest, rows, tree

PAVING = {"rates": {"background": {"road": 0.1, "building": 0.1}}}
ONLY_WITH_IMAGES = {"nuisance"}


def both(recipe, tmp_path: Path, **output) -> tuple[Path, Path]:
    """What generate and simulate make of one recipe."""
    places = tmp_path / "whole", tmp_path / "masks"
    for run, place in zip((generate, simulate_dataset), places, strict=True):
        run(recipe.model_copy(update={"output": recipe.output.model_copy(update={"path": str(place), **output})}))
    return places


@pytest.mark.parametrize(
    ("layout", "events"),
    [
        ("xbd_tree", {}),
        ("pairs_tree", {"kinds": ["create", "remove", "transition"], "transitions": PAVING, "steps": 2}),
        ("photos", {}),
    ],
)
def test_masks_are_those_of_generate(layout, events, request, tmp_path, make_recipe) -> None:
    source = request.getfixturevalue(layout)
    recipe = make_recipe(source, events=events, synthesis={"strength": 0, "nuisance": "none"}, variants=2)
    whole, masks = both(recipe, tmp_path)
    assert {path.name for path in masks.iterdir()} == {path.name for path in whole.iterdir()}
    assert {path.name for path in (masks / "train").iterdir()} == {
        "masks", "instances", "changes", "objects", "events", "metadata.jsonl",
    }  # fmt: skip
    for kind in ("masks", "instances", "changes", "objects", "events"):
        made = tree(masks / "train" / kind)
        assert made and made == tree(whole / "train" / kind)
    assert tree(masks)["classes.json"] == tree(whole)["classes.json"]
    for ours, theirs in zip(rows(masks), rows(whole), strict=True):
        left_out = {key for key in theirs if "image_file" in key} | ONLY_WITH_IMAGES
        assert ours == {key: value for key, value in theirs.items() if key not in left_out}
        assert ours["event_count"] >= 1
        assert (source / ours["source_path"]).is_file()
    ours, theirs = manifest(masks), manifest(whole)
    assert (ours["images"], ours["model"], ours["device"], ours["threads"]) == (False, None, "", None)
    assert theirs["images"] is True
    for key in ("status", "counts", "statistics", "scenes", "skipped", "source", "fingerprint"):
        assert ours[key] == theirs[key]


def test_batches_and_workers_change_no_byte(pairs_tree, tmp_path, make_recipe) -> None:
    (pairs_tree / "images" / "s1.png").write_bytes(b"broken")
    made, told = [], []
    for run in ({"batch_size": 1}, {"batch_size": 3, "workers": 2}):
        output = {"path": str(tmp_path / "out"), "mode": "overwrite"}
        recipe = make_recipe(pairs_tree, output=output, run=run, variants=3, source={"max_skipped": 1.0})
        assert simulate_dataset(recipe).samples == 6
        made.append(tree(tmp_path / "out", leave_out=("manifest.json",)))
        told.append(
            {key: manifest(tmp_path / "out")[key] for key in ("scenes", "skipped", "statistics", "fingerprint")}
        )
    assert made[0] == made[1]
    assert told[0] == told[1] and len(told[0]["skipped"]) == 1


def test_a_limit_holds_for_workers_too(pairs_tree, tmp_path, make_recipe) -> None:
    output = {"path": str(tmp_path / "out")}
    assert simulate_dataset(make_recipe(pairs_tree, output=output, run={"workers": 2}, limit=2)).scenes == 2


@pytest.mark.parametrize("layout", ["folder", "parquet"])
@pytest.mark.usefixtures("offline")
def test_loads_with_datasets(layout, pairs_tree, tmp_path, make_recipe) -> None:
    from datasets import Image, load_dataset

    whole, masks = both(
        make_recipe(pairs_tree, events={"steps": 2}, synthesis={"strength": 0, "nuisance": "mild"}),
        tmp_path,
        format=layout,
    )
    data, complete = (load_dataset(str(place), split="train").with_format("numpy") for place in (masks, whole))
    assert len(data) == len(complete) == 3
    if layout == "parquet":
        assert data.column_names[:4] == ["t1_mask", "t2_mask", "change_mask", "image_name"]
    pictures = {name for name, feature in data.features.items() if isinstance(feature, Image)}
    assert pictures == {f"t{t}_{kind}" for t in (1, 2, 3) for kind in ("mask", "instances")} | {"change_mask"}
    for row, full in zip(data, complete, strict=True):
        for name in pictures:
            assert (row[name] == full[name]).all()
        assert ((row["t1_mask"] != row["t2_mask"]) == (row["change_mask"] > 0)).all()


def test_georeferenced_masks(tmp_path, make_recipe) -> None:
    import rasterio

    from changen_cli.workflows.setup import SAMPLE

    simulate_dataset(make_recipe(SAMPLE, source={"res": 512}, output={"path": str(tmp_path / "out")}, limit=1))
    (row,) = rows(tmp_path / "out")
    for column in ("t1_mask_file_name", "t2_mask_file_name", "change_mask_file_name"):
        with rasterio.open(tmp_path / "out" / "train" / row[column]) as file:
            assert file.crs is not None and list(file.transform)[:6] == row["transform"]


def test_the_preview_shows_masks(pairs_tree, tmp_path, make_recipe) -> None:
    from PIL import Image

    from changen_cli.writers.drawing import CREATED, REMOVED

    out = tmp_path / "out"
    recipe = make_recipe(pairs_tree, output={"path": str(out)}, events={"change_area": "5-10%"})
    assert simulate_dataset(recipe).preview == out / "preview.png"
    sheet = np.asarray(Image.open(out / "preview.png"))
    for color in ((222, 31, 7), CREATED, REMOVED):  # buildings, and what happened to them
        assert (sheet[100:] == color).all(axis=-1).any()
    assert "without images" in (out / "README.md").read_text()


class Stop(Silent):
    """Presses Ctrl-C when so many samples are done."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def scene(self, images_done: int, samples_done: int) -> None:
        if samples_done >= self.samples:
            raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_keeps_what_it_finished(workers, pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    run = {"batch_size": 1, "workers": workers}
    recipe = make_recipe(pairs_tree, output={"path": str(out)}, run=run, variants=4)
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(recipe, Stop(2))
    kept = rows(out)
    assert manifest(out)["status"] == "interrupted"
    assert manifest(out)["counts"]["samples"] == len(kept) >= 2
    for row in kept:
        assert load(out, row["change_mask_file_name"]).any()
        assert (out / "train" / row["events_file"]).is_file()
    assert (out / "preview.png").is_file() and not (out / ".staging").exists()


def test_bad_input_writes_nothing(pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    there = {"output": {"path": str(out)}}
    with pytest.raises(UsageError, match="does not exist"):
        simulate_dataset(make_recipe(tmp_path / "nowhere", **there))
    with pytest.raises(OutputError, match="input folder"):
        simulate_dataset(make_recipe(pairs_tree, output={"path": str(pairs_tree)}))
    for path in (pairs_tree / "masks").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(IncompleteError, match="no sample could be made"):
        simulate_dataset(make_recipe(pairs_tree, **there))
    assert not out.exists()


COMMAND = """
import sys
from changen_cli.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as done:
    print("EXIT", done.code or 0)
print("LOADED", sorted({"torch", "diffusers", "accelerate", "safetensors", "transformers", "datasets"} & set(sys.modules)))
"""


@pytest.mark.parametrize("layout", ["xbd_tree", "photos"])
def test_no_torch(layout, request, tmp_path) -> None:
    source = request.getfixturevalue(layout)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "simulate", "-i", str(source), "-o", str(tmp_path / "out"), "--json", "-q"],
        capture_output=True, text=True, env={"PATH": "", "PYTHONPATH": str(Path(changen_cli.__file__).parents[1])}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, exit_line, loaded = done.stdout.splitlines()
    assert json.loads(said)["samples"] == 2
    assert (exit_line, loaded) == ("EXIT 0", "LOADED []")
