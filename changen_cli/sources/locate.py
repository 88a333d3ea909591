"""One scene of an input folder, found without reading the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from changen_cli.core.errors import UsageError
from changen_cli.core.types import Scene
from changen_cli.sources.candidates import Candidate, find_candidates
from changen_cli.sources.folder import Source
from changen_cli.sources.walk import is_image_folder, is_mask_folder, list_folder

_FIRST_TILE = "_r00000_c00000"
_NAMED = 3


def input_folder(path: Path) -> Path:
    """Return the input folder an image or a mask belongs to; a folder is one itself.

    That is the folder that holds both the images and the masks, where the file lies in one of these; else its own.
    """
    if not path.is_file():
        return path
    file = Path(os.path.abspath(path))  # not resolved: a linked folder has its masks beside the link
    for folder in file.parents:
        beside = is_mask_folder if is_image_folder(folder.name) else is_image_folder
        if not is_image_folder(folder.name) and not is_mask_folder(folder.name):
            continue
        if any(map(beside, list_folder(folder.parent)[1])):
            return folder.parent
    return file.parent


def find_scene(source: Source, file: Path | None = None, scene_id: str = "") -> Scene:
    """Read one scene.

    Args:
        source: The scenes of the folder.
        file: Its image or its mask; None for any.
        scene_id: Its id; that of a whole image stands for its first tile. Empty for the first scene.

    Raises:
        UsageError: There is no such scene, or it cannot be used, and why.
    """
    reasons = []
    for item in source.scenes_of(_wanted(source, file, scene_id)):
        if not isinstance(item, Scene):
            reasons.append(f"{item.path} {item.reason}")
        elif scene_id in ("", item.id, item.id.removesuffix(_FIRST_TILE)):
            return item
    if reasons:
        raise UsageError(f"no scene to show: {reasons[0]}")
    if file is not None and not scene_id:
        raise UsageError(
            f"{file} is neither an image nor a mask of {source.root}, read as {source.layout} layout",
            "Name an image, its mask, or the folder",
        )
    candidates = (item for item in find_candidates(source.root, source.layout) if isinstance(item, Candidate))
    known = ", ".join(candidate.id for candidate in islice(candidates, _NAMED))
    raise UsageError(
        f"{source.root} has no scene {scene_id}", f"Its first ones are {known}; tiles end in {_FIRST_TILE}"
    )


def _wanted(source: Source, file: Path | None, scene_id: str) -> Iterator[Candidate]:
    """The images that may hold the scene, by their names."""
    path = file and os.path.abspath(file)
    for item in find_candidates(source.root, source.layout):
        if not isinstance(item, Candidate):
            continue
        named = scene_id in ("", item.id) or scene_id.startswith(f"{item.id}_r")
        if named and (path is None or path in {os.path.abspath(own) for own in (item.path, item.label) if own}):
            yield item
