"""The command line promises nothing the recipe does not hold."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from changen_cli.cli.common import duration, split_list
from changen_cli.cli.generate import generate
from changen_cli.core.recipe import Recipe, build_recipe

DEFAULT = build_recipe({"source": {"input": "in"}})

FIELDS = {
    "input": "source.input",
    "output": "output.path",
    "steps": "events.steps",
    "res": "source.res",
    "layout": "source.layout",
    "classes": "source.classes",
    "bands": "source.bands",
    "upsample": "source.upsample",
    "limit": "limit",
    "proposals": "source.proposals",
    "sam_model": "source.sam_model",
    "max_skipped": "source.max_skipped",
    "events": "events.kinds",
    "transitions": "events.transitions",
    "disaster": "events.disaster",
    "rebuild": "events.rebuild",
    "change_area": "events.change_area",
    "negatives": "events.negatives",
    "variants": "variants",
    "seed": "seed",
    "model": "synthesis.model",
    "vae": "synthesis.vae",
    "scheduler": "synthesis.scheduler",
    "inference_steps": "synthesis.inference_steps",
    "start": "synthesis.start",
    "strength": "synthesis.strength",
    "guidance_ratio": "synthesis.guidance_ratio",
    "guidance_scale": "synthesis.guidance_scale",
    "extent": "synthesis.extent",
    "unchanged": "synthesis.unchanged",
    "batch_size": "run.batch_size",
    "device": "run.device",
    "dtype": "run.dtype",
    "threads": "run.threads",
    "format": "output.format",
    "overwrite": "output.overwrite",
}
NOT_IN_THE_RECIPE = {"dry_run", "quiet", "as_json"}
WITHOUT_AN_OPTION = {"version", "events.min_area_px"}
"""The recipe's own format number; and a threshold below which no annotator draws a building."""
DEFAULT_IN_THE_HELP = {"output", "res", "layout", "bands", "events", "vae", "threads", "transitions", "disaster"}
"""Their default is no value but a behaviour, told in the help text."""

PARAMETERS = inspect.signature(generate, eval_str=True).parameters


def option(name: str) -> Any:
    return get_args(PARAMETERS[name].annotation)[1]


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
    assert set(FIELDS.values()) | WITHOUT_AN_OPTION == recipe_fields()
    assert not set(FIELDS.values()) & WITHOUT_AN_OPTION
    assert set(PARAMETERS) == set(FIELDS) | NOT_IN_THE_RECIPE


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"input"}))
def test_the_shown_default_is_the_recipes(name: str) -> None:
    shown = option(name).show_default
    default = value_of(FIELDS[name])
    assert PARAMETERS[name].default is None, "what is not given is left to the recipe"
    if default is None or default is False:
        assert shown is False
        assert ("[default:" in option(name).help) == (name in DEFAULT_IN_THE_HELP)
        return
    section, _, field = FIELDS[name].rpartition(".")
    values: dict[str, Any] = {"source": {"input": "in"}}
    if section:
        values[section] = values.get(section, {}) | {field: shown}
    else:
        values[field] = shown
    assert build_recipe(values) == DEFAULT, f"--help shows {shown}, the recipe holds {default}"


@pytest.mark.parametrize("name", sorted(FIELDS))
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
