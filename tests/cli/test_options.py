"""The command line promises nothing the recipe does not hold."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from changen_cli.cli import options
from changen_cli.cli.common import duration, split_list
from changen_cli.cli.generate import generate
from changen_cli.cli.options import KEYS
from changen_cli.cli.preview import preview
from changen_cli.cli.simulate import simulate
from changen_cli.core.recipe import Recipe, build_recipe

DEFAULT = build_recipe({"source": {"input": "in"}})

COMMANDS: dict[Any, set[str]] = {
    generate: {"overwrite", "dry_run", "quiet", "as_json"},
    simulate: {"overwrite", "quiet", "as_json"},
    preview: {"scene", "scene_id", "count", "sheet", "quiet", "as_json"},
}
"""Commands that make a recipe, and the options that are their own."""
WITHOUT_AN_OPTION = {"version", "events.min_area_px"}
"""The recipe's own format number; and a threshold below which no annotator draws a building."""
DEFAULT_IN_THE_HELP = {
    "output",
    "res",
    "layout",
    "bands",
    "events",
    "vae",
    "surfaces",
    "threads",
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


def recipe_fields(model: type[BaseModel] = Recipe, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= recipe_fields(kind, f"{name}.")
        else:
            found.add(prefix + name)
    return found


def test_every_recipe_field_has_an_option_or_an_excuse() -> None:
    assert set(KEYS.values()) | WITHOUT_AN_OPTION == recipe_fields()
    assert not set(KEYS.values()) & WITHOUT_AN_OPTION
    assert {name for name, key in KEYS.items() if key.rpartition(".")[2] != name} == {
        "events",
        "output",
        "source_license",
    }
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
