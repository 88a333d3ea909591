from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.manifest import new_manifest
from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.recipe_files import load_recipe, parse_settings, resolved_text

MINIMAL = "source: {input: in}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes" / "my recipe é.yaml"


def load(file: Path, text: str, *settings: str) -> Recipe:
    file.write_text(text, encoding="utf-8")
    return load_recipe(file, parse_settings(settings))


def test_paths_are_taken_from_the_folder_of_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "source: {input: ../tiles}\noutput: {path: out}\nsynthesis: {model: ./m.safetensors, vae: models/vae}\n"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "recipes" / "models" / "vae").mkdir(parents=True)
    for folder in (".", "elsewhere", "recipes"):
        monkeypatch.chdir(tmp_path / folder)
        for name in (file, Path(os.path.relpath(file))):
            file.write_text(text)
            recipe = load_recipe(name)
            assert recipe.source.input == str(tmp_path / "tiles")
            assert recipe.output_path == tmp_path / "recipes" / "out"
            assert recipe.synthesis.model == str(tmp_path / "recipes" / "m.safetensors")
            assert recipe.synthesis.vae == str(tmp_path / "recipes" / "models" / "vae")
    # What is set on the command line is as seen from there.
    seen = load(file, text, "source.input=../tiles", "output.path=out")
    assert (seen.source.input, seen.output.path) == ("../tiles", "out")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(file, "source: {input: ~/tiles}").source.input == str(tmp_path / "tiles")
    assert load(file, text, "source.input=~/tiles").source.input == str(tmp_path / "tiles")
    assert load(file, "source: {input: /data/x}").source.input == "/data/x"
    assert load(file, "source: {input: 2018}").source.input == str(tmp_path / "recipes" / "2018")


def test_names_stay_names(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(
        file,
        MINIMAL
        + "synthesis: {model: changen-mini, vae: org/vae@main}\nevents: {transitions: flood, kinds: transition}",
    )
    assert (recipe.synthesis.model, recipe.synthesis.vae) == ("changen-mini", "org/vae@main")
    assert recipe.events.transitions is not None and recipe.events.transitions.name == "flood"
    assert load(file, MINIMAL + "output: {path: 's3://bucket/x'}").output.path == "s3://bucket/x"
    # What is no bundled name and no Hub id is a path, and never one of the folder the command runs in.
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load(file, MINIMAL + "synthesis: {model: mine}").synthesis.model == str(tmp_path / "recipes" / "mine")


def test_transitions_lie_beside_the_recipe(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = MINIMAL + "events: {kinds: [transition], transitions: floods.yaml}"
    (tmp_path / "floods.yaml").write_text("rates: {tree: {water: 0.9}}")
    with pytest.raises(UsageError, match=r"events\.transitions .*/recipes/floods\.yaml: no such preset.*mean flood\?"):
        load(file, text)
    (tmp_path / "recipes" / "floods.yaml").write_text("rates: {tree: {water: 0.1}}")
    table = load(file, text).events.transitions
    assert table is not None and table.rates == {"tree": {"water": 0.1}}
    set_here = load(file, text, "events.transitions=floods.yaml").events.transitions
    assert set_here is not None and set_here.rates == {"tree": {"water": 0.9}}
    inline = load(
        file,
        MINIMAL + "events:\n  kinds: transition\n  transitions:\n    rates: {tree: {water: 0.3}}",
        "events.transitions.growth=0.9",
    )
    assert inline.events.transitions is not None and inline.events.transitions.growth == 0.9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("events: {step: 3}", "{file}: events.step: unknown key (did you mean events.steps?)"),
        (MINIMAL + "steps: 3", "{file}: steps: unknown key (did you mean events.steps?)"),
        (MINIMAL + "events: {steps: many}", "{file}: events.steps: Input should be a valid integer"),
        (MINIMAL + "seed: 1\nseed: 2", "{file}, line 3, column 1: 'seed' is given twice"),
        (MINIMAL + "events:\n  steps: 1\n  steps: 2", "{file}, line 4, column 3: 'steps' is given twice"),
        (MINIMAL + "events: {dates: [2018, 2019], steps: 3}", "{file}: events.dates names 2 dates, which makes 1 steps, not 3. Leave out events.steps"),
        (MINIMAL + "events: {transitions: flood}", "{file}: events.transitions has no effect without the event kind. Add it: events.kinds transition"),
        ("seed: 1", "{file}: source.input: required"),
        ("", "{file} holds no recipe"),
        ("- source", "{file} holds no recipe"),
        ("source: in", "{file}: source: a section"),
        (MINIMAL + "3: 4", "{file}: "),
    ],
)  # fmt: skip
def test_faults_are_told_in_one_line(file: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(file, text)
    assert str(caught.value).startswith(says.format(file=file))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("events.steps=many", "--set events.steps: Input should be a valid integer"),
        ("events.steps=", ""),
        ("source.input=", "--set source.input: required"),
        ("events.step=3", "--set events.step: unknown key (did you mean events.steps?)"),
        ("steps=3", "--set steps: unknown key (did you mean events.steps?)"),
        ("events.steps", "--set events.steps: no value"),
        ("=3", "--set : unknown key"),
        ("events.steps=[1", "--set events.steps: "),
        ("events={kinds: create, stepz: 2}", "--set events.stepz: unknown key (did you mean events.steps?)"),
        ("seed.x=1", "--set seed.x: unknown key"),
        ("events.steps.x=1", "--set events.steps.x: events.steps is no mapping in {file}"),
    ],
)
def test_faults_of_settings_are_told_in_one_line(file: Path, setting: str, says: str) -> None:
    text = MINIMAL + "events: {steps: 2}"
    if not says:
        assert load(file, text, setting).events.steps == 1, "no value: the default"
        return
    with pytest.raises(UsageError) as caught:
        load(file, text, setting)
    assert str(caught.value).startswith(says.format(file=file))
    assert "\n" not in str(caught.value)


def test_settings_replace_what_the_file_says(file: Path) -> None:
    text = MINIMAL + "events: {steps: 2, kinds: [create]}\nseed: 4"
    recipe = load(
        file,
        text,
        "events.steps=5",
        "seed = 7",
        "events.steps=6",
        "synthesis.strength=0",
        "events.kinds=[remove, swap]",
    )
    assert (recipe.events.steps, recipe.seed, recipe.synthesis.strength) == (6, 7, 0)
    assert recipe.events.kinds == ("remove", "swap")


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"events": {"kinds": "transition,damage", "transitions": "published-s9", "rebuild": "20%"}},
        {"events": {"kinds": "transition", "transitions": {"rates": {"tree": {"no": 0.1}}, "moves": [{"class": "water", "distance_m": 3, "over": "land"}], "change_area": [0.1, 0.2]}}},
        {"events": {"dates": "2018,2020-06,2021-03-04", "rates": "create=2%"}, "source": {"input": "/a b/é", "classes": "no,on,1e3", "bands": "4,3,2"}},
    ],
)  # fmt: skip
def test_a_resolved_recipe_makes_the_same(file: Path, sections: dict[str, Any], tmp_path: Path) -> None:
    recipe = build_recipe({"source": {"input": "/data"}} | sections)
    assert load(file, resolved_text(recipe)) == recipe
    assert recipe.fingerprint() in resolved_text(recipe).splitlines()[0]
    new_manifest(recipe, source={}).save(tmp_path)
    for path in (tmp_path, tmp_path / "manifest.json"):
        assert load_recipe(path) == recipe
        assert load_recipe(path, {"seed": 3}).seed == 3
    with pytest.raises(OutputError, match=r"holds no manifest\.json"):
        load_recipe(tmp_path / "recipes")
