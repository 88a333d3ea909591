"""Recipes as files: read, with single settings changed, and written, with every key explained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from changen_cli.core.errors import UsageError
from changen_cli.core.manifest import FILE_NAME, read_manifest
from changen_cli.core.nuisance import PRESETS
from changen_cli.core.recipe import Recipe, explain, nearest_key, option_name, recipe_keys, section_of, validate
from changen_cli.core.transitions import preset_names
from changen_cli.core.yaml_files import dump_yaml, parse_yaml, read_yaml

_MODELS = Path(__file__).parents[1] / "data" / "models"
_PATHS = ("source.input", "output.path")
_ON_THE_HUB = ("synthesis.model", "synthesis.vae", "source.sam_model")
_MATRIX, _NUISANCE = "events.transitions", "synthesis.nuisance"
_PLACEHOLDER = "images"
_COLUMN = 36
_HEAD = """\
# A recipe: everything one dataset is made by. Remove the # before a key to change it; the others keep the values shown.
#
#   changen recipe check FILE    is everything there, and does it fit together?
#   changen run FILE             make the dataset
#
# Relative paths are taken from the folder of this file.
"""


def load_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a YAML file, or the recipe of a finished dataset from its manifest.

    Relative paths in a YAML file are taken from the folder it lies in, wherever the command runs. Bundled models,
    transitions and nuisance stay names, and so do Hub ids: ``org/name`` is a path only if it exists there.

    Args:
        path: The recipe, a ``manifest.json``, or a dataset's folder.
        changes: Values by dotted key that replace those of the file; their paths are as seen from where the command
            runs.

    Raises:
        UsageError: It cannot be read, or says something a recipe cannot; names the file, the key, the reason, and the
            nearest key where one is misspelt.
        OutputError: There is no manifest, or it is not one of ours.
    """
    changes = changes or {}
    values = _read(path)
    for key, value in changes.items():
        # The shell does this for --input ~/tiles, but not behind the = of --set.
        home = isinstance(value, str) and key in (*_PATHS, *_ON_THE_HUB, _MATRIX, _NUISANCE)
        _put(values, key, os.path.expanduser(value) if home else value, path)
    try:
        return validate(values)
    except ValidationError as error:
        key, reason = explain(error)
        place = (
            f"--set {key}" if any(key == name or key.startswith(f"{name}.") for name in changes) else f"{path}: {key}"
        )
        raise UsageError(f"{place}: {reason}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {_in_keys(str(error))}") from None


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read settings such as ``events.steps=3``: dotted keys with values as YAML writes them; the last one counts.

    Raises:
        UsageError: One has no ``=``, names no key of a recipe, or its value is no YAML.
    """
    settings: dict[str, Any] = {}
    keys = recipe_keys()
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"--set {text}: no value", "Write --set events.steps=3")
        # A key may hold a mapping, of which one entry is set: events.transitions.growth.
        if key not in keys and key not in Recipe.model_fields and ".".join(key.split(".")[:2]) not in keys:
            raise UsageError(f"--set {key}: unknown key{nearest_key(key)}")
        settings[key] = parse_yaml(value, f"--set {key}")
    return settings


def resolved_text(recipe: Recipe) -> str:
    """The whole recipe as YAML, with every value it has: a recipe that makes the same."""
    return f"# fingerprint {recipe.fingerprint()}\n{dump_yaml(recipe.model_dump(mode='json'))}"


def starter_text() -> str:
    """A recipe in which nothing but the input is said, and every other key stands as a comment with its default."""
    sections = {name: section for name, field in Recipe.model_fields.items() if (section := section_of(field))}
    lines = [_HEAD, *(_line(name, field) for name, field in Recipe.model_fields.items() if name not in sections)]
    for name, section in sections.items():
        lines += ["", f"{name}:  # {(section.__doc__ or '').splitlines()[0]}"]
        lines += [f"  {_line(inner, field)}" for inner, field in section.model_fields.items()]
    return "\n".join(lines) + "\n"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of recipes, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def _read(path: Path) -> dict[str, Any]:
    """The values of a recipe file, its paths made absolute; those of a manifest as they are."""
    if path.name == FILE_NAME or path.is_dir():
        # Of a version that knew no gate: nobody looked.
        return {"gate": {"enabled": False}} | read_manifest(path if path.is_dir() else path.parent).recipe
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds no recipe", "Begin with: source: {input: FOLDER}; or see changen recipe init")
    names: dict[str, set[str]] = {
        _MATRIX: {*preset_names()},
        _NUISANCE: {*PRESETS},
        "synthesis.model": {file.stem for file in _MODELS.iterdir()},
    }
    for key in (*_PATHS, *_ON_THE_HUB, _MATRIX, _NUISANCE):
        section, _, name = key.partition(".")
        holder = values.get(section)
        value = holder.get(name) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and isinstance(value, str | int | float) and value not in names.get(key, ()):
            holder[name] = _anchored(str(value), path.parent, hub=key in _ON_THE_HUB)
    return values


def _anchored(value: str, folder: Path, *, hub: bool) -> str:
    """A path in a recipe file as an absolute one; addresses and Hub ids as they are."""
    if "://" in value:
        return value
    path = os.path.join(folder, os.path.expanduser(value))
    named = hub and value.count("/") == 1 and not value.startswith((".", "~", "/"))
    return value if named and not os.path.exists(path) else os.path.realpath(path)


def _put(values: dict[str, Any], key: str, value: Any, path: Path) -> None:
    """Set one value by its dotted key."""
    *sections, name = key.split(".")
    for index, section in enumerate(sections):
        holder = values.get(section)
        if holder is None:
            holder = values[section] = {}
        if not isinstance(holder, dict):
            raise UsageError(f"--set {key}: {'.'.join(sections[: index + 1])} is no mapping in {path}")
        values = holder
    values[name] = value


def _in_keys(text: str) -> str:
    """A message about options as one about the keys that they set."""
    keys = {option_name(key): key for key in recipe_keys()}
    return re.sub(r"--([a-z][a-z-]*)", lambda found: keys.get(found[1], found[0]), text)


def _line(name: str, field: FieldInfo) -> str:
    """A key with its default as a comment; the input, which has none, and the version stand as keys."""
    hidden = "" if name == "version" or field.is_required() else "#"
    value = _PLACEHOLDER if field.is_required() else _as_yaml(field.get_default())
    choices = " | ".join(_choices(field.annotation)) if hidden else ""
    told = "; ".join(part for part in (field.description, choices) if part)
    return f"{hidden}{name}: {value}".ljust(_COLUMN) + f"# {told}" if told else f"{name}: {value}"


def _as_yaml(value: Any) -> str:
    """A single value as it stands behind its key; nothing for None."""
    text = dump_yaml([value]).strip()
    return "" if value is None else text[1:-1] if text.startswith("[") else text.removeprefix("- ")


def _choices(kind: Any) -> Iterator[str]:
    """The words a value may be, or its parts."""
    if get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _choices(part)
