"""``changen run`` and ``changen recipe`` as people type them; every recipe that is shipped makes a dataset."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.recipe_files import load_recipe, recipe_schema
from changen_cli.core.yaml_files import read_yaml
from tests.conftest import write_xbd
from tests.workflows.conftest import tree

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = {"demo", "s1-building", "s9-landcover", "s0-unlabelled", "damage"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_line(text: str) -> bool:
    return text.startswith("Error: ") and text.count("\n") == 1 and "Traceback" not in text


def quick(model_file: Path) -> dict[str, Any]:
    """Settings that keep a run short."""
    return {"synthesis.model": model_file, "synthesis.inference_steps": 4, "run.device": "cpu", "run.threads": 1}


def sets(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def write_landcover(root: Path, count: int = 2, size: int = 128) -> Path:
    """``images/`` beside ``masks/`` with four of OpenEarthMap's classes in quarters, and a building."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for scene in range(count):
        quarters = np.array([[1, 2], [5, 7]], np.uint8)
        mask = np.kron(quarters, np.ones((size // 2, size // 2), np.uint8))
        mask[20:40, 20:40] = 8
        image = rng.integers(0, 255, (9, 3))[mask] + rng.integers(-9, 9, (size, size, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / "images" / f"s{scene}.png")
        Image.fromarray(mask).save(root / "masks" / f"s{scene}.png")
    return root


def test_every_shipped_recipe_is_known_here() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == SHIPPED


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_recipe_makes_a_dataset(name: str, tmp_path, model_file, photos) -> None:
    settings = quick(model_file) | {"limit": 2}
    if name != "demo":  # that one brings its own images
        source = {"s9-landcover": write_landcover, "s0-unlabelled": lambda _: photos}.get(name, write_xbd)
        settings |= {"source.input": source(tmp_path / "in"), "source.res": 64}
    else:
        settings |= {"source.res": 256}
    done = run("run", RECIPES / f"{name}.yaml", "--output", tmp_path / "out", "-q", "--json", *sets(settings))
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    wanted = load_recipe(RECIPES / f"{name}.yaml")
    recipe = json.loads((tmp_path / "out" / "manifest.json").read_text())["recipe"]
    assert (said["scenes"], said["samples"]) == (2, 2)
    assert set(said["events"]) <= set(wanted.events.kinds or ("create", "remove"))
    assert said["events"], "nothing changed"
    assert recipe["events"] == wanted.model_dump(mode="json")["events"]
    assert recipe["output"]["format"] == wanted.output.format
    assert run("validate", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_recipe_says_what_it_makes(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    jsonschema.validate(read_yaml(path), recipe_schema())
    head = path.read_text(encoding="utf-8").partition("\nversion: 1\n")[0]
    told = re.findall(r"^#   (\w+) +\S", head, flags=re.MULTILINE)
    assert told == ["makes", "from", "in", "on", "run"]
    assert f"changen run recipes/{name}.yaml" in head


def test_the_recipe_of_the_documentation_is_one(tmp_path) -> None:
    page = (RECIPES.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(found)
    assert load_recipe(tmp_path / "mine.yaml").events.steps == 2
    for name in SHIPPED:
        assert f"`{name}.yaml`" in page


def test_run_makes_what_generate_makes(xbd_tree, tmp_path, model_file) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        f"source: {{input: {xbd_tree.name}, res: 64}}\nevents: {{steps: 2}}\nlimit: 2\nsynthesis: {{inference_steps: 4}}"
    )
    own = [
        "--set",
        f"synthesis.model={model_file}",
        "--set",
        "run: ".replace(": ", ".device=cpu"),
        "--set",
        "run.threads=1",
    ]
    made = run("run", file, "--output", tmp_path / "a", *own)
    assert made.exit_code == 0, made.stderr
    assert made.stdout == f"{tmp_path / 'a'}\n"
    assert "2 samples from 2 scenes" in made.stderr
    options = [
        "--res",
        64,
        "--steps",
        2,
        "--limit",
        2,
        "--inference-steps",
        4,
        "--model",
        model_file,
        "--device",
        "cpu",
    ]
    generated = run("generate", "--input", xbd_tree, "--output", tmp_path / "b", "--threads", 1, *options)
    assert generated.exit_code == 0, generated.stderr
    record = ("manifest.json", "README.md", "checksums.sha256")
    assert tree(tmp_path / "a", leave_out=record) == tree(tmp_path / "b", leave_out=record)
    # A finished dataset is a recipe too.
    again = run("run", tmp_path / "a" / "manifest.json", "-o", tmp_path / "c", "-q")
    assert again.exit_code == 0, again.stderr
    assert tree(tmp_path / "c", leave_out=record) == tree(tmp_path / "a", leave_out=record)
    estimated = run("run", file, "--dry-run", *own)
    assert "2 images would give about 2 samples of 3 dates" in estimated.stdout


@pytest.mark.parametrize("command", [("run",), ("recipe", "show"), ("recipe", "check")], ids=" ".join)
@pytest.mark.parametrize(
    ("content", "settings", "says"),
    [
        (b"events: {step: 2}", [], "events.step: unknown key (did you mean events.steps?)"),
        (b"source: {input: in}\nseed: 1\nseed: 2", [], "line 3, column 1: 'seed' is given twice"),
        (b"source: {input: in}", ["--set", "events.steps=many"], "--set events.steps: Input should be a valid integer"),
        (b"source: {input: in}", ["--set", "steps=3"], "--set steps: unknown key (did you mean events.steps?)"),
        (b"\xff\xfe", [], "is not UTF-8 text"),
        (None, [], "does not exist"),
    ],
)
def test_a_bad_recipe_ends_every_command(command: tuple[str, ...], content, settings, says: str, tmp_path) -> None:
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content)
    done = run(*command, file, *settings)
    assert done.exit_code == 2
    assert one_line(done.stderr) and says in done.stderr
    assert done.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} <= {file.name}


def test_begin_check_show(xbd_tree, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = run("recipe", "init")
    assert (begun.exit_code, begun.stdout) == (0, "recipe.yaml\n")
    assert one_line(run("recipe", "init").stderr), "a recipe is not written over"
    lost = run("recipe", "check", "recipe.yaml")
    assert lost.exit_code == 2
    assert one_line(lost.stderr) and f"{tmp_path / 'images'} does not exist" in lost.stderr
    # As an editor on Windows would save it.
    text = Path("recipe.yaml").read_text(encoding="utf-8").replace("input: images", f"input: {xbd_tree.name}")
    Path("recipe.yaml").write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    found = run("recipe", "check", "recipe.yaml")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == f"recipe.yaml can be carried out; output: {tmp_path / 'xbd-changen'}\n"
    assert "classes: background, building; events: create, remove" in found.stderr
    assert not (tmp_path / "xbd-changen").exists()
    shown = run("recipe", "show", "recipe.yaml", "--set", "events.steps=4").stdout
    Path("shown.yaml").write_text(shown, encoding="utf-8")
    assert load_recipe(Path("shown.yaml")) == load_recipe(Path("recipe.yaml"), {"events.steps": 4})
    schema = json.loads(run("recipe", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(read_yaml(Path("shown.yaml")), schema)
    with pytest.raises(jsonschema.ValidationError, match="step"):
        jsonschema.validate({"source": {"input": "x"}, "events": {"step": 1}}, schema)
