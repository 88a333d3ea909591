"""Finding the image files of each layout, and the label that belongs to each."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from changen_cli.core.types import Skip
from changen_cli.sources.walk import (
    BAD_NAME,
    IMAGE_SUFFIXES,
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image file that may become a scene. Folders hold many: what is not asked for is not made.

    Attributes:
        parent: Its folder.
        place: The same below the input folder, with ``/``, as all names in it begin; printable.
        prefix: Folders for its id.
        name: Its name.
        stem: Its name for ids.
        label_file: The label JSON, mask or target; empty for an unlabelled image.
        problem: Why it cannot be used, known without opening it; empty when it can.
        failed: Whether the problem is a fault, rather than that the image is out of scope.
        group_prefix: Folders for the id of its group.
    """

    parent: str
    place: str
    prefix: tuple[str, ...]
    name: str
    stem: str
    label_file: str = ""
    problem: str = ""
    failed: bool = False
    group_prefix: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The scene's id."""
        return scene_id(self.prefix, self.stem)

    @property
    def group(self) -> str:
        """The scene's group."""
        return scene_id(self.group_prefix, self.stem)

    @property
    def path(self) -> Path:
        """The image."""
        return Path(self.parent, self.name)

    @property
    def relative(self) -> str:
        """The image below the input folder, with ``/``, printable."""
        return self.place + printable(self.name)

    @property
    def label(self) -> Path | None:
        """The label JSON, mask or target; None for an unlabelled image."""
        return Path(self.label_file) if self.label_file else None

    @property
    def files(self) -> tuple[str, ...]:
        """The image, and its label."""
        image = os.path.join(self.parent, self.name)
        return (image, self.label_file) if self.label_file else (image,)


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


def count_candidates(root: Path, layout: Layout) -> int:
    """Count the images of a layout by their names only."""
    return sum(_count(root, folder, layout) for folder in walk(root))


def _count(root: Path, folder: Folder, layout: Layout) -> int:
    if layout == "xbd":
        return sum(1 for _ in _pre_disaster(folder))
    if layout == "pairs" and not any(map(is_image_folder, folder.parts)):
        return 0
    return sum(1 for _ in folder.images())


def folder_candidates(root: Path, folder: Folder, layout: Layout) -> Iterator[Candidate | Skip]:
    """Yield the candidates of one folder only."""
    if layout == "xbd":
        yield from _xbd(folder)
    elif layout == "pairs":
        yield from _pairs(root, folder)
    else:
        yield from _distinct(folder, folder.images(), lambda stem: "")


def is_xbd_folder(folder: Folder) -> bool:
    """Whether a folder holds pre-disaster images and has a label folder beside it."""
    beside = {name for name, _ in _XBD_LABELS}
    return any(True for _ in _pre_disaster(folder)) and any((folder.path.parent / name).is_dir() for name in beside)


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


def _pre_disaster(folder: Folder) -> Iterator[str]:
    if folder.parts and is_image_folder(folder.parts[-1]):
        yield from (name for name in folder.images() if os.path.splitext(name)[0].endswith(_PRE))


def _xbd(folder: Folder) -> Iterator[Candidate]:
    parent = os.fspath(folder.path.parent)

    def label(stem: str) -> str:
        options = (os.path.join(parent, place, pattern.format(stem)) for place, pattern in _XBD_LABELS)
        return next((path for path in options if os.path.lexists(path)), "")

    missing = "has no label: neither labels/*.json nor targets/*_target.png"
    # The same ground in two copies of the set must fall into one split: groups carry no folder.
    yield from _distinct(folder, _pre_disaster(folder), label, missing, _PRE, group_by_folder=False)


def _pairs(root: Path, folder: Folder) -> Iterator[Candidate | Skip]:
    if not any(is_image_folder(part) for part in folder.parts):
        return
    masks: list[tuple[str, Names]] = []
    try:
        for place in pair_folders(root, folder):
            masks.append((os.fspath(place), Names(list_folder(place)[0], MASK_SUFFIXES)))
    except OSError as error:
        yield Skip(folder.relative(), f"its masks cannot be listed: {error.strerror or error}")
        return

    def label(stem: str) -> str:
        found = ((place, name) for place, names in masks if (name := names.first(stem)))
        return next((os.path.join(*pair) for pair in found), "")

    yield from _distinct(folder, folder.images(), label, "has no mask of the same name")


class Names:
    """The names of a folder, by stem, without another text for each.

    Args:
        names: All names.
        suffixes: Endings that count, in lower case.
    """

    def __init__(self, names: Iterable[str], suffixes: tuple[str, ...]) -> None:
        self._names = {name for name in names if name.lower().endswith(suffixes)}
        self._suffixes = sorted({os.path.splitext(name)[1] for name in self._names})

    def first(self, stem: str) -> str:
        """The first name, in their order, that has a stem; empty where none has."""
        return next((stem + suffix for suffix in self._suffixes if stem + suffix in self._names), "")


def _distinct(
    folder: Folder,
    images: Iterable[str],
    label: Callable[[str], str],
    missing: str = "",
    ending: str = "",
    *,
    group_by_folder: bool = True,
) -> Iterator[Candidate]:
    """Make candidates; of two images that differ in their suffix only, the first by name is used.

    Args:
        folder: Where they are.
        images: Their names.
        label: The label of a stem; empty where it has none.
        missing: What is wrong with an image without a label; empty where nothing is.
        ending: What is left out of ids.
        group_by_folder: Whether equal names in other folders are other places.
    """
    known = Names(folder.files, IMAGE_SUFFIXES)
    parent, place = os.fspath(folder.path), folder.relative("")
    place = "" if place == "." else f"{place}/"
    group_prefix = folder.prefix if group_by_folder else ()
    for name in images:
        stem = os.path.splitext(name)[0]
        owner, found = known.first(stem), label(stem)
        problem = f"has the same name as {owner}, which is used" if owner != name else ""
        if not problem and not found:
            problem = missing
        failed = printable(name) != name
        if failed:
            problem = BAD_NAME
        identity = stem.removesuffix(ending)
        yield Candidate(parent, place, folder.prefix, name, identity, found, problem, failed, group_prefix)
