"""Whole runs in which land cover changes, over a folder with several classes and no building."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.transition_fit import fit_transitions

from .conftest import load, manifest, rows, tree

NAMES = ("unlabelled", "soil", "meadow", "forest", "lake")


class Notes(Silent):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def country(tmp_path: Path) -> Path:
    """Two scenes of soil, meadow and forest; the second one has a lake."""
    root = tmp_path / "country"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for scene in range(2):
        rng = np.random.default_rng(scene)
        mask = np.ones((128, 128), np.uint8)
        mask[:, 40:80], mask[:, 80:] = 2, 3
        mask[:5, :30] = 0
        mask[100:, :] = 4 if scene else 3
        colours = np.array([(90, 90, 90), (170, 150, 120), (120, 150, 80), (40, 80, 40), (30, 50, 90)])
        image = np.clip(colours[mask] + rng.normal(0, 6, (128, 128, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"s{scene}.png")
        Image.fromarray(mask).save(root / "masks" / f"s{scene}.png")
    return root


def test_land_cover_changes_without_any_building(country, tmp_path, make_recipe) -> None:
    given = {
        "source": {"input": str(country), "classes": NAMES},
        "events": {"kinds": ("transition",), "transitions": "flood", "steps": 2},
        "synthesis": {"nuisance": "none", "strength": 0.0},
    }
    told = Notes()
    out = tmp_path / "out"
    result = generate(make_recipe(country, output={"path": str(out)}, **given), told)
    assert result.samples == 2
    (line,) = [line for line in told.lines if line.startswith("transitions (flood)")]
    assert "soil to lake 0.3" in line and "forest to lake 0.1" in line
    assert "edge of lake advances 2-15 m over soil, meadow, forest: 50% of a step" in told.lines
    for row in rows(out):
        masks = [load(out, name) for name in row["mask_file_names"]]
        images = [load(out, name) for name in row["image_file_names"]]
        changes = [load(out, name) > 0 for name in row["change_file_names"]]
        events = [json.loads(text) for text in (out / "train" / row["events_file"]).read_text().splitlines()]
        assert {(event["kind"], event["to_name"]) for event in events} == {("transition", "lake")}
        for t, change in enumerate(changes):
            assert ((masks[t] != masks[t + 1]) == change).all()
            assert change.sum() == sum(event["area_px"] for event in events if event["step"] == t)
            assert not change[masks[t] == 255].any()
            assert (images[t][~change] == images[t + 1][~change]).all()
            # Water from the other scene, where the own one has none.
            assert np.abs(images[t + 1][change].mean(axis=0) - (30, 50, 90)).max() < 15
    done = manifest(out)
    assert done["recipe"]["events"]["transitions"]["rates"]["bareland"] == {"water": 0.3}
    assert done["recipe"]["events"]["transitions"]["moves"][0]["class"] == "water"
    assert [scene["gsd_m"] for scene in done["scenes"]] == [None, None]
    pairs = done["statistics"]["transitions_px"]
    assert {(pair["from_class"], pair["to_class"]) for pair in pairs} == {(1, 4), (2, 4), (3, 4)}
    assert sum(pair["reached"] for pair in pairs) == pytest.approx(sum(pair["asked"] for pair in pairs), rel=0.2)
    again = tmp_path / "again"
    generate(make_recipe(country, output={"path": str(again)}, run={"batch_size": 1, "device": "cpu"}, **given))
    assert tree(out / "train") == tree(again / "train")


def test_what_was_learned_from_a_dataset_makes_another(country, tmp_path, make_recipe) -> None:
    events = {"kinds": ("transition",), "transitions": {"rates": {"soil": {"meadow": 0.2}, "meadow": {"forest": 0.1}}}}
    given = {"source": {"input": str(country), "classes": NAMES}, "synthesis": {"strength": 0.0}}
    generate(make_recipe(country, events={**events, "steps": 3}, output={"path": str(tmp_path / "first")}, **given))
    learned = fit_transitions(tmp_path / "first", output=tmp_path / "learned.yaml")
    assert learned.pairs == 6
    assert {of: set(row) for of, row in learned.table.rates.items()} == {"soil": {"meadow"}, "meadow": {"forest"}}
    told = Notes()
    events["transitions"] = str(tmp_path / "learned.yaml")
    generate(make_recipe(country, events=events, output={"path": str(tmp_path / "second")}, **given), told)
    low, high = learned.table.change_area
    assert f"changed share of a step: {low:.2%} to {high:.2%}, as the matrix says" in told.lines
    for row in rows(tmp_path / "second"):
        assert all(0.8 * low <= share <= 1.2 * high for share in row["changed_fraction"])


def test_a_class_nobody_shows_is_told_in_one_line(country, tmp_path, make_recipe) -> None:
    matrix = {"rates": {"soil": {"lake": 0.3, "meadow": 0.1}}}
    for folder in ("images", "masks"):
        (country / folder / "s1.png").unlink()
    recipe = make_recipe(
        country,
        source={"input": str(country), "classes": NAMES},
        events={"kinds": ("transition",), "transitions": matrix},
        output={"path": str(tmp_path / "out")},
    )
    told = Notes()
    generate(recipe, told)
    assert "the first scenes show no lake: nothing becomes lake but in tiles that show it" in told.lines
    assert {
        pair["to_class"] for pair in manifest(tmp_path / "out")["statistics"]["transitions_px"] if pair["reached"]
    } == {2}


def test_all_kinds_mix(pairs_tree, tmp_path, make_recipe) -> None:
    matrix = {"rates": {"background": {"road": 0.1}, "building": {"background": 0.1}}}
    recipe = make_recipe(
        pairs_tree,
        events={"kinds": ("create", "remove", "transition"), "transitions": matrix, "change_area": "8-12%"},
        output={"path": str(tmp_path / "out")},
    )
    result = generate(recipe)
    assert set(result.statistics["events"]) == {"create", "remove", "transition"}
    assert "object creation, object removal and class transition" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("transitions", "message"),
    [
        ({"rates": {"urban": {"crops": 0.1}}}, "none of them is between classes of these masks"),
        ({"rates": {"meadov": {"soil": 0.1}}}, r"unknown class meadov \(did you mean meadow\?\)"),
    ],
)
def test_matrices_that_do_not_fit_are_told_at_once(country, tmp_path, make_recipe, transitions, message) -> None:
    recipe = make_recipe(
        country,
        source={"input": str(country), "classes": NAMES},
        events={"kinds": ("transition",), "transitions": transitions},
        output={"path": str(tmp_path / "out")},
    )
    with pytest.raises(UsageError, match=message):
        generate(recipe)
    assert not (tmp_path / "out").exists()


def test_objects_still_need_a_building_class(country, tmp_path, make_recipe) -> None:
    recipe = make_recipe(
        country, source={"input": str(country), "classes": NAMES}, output={"path": str(tmp_path / "o")}
    )
    with pytest.raises(UsageError, match="use --events transition"):
        generate(recipe)
