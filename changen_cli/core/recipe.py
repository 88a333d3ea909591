"""The recipe: everything a run can be told, validated, with a fingerprint of what decides its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
)
from pydantic.fields import FieldInfo

from changen_cli.core.addresses import is_address, work_folder
from changen_cli.core.archives import archive_stem
from changen_cli.core.errors import UsageError
from changen_cli.core.recipe_sections import (
    EventsSection,
    GateSection,
    OutputSection,
    RunSection,
    Section,
    SourceSection,
    SynthesisSection,
)


class Recipe(Section):
    """A complete, validated configuration of one run."""

    version: Literal[1] = 1
    source: SourceSection
    events: EventsSection = EventsSection()
    synthesis: SynthesisSection = SynthesisSection()
    gate: GateSection = GateSection()
    output: OutputSection = OutputSection()
    run: RunSection = RunSection()
    seed: int = Field(0, ge=0, description="seed of everything random")
    variants: int = Field(1, ge=1, description="samples per scene")
    limit: int | None = Field(None, ge=1, description="stop after this many scenes")

    @property
    def output_path(self) -> Path:
        """The output folder: as asked, else ``<input>-changen`` beside the input, without the suffix of an archive.

        For an address it is the folder in which what lies there is made.
        """
        if self.output.path and is_address(self.output.path):
            return work_folder(self.output.path)
        if self.output.path:
            return Path(self.output.path)
        source = Path(self.source.input).resolve()
        return source.parent / f"{archive_stem(source.name)}-changen"

    def content(self) -> dict[str, Any]:
        """All settings that decide the content."""
        return content_of(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """Hash of all settings that decide the content."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Of a recipe as a dict, what decides the content: all but ``run``, paths, licences, ``mode``, ``push``, limits.

    Of a gate that is off it is that it is off.
    """
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in recipe.items()}
    for key in ("run", "limit"):
        content.pop(key, None)
    for key in ("path", "mode", "overwrite", "push"):
        content["output"].pop(key, None)
    for key in ("input", "license", "max_skipped"):
        content["source"].pop(key, None)
    if not content.get("gate", {}).get("enabled"):  # manifests of versions that knew none lack it
        content["gate"] = {"enabled": False}
    return content


def recipe_keys() -> dict[str, FieldInfo]:
    """Every key of a recipe, dotted (``events.steps``), with what is known about it; sections are no keys."""
    keys: dict[str, FieldInfo] = {}
    for name, field in Recipe.model_fields.items():
        section = section_of(field)
        if section is None:
            keys[name] = field
        else:
            keys |= {f"{name}.{inner}": told for inner, told in section.model_fields.items()}
    return keys


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section; None where the field holds a value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def option_name(key: str) -> str:
    """What the command line calls a key, without the dashes: its last part, but for four."""
    field = key.rpartition(".")[2]
    return {"kinds": "events", "path": "output", "license": "source-license", "enabled": "gate"}.get(
        field, field
    ).replace("_", "-")


def nearest_key(key: str) -> str:
    """``" (did you mean events.steps?)"`` for a key that does not exist, or all there are when none is near.

    The same name in another section is nearest, then one like it in the same section, then one like it anywhere.
    """
    section, _, name = key.rpartition(".")
    known = [*recipe_keys(), *(name for name, field in Recipe.model_fields.items() if section_of(field))]
    found = [other for other in known if name in (other.rpartition(".")[2], option_name(other).replace("-", "_"))]
    for within in (section + ".", "") if section else ("",):
        names = {other.rpartition(".")[2]: other for other in known if other.startswith(within)}
        found += [names[near] for near in get_close_matches(name.lower(), names, n=1)]
    if found:
        return f" (did you mean {found[0]}?)"
    within = f"{section}." if any(other.startswith(f"{section}.") for other in known) else ""
    here = [other for other in known if other.startswith(within) and ("." in other) == bool(within)]
    return f". There are {', '.join(here)}"


def validate(values: dict[str, Any]) -> Recipe:
    """Validate a nested dict into a :class:`Recipe`; a key without a value is one that is not given.

    Raises:
        ValidationError: A key is not known, or its value is none it may have; :func:`explain` puts it in words.
        UsageError: Values contradict each other.
    """
    given = {
        key: {inner: value for inner, value in part.items() if value is not None} if isinstance(part, dict) else part
        for key, part in values.items()
        if part is not None
    }
    return Recipe.model_validate({"source": {}} | given)


def explain(error: ValidationError) -> tuple[str, str]:
    """Put what is wrong with a recipe in words: the key, and the reason with the value given."""
    found = error.errors()
    # A misspelt key comes first: that another one is missing is often the same mistake.
    first = next((fault for fault in found if fault["type"] == "extra_forbidden"), found[0])
    names = [str(part) for part in first["loc"] if not isinstance(part, int)]
    key = ".".join(name if name.isprintable() else repr(name) for name in names)
    if first["type"] == "extra_forbidden":
        return key, f"unknown key{nearest_key(key)}"
    if first["type"] == "missing":
        return key, "required"
    if first["type"] == "model_type":
        return key, "a section; its keys stand below it, indented"
    shown = repr(first["input"])
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    return key, f"{first['msg'].removeprefix('Value error, ')} (given: {shown})"


def build_recipe(values: dict[str, Any]) -> Recipe:
    """Validate a nested dict into a :class:`Recipe`.

    Raises:
        UsageError: Naming the key, the option that sets it, what is wrong with it and the value given.
    """
    try:
        return validate(values)
    except ValidationError as error:
        key, reason = explain(error)
        setting = ".".join(key.split(".")[:2])
        option = f" (--{option_name(setting)})" if setting in recipe_keys() else ""
        raise UsageError(f"{key}{option}: {reason}") from None
