"""Folders as benchmarks take them on the command line: FOLDER[:class,...][@reduce]."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.types import ClassSchema, Exemplar, Scene
from changen_cli.workflows.plans import open_labelled_source


@dataclass(eq=False)
class Folder:
    """Labelled scenes of one folder, at the resolution they are evaluated at; iterates like a source."""

    text: str
    recipe: Recipe
    schema: ClassSchema
    scenes: list[Scene]
    library: list[Exemplar] = field(default_factory=list)

    def __iter__(self) -> Iterator[Scene]:
        return iter(self.scenes)


def place_of(scene: Scene) -> str:
    """The place a scene shows: its group without the offset tiles of one picture carry in their names."""
    return re.sub(r"(_\d+_\d+)$", "", scene.group)


def reduced(scene: Scene, factor: float) -> Scene:
    """The scene at a lower resolution."""
    size = tuple(round(side / factor) for side in scene.image.shape[1::-1])

    def small(array):
        return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.NEAREST)).astype(array.dtype)

    return replace(
        scene,
        image=np.asarray(Image.fromarray(scene.image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)),
        mask=None if scene.mask is None else small(scene.mask),
        instances=None if scene.instances is None else small(scene.instances),
        transform=None,
        gsd_m=scene.gsd_m and scene.gsd_m * factor,
    )


def open_folder(text: str, *, without: Sequence[str] = ()) -> Folder:
    """Read ``FOLDER[:class,...][@reduce]``; scenes whose id matches a pattern are left out."""
    body, _, factor = text.partition("@")
    path, _, classes = body.partition(":")
    recipe = build_recipe({"source": {"input": path, "classes": classes.split(",") if classes else None}})
    source = open_labelled_source(recipe)
    scenes = [item for item in source if isinstance(item, Scene) and item.mask is not None]
    scenes = [scene for scene in scenes if not any(fnmatch.fnmatch(scene.id, pattern) for pattern in without)]
    if factor:
        scenes = [reduced(scene, float(factor)) for scene in scenes]
    return Folder(text, recipe, source.schema, scenes)
