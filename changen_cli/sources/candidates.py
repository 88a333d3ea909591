"""Finding the image files of each layout, and the label that belongs to each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from changen_cli.core.types import Skip
from changen_cli.sources.walk import (
    BAD_NAME,
    MASK_SUFFIXES,
    Folder,
    is_image_folder,
    is_mask_folder,
    list_folder,
    printable,
    scene_id,
    walk,
)

Layout = Literal["xbd", "pairs", "images"]
"""How an input folder is laid out."""

_PRE = "_pre_disaster"
_XBD_LABELS = (("labels", "{}.json"), ("targets", "{}_target.png"), ("masks", "{}.png"), ("masks", "{}.tif"))


@dataclass(frozen=True)
class Candidate:
    """An image file that may become a scene.

    Attributes:
        id: The scene's id.
        group: The scene's group.
        path: The image.
        relative: The same below the input folder, with ``/``, printable.
        label: The label JSON, mask or target; None for an unlabelled image.
        problem: Why it cannot be used, known without opening it; empty when it can.
        failed: Whether the problem is a fault, rather than that the image is out of scope.
    """

    id: str
    group: str
    path: Path
    relative: str
    label: Path | None = None
    problem: str = ""
    failed: bool = False


def find_candidates(root: Path, layout: Layout, wanted: Collection[str] | None = None) -> Iterator[Candidate | Skip]:
    """Yield every image of a layout in a fixed order; a folder that cannot be listed gives a skip.

    Args:
        root: The input folder.
        layout: How it is laid out.
        wanted: Only the images of these paths below the folder; nothing is listed after the last of them.
    """
    if wanted is not None:
        found = find_candidates(root, layout)
        own = (item for item in found if isinstance(item, Candidate) and item.relative in wanted)
        yield from islice(own, len(wanted))
        return
    for folder in walk(root):
        if folder.error:
            yield Skip(folder.relative(), folder.error)
        yield from folder_candidates(root, folder, layout)


def folder_candidates(root: Path, folder: Folder, layout: Layout) -> Iterator[Candidate | Skip]:
    """Yield the candidates of one folder only."""
    if layout == "xbd":
        yield from _xbd(folder)
    elif layout == "pairs":
        yield from _pairs(root, folder)
    else:
        yield from _distinct(folder, dict.fromkeys(folder.images))


def is_xbd_folder(folder: Folder) -> bool:
    """Whether a folder holds pre-disaster images and has a label folder beside it."""
    beside = {name for name, _ in _XBD_LABELS}
    return bool(_pre_disaster(folder)) and any((folder.path.parent / name).is_dir() for name in beside)


def pair_folders(root: Path, folder: Folder) -> list[Path]:
    """Return the mask folders that run parallel to a folder of images.

    ``a/images/b`` is paired with ``a/masks/b``, whatever the two are called among the usual names.
    """
    last = max((i for i, part in enumerate(folder.parts) if is_image_folder(part)), default=None)
    if last is None:
        return []
    parent = root.joinpath(*folder.parts[:last])
    names = [name for name in list_folder(parent)[1] if is_mask_folder(name)]
    parallel = (parent.joinpath(name, *folder.parts[last + 1 :]) for name in names)
    return [path for path in parallel if path.is_dir()]


def _pre_disaster(folder: Folder) -> list[str]:
    if not folder.parts or not is_image_folder(folder.parts[-1]):
        return []
    return [name for name in folder.images if os.path.splitext(name)[0].endswith(_PRE)]


def _xbd(folder: Folder) -> Iterator[Candidate]:
    parent = folder.path.parent
    labels: dict[str, Path | None] = {}
    for name in _pre_disaster(folder):
        stem = os.path.splitext(name)[0]
        options = (parent / place / pattern.format(stem) for place, pattern in _XBD_LABELS)
        labels[name] = next((path for path in options if os.path.lexists(path)), None)
    missing = "has no label: neither labels/*.json nor targets/*_target.png"
    # The same ground in two copies of the set must fall into one split: groups carry no folder.
    yield from _distinct(folder, labels, missing, _PRE, group_by_folder=False)


def _pairs(root: Path, folder: Folder) -> Iterator[Candidate | Skip]:
    if not any(is_image_folder(part) for part in folder.parts):
        return
    masks: dict[str, Path] = {}
    try:
        for place in pair_folders(root, folder):
            for name in list_folder(place)[0]:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in MASK_SUFFIXES:
                    masks.setdefault(stem, place / name)
    except OSError as error:
        yield Skip(folder.relative(), f"its masks cannot be listed: {error.strerror or error}")
        return
    labels = {name: masks.get(os.path.splitext(name)[0]) for name in folder.images}
    yield from _distinct(folder, labels, "has no mask of the same name")


def _distinct(
    folder: Folder,
    labels: dict[str, Path | None],
    missing: str = "",
    ending: str = "",
    *,
    group_by_folder: bool = True,
) -> Iterator[Candidate]:
    """Make candidates; of two images that differ in their suffix only, the first by name is used."""
    first: dict[str, str] = {}
    for name, label in labels.items():
        stem = os.path.splitext(name)[0].removesuffix(ending)
        owner = first.setdefault(stem, name)
        problem = f"has the same name as {owner}, which is used" if owner != name else ""
        if not problem and label is None:
            problem = missing
        failed = printable(name) != name
        if failed:
            problem = BAD_NAME
        identity = scene_id(folder.prefix, stem)
        group = identity if group_by_folder else scene_id((), stem)
        yield Candidate(identity, group, folder.path / name, folder.relative(name), label, problem, failed)
