"""The command line promises nothing the recipe does not hold."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from changen_cli.cli import options
from changen_cli.cli.common import duration, split_list
from changen_cli.cli.generate import generate
from changen_cli.cli.options import KEYS
from changen_cli.cli.preview import preview
from changen_cli.cli.simulate import simulate
from changen_cli.core.recipe import build_recipe, option_name, recipe_keys
from changen_cli.core.recipe_files import load_recipe, parse_settings, recipe_schema, starter_text
from changen_cli.core.yaml_files import dump_yaml, parse_yaml

DEFAULT = build_recipe({"source": {"input": "in"}})

COMMANDS: dict[Any, set[str]] = {
    generate: {"overwrite", "dry_run", "quiet", "as_json"},
    simulate: {"overwrite", "quiet", "as_json"},
    preview: {"scene", "scene_id", "count", "sheet", "quiet", "as_json"},
}
"""Commands that make a recipe, and the options that are their own."""
LIMITS = ("tolerance", "visible", "seam", "sharpness", "grain", "colour", "saturated", "agreement", "area")
WITHOUT_AN_OPTION = {"version", "events.min_area_px", *(f"gate.{name}" for name in LIMITS)}
"""The recipe's own format number; a threshold below which no annotator draws a building; the limits of the gate."""
DEFAULT_IN_THE_HELP = {
    "output",
    "res",
    "layout",
    "bands",
    "events",
    "vae",
    "surfaces",
    "threads",
    "workers",
    "ray_address",
    "rank",
    "world_size",
    "gpus_per_worker",
    "transitions",
    "disaster",
    "source_license",
}
"""Their default is no value but a behaviour, told in the help text."""

DECLARED = {name: getattr(options, "".join(part.title() for part in name.split("_"))) for name in KEYS}


def option(name: str) -> Any:
    return get_args(DECLARED[name])[1]


def value_of(path: str) -> Any:
    value: Any = DEFAULT
    for part in path.split("."):
        value = getattr(value, part)
    return value


def test_every_recipe_field_has_an_option_or_an_excuse() -> None:
    assert set(KEYS.values()) | WITHOUT_AN_OPTION == set(recipe_keys())
    assert not set(KEYS.values()) & WITHOUT_AN_OPTION
    assert {name for name, key in KEYS.items() if key.rpartition(".")[2] != name} == {
        "events",
        "output",
        "source_license",
        "gate",
    }
    assert all(option_name(key) == name.replace("_", "-") for name, key in KEYS.items())
    given = {name for command, own in COMMANDS.items() for name in set(inspect.signature(command).parameters) - own}
    assert given == set(KEYS)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_share_what_is_declared_once(command: Any) -> None:
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if name in COMMANDS[command]:
            continue
        assert parameter.annotation == DECLARED[name], name
        if name != "input":
            assert parameter.default is None, "what is not given is left to the recipe"


NOT_FOR_ONE_SCENE = {"input", "limit", "max_skipped", "source_license", "negatives", "variants"}


@pytest.mark.parametrize(("command", "left_out"), [(simulate, set()), (preview, NOT_FOR_ONE_SCENE)])
def test_masks_take_every_option_of_source_and_events(command: Any, left_out: set[str]) -> None:
    wanted = {name for name in KEYS if option(name).rich_help_panel in (options.SOURCE, options.EVENTS)} - left_out
    assert wanted <= set(inspect.signature(command).parameters)


@pytest.mark.parametrize("name", sorted(set(KEYS) - {"input"}))
def test_the_shown_default_is_the_recipes(name: str) -> None:
    shown = option(name).show_default
    default = value_of(KEYS[name])
    if default is None or default is False:
        assert shown is False
        assert ("[default:" in option(name).help) == (name in DEFAULT_IN_THE_HELP)
        return
    section, _, field = KEYS[name].rpartition(".")
    values: dict[str, Any] = {"source": {"input": "in"}}
    if section:
        values[section] = values.get(section, {}) | {field: shown}
    else:
        values[field] = shown
    assert build_recipe(values) == DEFAULT, f"--help shows {shown}, the recipe holds {default}"


GIVEN: dict[str, Any] = {
    "input": "tiles", "layout": "pairs", "classes": "background, building,road", "res": 512, "upsample": True, "bands": "4,3,2",
    "proposals": "regions", "sam_model": "some/sam", "max_skipped": "30%", "source_license": "CC BY 4.0,odbl", "limit": 7,
    "events": "create, transition,damage", "transitions": "flood", "disaster": "fire", "rebuild": "10%", "steps": 3,
    "dates": "2018,2020-06,2021-03-04", "change_area": "3-5%", "rates": "create=2%", "surfaces": "background", "negatives": "10%",
    "variants": 2, "seed": 9, "model": "org/name", "vae": "org/vae", "scheduler": "ddim", "inference_steps": 3, "start": "noise",
    "strength": 0.4, "guidance_ratio": 0.5, "guidance_scale": 2.0, "extent": "full", "nuisance": "hard",
    "keep_date0": True, "gate": False, "retries": 0, "batch_size": 1,
    "device": "cpu", "dtype": "float32", "threads": 2, "workers": 3, "output": "there", "format": "parquet", "overwrite": True,
    "mode": "extend", "shard_size": 4, "max_failed": "5%", "time_budget": "2h30m", "disk_budget": "200GB",
    "push": "org/name",
    "rank": 3, "world_size": 8, "executor": "ray", "ray_address": "10.0.0.1:6379", "gpus_per_worker": 0.5,
}  # fmt: skip
"""A value of every option as the command line hands it on: not its default."""
WITH = {
    "transitions": {"events": "transition"},
    "disaster": {"events": "damage"},
    "rebuild": {"events": "damage"},
    "rates": {"dates": "2018,2020"},
}
"""What else has to be said for an option to mean something."""


@pytest.mark.parametrize("name", sorted(KEYS))
def test_option_key_and_setting_say_the_same(name: str, tmp_path: Path) -> None:
    given = {"input": "in"} | WITH.get(name, {}) | {name: GIVEN[name]}
    as_options = options.make_recipe(given)
    assert as_options != options.make_recipe({"input": "in"}), (
        "a value that is not the default shows whether it arrives"
    )
    file = tmp_path / "recipe.yaml"
    file.write_text("version: 1")
    settings = [f"{KEYS[other]}={str(value).lower() if value is True else value}" for other, value in given.items()]
    assert load_recipe(file, parse_settings(settings)) == as_options
    nested: dict[str, Any] = {}
    for other, value in given.items():
        section, _, field = KEYS[other].rpartition(".")
        holder = nested.setdefault(section, {}) if section else nested
        holder[field] = str(tmp_path / value) if other in ("input", "output") else value
    file.write_text(dump_yaml(nested))
    anchored = {key: str(tmp_path / given[key]) for key in ("input", "output") if key in given}
    assert load_recipe(file) == options.make_recipe(given | anchored)


def test_a_begun_recipe_holds_every_key_with_its_default() -> None:
    text = starter_text()
    assert build_recipe(parse_yaml(text, "x")) == build_recipe({"source": {"input": "images"}})
    shown, keys = parse_yaml(re.sub(r"(?m)^( *)#(\w+:)", r"\1\2", text), "x"), set[str]()
    for name, value in shown.items():
        keys |= {f"{name}.{inner}" for inner in value} if isinstance(value, dict) else {name}
    assert keys == set(recipe_keys())
    shown["source"]["input"] = "in"
    assert build_recipe(shown) == DEFAULT
    for line in text.splitlines():
        assert not re.match(r" *#?\w+: ", line) or line.startswith("version") or "  # " in line, f"unexplained: {line}"


def test_editors_are_told_every_key_and_default() -> None:
    schema = recipe_schema()
    for key in recipe_keys():
        section, _, name = key.rpartition(".")
        place = schema["$defs"][f"{section.title()}Section"] if section else schema
        assert not place["additionalProperties"]
        told = place["properties"][name]
        if key != "source.input":
            default = value_of(key)
            assert told["default"] == (list(default) if isinstance(default, tuple) else default)
        assert key == "version" or told["description"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_every_option_is_explained(name: str) -> None:
    told = option(name)
    assert told.help.endswith((".", "]"))
    assert told.rich_help_panel


def test_small_parsers() -> None:
    assert split_list(None) is None
    assert split_list(" a, b ,,c") == ("a", "b", "c")
    assert split_list("") == ()
    assert [duration(s) for s in (0.4, 89, 90, 600, 5400, 36000)] == [
        "0 s",
        "89 s",
        "2 min",
        "10 min",
        "1.5 h",
        "10.0 h",
    ]
