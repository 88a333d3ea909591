"""Whether a recipe can be carried out, found out in seconds and without writing anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from changen_cli.core.errors import ChangenError, UsageError
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Scene, Skip
from changen_cli.synthesis.hub import find_autoencoder, find_model, find_segmenter, is_hub_id
from changen_cli.workflows.plans import event_kinds, open_labelled_source

_LOOKED_AT = 16


@dataclass(frozen=True)
class Checked:
    """What a check saw.

    Attributes:
        notes: What is read, what changes, and what was not looked at; for people.
        output: The folder the dataset would lie in.
    """

    notes: tuple[str, ...]
    output: Path


def check_recipe(recipe: Recipe) -> Checked:
    """Open the input, read its first scenes, find the model's files.

    Raises:
        UsageError: The recipe cannot be carried out; says why.
    """
    try:
        return Checked((*_check_source(recipe), *_check_models(recipe)), recipe.output_path)
    except ChangenError as error:
        raise UsageError(str(error)) from None


def _check_source(recipe: Recipe) -> list[str]:
    section = recipe.source
    if section.proposals == "sam":
        section = section.model_copy(update={"proposals": "regions"})
    source = open_labelled_source(recipe.model_copy(update={"source": section}))
    # Proposals are not made: that takes a network, or seconds a scene, and they always fit.
    source.propose = None
    first = list(islice(source, _LOOKED_AT))
    skips = [item for item in first if isinstance(item, Skip)]
    images = {item.source_path for item in first if isinstance(item, Scene)}
    broken = sum(skip.failed for skip in skips)
    if not images or broken > section.max_skipped * (len(images) + len(skips)):
        reason = f"{skips[0].path}: {skips[0].reason}" if skips else "it holds no image"
        count = f"{len(skips)} of the first {len(images) + len(skips)}" if images else "none of the first"
        raise UsageError(f"{section.input}: {count} images can{'not' if images else ''} be used ({reason})")
    notes = [f"{recipe.source.input}: {source.describe()}"]
    notes.append(f"classes: {', '.join(source.schema.names)}; events: {', '.join(event_kinds(recipe, source.schema))}")
    return notes + [f"would be skipped: {skip.path}: {skip.reason}" for skip in skips[:3]]


def _check_models(recipe: Recipe) -> list[str]:
    section = recipe.synthesis
    wanted: list[tuple[str | None, Callable[[str], object]]] = []
    if section.start == "noise" or section.strength > 0:
        wanted += [(section.model, find_model), (section.vae, find_autoencoder)]
    if recipe.source.proposals == "sam":
        wanted.append((recipe.source.sam_model, find_segmenter))
    notes = []
    for reference, find in wanted:
        if reference and is_hub_id(reference):
            notes.append(f"{reference}: on the Hub, not looked for")
        elif reference:
            find(reference)
    return notes
