"""Whole runs in which buildings are damaged: label-safe with a model that knows no states, and with one that does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.workflows.estimate import estimate
from changen_cli.workflows.generate import generate
from changen_cli.workflows.plans import open_labelled_source
from changen_cli.workflows.progress import Silent

from .conftest import load, manifest, rows, tree

STATES = ("background", "no-damage", "minor-damage", "major-damage", "destroyed")


class Notes(Silent):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def knowing_model(tmp_path, tiny_hybrid) -> Path:
    """A tiny model with a label plane for every state."""
    from changen_cli.synthesis.models import save_model

    path = tmp_path / "knowing.safetensors"
    save_model(tiny_hybrid(label_channels=5, classes=("building", *STATES[2:])), path, images_seen=0)
    return path


def check(out: Path) -> list[dict[str, object]]:
    """What the masks, change masks and events of every sample must agree on; returns all events."""
    logged = []
    for row in rows(out):
        masks = [load(out, name) for name in row["mask_file_names"]]
        changes = [load(out, name) > 0 for name in row["change_file_names"]]
        events = [json.loads(line) for line in (out / "train" / row["events_file"]).read_text().splitlines()]
        for t, change in enumerate(changes):
            assert ((masks[t] != masks[t + 1]) == change).all()
            assert change.sum() == sum(event["area_px"] for event in events if event["step"] == t)
        logged += events
    return logged


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_label_safe(xbd_tree, tmp_path, make_recipe, strength) -> None:
    given = {
        "events": {"kinds": ("damage",), "disaster": "fire", "steps": 3, "rebuild": 0.5},
        "synthesis": {"nuisance": "none", "strength": strength},
    }
    told, out = Notes(), tmp_path / "out"
    result = generate(make_recipe(xbd_tree, output={"path": str(out)}, **given), told)
    assert result.samples == 2
    events = check(out)
    assert {(event["kind"], event["from_name"], event["to_name"]) for event in events} == {
        ("damage", "no-damage", "destroyed"),
        ("damage", "destroyed", "no-damage"),
    }
    assert all("-" in str(event["object_id"]) for event in events), "the names of the source"
    back = [event for event in events if event["to_class"] == 1]
    assert all((event["scale"], event["rotation_deg"], event["mirrored"]) == (1, 0, False) for event in back)
    for row in rows(out):
        masks = np.stack([load(out, name) for name in row["mask_file_names"]])
        images = np.stack([load(out, name) for name in row["image_file_names"]]).astype(int)
        assert set(np.unique(masks)) <= {0, 1, 4}
        # The houses of these scenes are brighter than the ground: gone when destroyed, there again when rebuilt.
        assert images[1][masks[1] == 4].mean() < images[0][masks[1] == 4].mean() - (30 if strength == 0 else 5)
        if strength == 0:
            again = (masks[0] == 1) & (masks[1] == 4) & (masks[2] == 1)
            assert not again.any() or np.abs(images[2][again] - images[0][again]).mean() < 8
    (line,) = [line for line in told.lines if line.startswith("damage: fire, label-safe")]
    assert ("--strength 0" if strength == 0 else "tiny.safetensors") in line
    done = manifest(out)
    assert tuple(done["source"]["classes"]) == STATES
    assert (done["source"]["damage"]["label_safe"], done["source"]["damage"]["disaster"]) == (True, "fire")
    counted = {(pair["from_class"], pair["to_class"]): pair["events"] for pair in done["statistics"]["damage"]}
    assert counted == {(1, 4): len(events) - len(back), (4, 1): len(back)}
    card = (out / "README.md").read_text()
    assert "simulated building damage" in card
    assert "only go from no-damage to destroyed" in card
    again = tmp_path / "again"
    generate(make_recipe(xbd_tree, output={"path": str(again)}, run={"batch_size": 1, "device": "cpu"}, **given))
    assert tree(out / "train") == tree(again / "train")


@pytest.mark.parametrize("start", ["exemplar", "noise"])
def test_a_model_that_knows_the_states_draws_them(xbd_tree, tmp_path, make_recipe, knowing_model, start) -> None:
    told, out = Notes(), tmp_path / "out"
    recipe = make_recipe(
        xbd_tree,
        events={"kinds": ("damage",), "disaster": "earthquake", "steps": 2, "change_area": "8-10%"},
        synthesis={"model": str(knowing_model), "nuisance": "none", "start": start},
        output={"path": str(out)},
    )
    generate(recipe, told)
    assert {event["to_name"] for event in check(out)} == set(STATES[2:])
    for row in rows(out):
        before, after = (load(out, row[f"t{t}_image_file_name"]) for t in (1, 2))
        changed = load(out, row["change_mask_file_name"]) > 0
        assert (before[changed] != after[changed]).any(axis=-1).mean() > 0.9
    assert manifest(out)["source"]["damage"]["label_safe"] is False
    assert any(line.startswith("damage: earthquake; no-damage") for line in told.lines)
    assert "label-safe" not in (out / "README.md").read_text()


def test_noise_does_not_make_a_model_know(xbd_tree, tmp_path, make_recipe) -> None:
    recipe = make_recipe(
        xbd_tree,
        events={"kinds": ("damage",), "steps": 2},
        synthesis={"start": "noise"},
        output={"path": str(tmp_path / "out")},
    )
    generate(recipe)
    assert {event["to_name"] for event in check(tmp_path / "out")} == {"destroyed"}


def test_masks_of_several_classes_and_kinds_that_mix(pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    matrix = {"rates": {"building": {"background": 0.1}, "destroyed": {"background": 0.1}}}
    recipe = make_recipe(
        pairs_tree,
        events={
            "kinds": ("damage", "remove", "transition"),
            "disaster": "flood",
            "transitions": matrix,
            "steps": 2,
            "change_area": "8-12%",
        },
        output={"path": str(out)},
    )
    result = generate(recipe)
    assert set(result.statistics["events"]) == {"damage", "remove", "transition"}
    check(out)
    names = [entry["name"] for entry in json.loads((out / "classes.json").read_text())["classes"]]
    assert names == ["background", "building", "road", *STATES[2:]]
    assert estimate(recipe, Silent()).samples == 3


def test_what_cannot_be_asked(photos, pairs_tree, make_recipe) -> None:
    with pytest.raises(UsageError, match="nobody knows what is a building"):
        open_labelled_source(make_recipe(photos, events={"kinds": ("damage",)}))
    many = {"input": str(pairs_tree), "classes": ("background", "building", *(f"c{n}" for n in range(252)))}
    with pytest.raises(UsageError, match="adds three classes"):
        open_labelled_source(make_recipe(pairs_tree, source=many, events={"kinds": ("damage",)}))


def test_binary_masks_may_not_hold_states_by_accident(pairs_tree, make_recipe) -> None:
    """The three new ids are ours: in the files they are as wrong as before."""
    for path in (pairs_tree / "masks").iterdir():
        Image.fromarray(np.minimum(np.asarray(Image.open(path)), 1) * 2).save(path)
    named = {"input": str(pairs_tree), "classes": ("background", "building")}
    source = open_labelled_source(make_recipe(pairs_tree, source=named, events={"kinds": ("damage",)}))
    assert source.schema.names == STATES
    assert all("the mask holds 2" in item.reason for item in source)
