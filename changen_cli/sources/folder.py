"""A folder of images as a stream of scenes: the layout is detected, or given."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from copy import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.archives import is_archive
from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.proposals import PROPOSALS
from changen_cli.core.types import ClassSchema, Scene, Skip
from changen_cli.sources.candidates import (
    Candidate,
    Layout,
    count_candidates,
    find_candidates,
    folder_candidates,
    is_xbd_folder,
    pair_folders,
)
from changen_cli.sources.walk import (
    IMAGE_SUFFIXES,
    Folder,
    is_changen_output,
    is_image_folder,
    is_mask_folder,
    list_folder,
    walk,
)

if TYPE_CHECKING:
    from changen_cli.sources.masks import Meaning
    from changen_cli.sources.pseudo_masks import Proposer

__all__ = ["Layout", "Source", "detect_layout", "open_source"]

_SHOWN_FOLDERS = 4
_PEEKED = 8
"""So many files are tried to check options against the first readable one."""
_DECIDING = 64
"""So many readable masks are looked at to decide what 255 is in all of them, …"""
_TRIED = 1024
"""… among so many files at most."""
_FORCE_IMAGES = "pass --layout images to ignore the masks"


class Source:
    """The scenes of one input folder. Iterating streams them; every iteration starts anew, in the same order.

    Every image file gives either its scenes (one, or its tiles) or exactly one skip. Make it with
    :func:`open_source`, which checks the request.

    Attributes:
        root: The input folder.
        layout: How it is laid out.
        schema: The classes of the masks.
        meaning_of_255: What 255 is in the masks: decided once for all of them, so that a tile that holds nothing but
            0 and 255 is read like the others. None where the masks looked at hold neither 1 nor 255, and in layouts
            other than ``pairs``.
        propose: Finds objects in every tile of images without masks; None leaves them without.
    """

    def __init__(
        self,
        root: Path,
        layout: Layout,
        schema: ClassSchema,
        *,
        named: bool = False,
        res: int | None = None,
        upsample: bool = False,
        bands: tuple[int, ...] | None = None,
        meaning_of_255: Meaning | None = None,
    ) -> None:
        self.root = root
        self.layout: Layout = layout
        self.schema = schema
        self.meaning_of_255 = meaning_of_255
        self.propose: Proposer | None = None
        self._stored = schema  # what the files hold; the schema may tell more states apart
        self._named = named
        self._res = res
        self._upsample = upsample
        self._bands = bands

    def __iter__(self) -> Iterator[Scene | Skip]:
        return self.scenes_of(self.candidates())

    def candidates(self, wanted: Collection[str] | None = None) -> Iterator[Candidate | Skip]:
        """The image files, see :func:`~changen_cli.sources.candidates.find_candidates`."""
        return find_candidates(self.root, self.layout, wanted)

    def scenes_of(self, candidates: Iterable[Candidate | Skip]) -> Iterator[Scene | Skip]:
        """The scenes of some images only; skips are passed on."""
        # Imported here: these load rasterio and Pillow, which finding and describing a folder do without.
        from changen_cli.sources.pseudo_masks import with_proposals
        from changen_cli.sources.readers import read_scene
        from changen_cli.sources.tiling import tile_scene

        for candidate in candidates:
            if isinstance(candidate, Skip):
                yield candidate
                continue
            if candidate.problem:
                yield Skip(candidate.relative, candidate.problem, failed=candidate.failed)
                continue
            try:
                scene = read_scene(
                    candidate,
                    self._stored,
                    self._bands,
                    named=self._named,
                    is_xbd=self.layout == "xbd",
                    meaning=self.meaning_of_255,
                    blank=self.propose is not None,
                )
            except SceneError as error:
                yield Skip(candidate.relative, str(error))
                continue
            for tile in tile_scene(scene, self._res, upsample=self._upsample):
                # Tile by tile, not on the whole image: that bounds memory, and a scene nobody asks for costs nothing.
                yield tile if self.propose is None or isinstance(tile, Skip) else with_proposals(tile, self.propose)

    def proposing(self, propose: Proposer) -> Source:
        """These images, of layout ``images``, with masks of class-agnostic proposals.

        Args:
            propose: Finds the objects of one image.
        """
        source = copy(self)
        source.schema, source.propose = PROPOSALS, propose
        return source

    def with_damage(self) -> Source:
        """These scenes, with classes for the states of damage; their masks still hold what the files do."""
        source = copy(self)
        source.schema = self.schema.with_damage()
        return source

    def count_images(self) -> int:
        """Count the image files, those that will be skipped included, by their names only."""
        return count_candidates(self.root, self.layout)

    def describe(self) -> str:
        """Say in one line what is read from where."""
        places: list[str] = []
        labels: list[str] = []
        for folder in walk(self.root):
            if not any(isinstance(item, Candidate) for item in folder_candidates(self.root, folder, self.layout)):
                continue
            if self.layout == "xbd":
                place = "/".join(folder.parts[:-1])
                labels += [n for n in ("labels", "targets", "masks") if (folder.path.parent / n).is_dir()][:1]
            else:
                place = "/".join(folder.parts)
            if self.layout == "pairs":
                labels += [path.name for path in pair_folders(self.root, folder)][:1]
            places.append(f"{place}/" if place else "./")
            if len(places) > _SHOWN_FOLDERS:
                places[-1] = "…"
                break
        where, kinds = ", ".join(places), ", ".join(f"{name}/" for name in dict.fromkeys(labels))
        if self.layout == "xbd":
            kinds = kinds.replace("labels/", "labels/*.json").replace("targets/", "targets/*_target.png")
            return f"xBD layout: pre-disaster images under {where} with {kinds or 'no labels'}"
        if self.layout == "pairs":
            text = f"pairs layout: images under {where} with masks of the same name in {kinds or 'no folder'}"
            return f"{text}, where 255 is {self.meaning_of_255}" if self.meaning_of_255 else text
        text = f"images layout: unlabelled images under {where}"
        return f"{text}, with class-agnostic object proposals for masks, no ground truth" if self.propose else text


def detect_layout(root: Path) -> Layout:
    """Find out how an input folder is laid out; the first folder in walking order that is decisive decides.

    * ``xbd``: ``images/`` with ``*_pre_disaster.*`` beside ``labels/``, ``targets/`` or ``masks/``, at any depth.
    * ``pairs``: ``images/`` beside ``masks/`` or ``labels/`` (or similar names) with a mask of an image's name.
    * ``images``: images, and no mask folder anywhere.

    Raises:
        UsageError: There is no such folder, it holds no images, mask folders in it fit none of them, or it is an
            images folder whose labels lie beside it.
    """
    _check_root(root)
    mask_folder = ""
    found = False
    for folder in walk(root):
        if is_xbd_folder(folder):
            return "xbd"
        if _has_pair(root, folder):
            return "pairs"
        found = found or any(True for _ in folder.images())
        if not mask_folder and folder.mask_folders:
            mask_folder = folder.relative(folder.mask_folders[0])
    if not found:
        raise _no_images(root)
    if mask_folder:
        raise UsageError(
            f"{root} has masks in {mask_folder}/, but no mask is named like an image in an images/ folder beside it",
            f"Put images and masks of the same name into images/ and masks/, or {_FORCE_IMAGES}",
        )
    parent = _labelled_parent(root)
    if parent is not None:
        raise UsageError(
            f"{root} holds images only, their masks or labels lie beside it",
            f"Give {parent}{os.sep} instead, or {_FORCE_IMAGES}",
        )
    return "images"


def open_source(
    root: Path,
    *,
    layout: Layout | None = None,
    classes: tuple[str, ...] | None = None,
    res: int | None = None,
    upsample: bool = False,
    bands: tuple[int, ...] | None = None,
) -> Source:
    """Check a request against an input folder and return its scenes.

    Args:
        root: The input folder.
        layout: How it is laid out; detected when None.
        classes: Names of the mask's classes in id order, one of them ``building``; None for background, building.
        res: Tile side in pixels; None leaves scenes up to 1024 px whole.
        upsample: Enlarge scenes smaller than ``res`` instead of skipping them.
        bands: One or three 1-based band numbers for red, green, blue; None chooses by their tags.

    Raises:
        UsageError: The folder or an option cannot be used; the message names it and says what to do.
    """
    _check_root(root)
    if res is not None and res < 1:
        raise UsageError(f"--res {res} is no tile size", "Give a number of pixels, e.g. --res 512")
    if bands is not None and (len(bands) not in (1, 3) or min(bands) < 1):
        shown = ",".join(map(str, bands))
        raise UsageError(f"--bands {shown} does not work", "Give one or three band numbers from 1, e.g. --bands 4,3,2")
    if layout is None:
        layout = detect_layout(root)
    else:
        _check_layout(root, layout)
    schema = _schema(layout, classes)
    if bands is not None:
        _check_bands(root, layout, bands)
    meaning: Meaning | None = None
    if layout == "pairs":
        meaning = "unknown" if classes is not None else _decide_255(root, schema)
    return Source(
        root,
        layout,
        schema,
        named=classes is not None,
        res=res,
        upsample=upsample,
        bands=bands,
        meaning_of_255=meaning,
    )


def _check_root(root: Path) -> None:
    if not root.exists():
        raise UsageError(f"{root} does not exist", "Give the folder that holds the images")
    if not root.is_dir():
        fix = "Unpack it, and give" if is_archive(root.name) else "Give"
        raise UsageError(f"{root} is a file", f"{fix} the folder that holds the images")
    if is_changen_output(root):
        raise UsageError(f"{root} is a dataset made by changen, not a source", "Give the folder of the real images")


def _no_images(root: Path) -> UsageError:
    unread = next((f" ({folder.relative()}: {folder.error})" for folder in walk(root) if folder.error), "")
    return UsageError(
        f"no images in {root}{unread}", f"Looked for {', '.join(IMAGE_SUFFIXES)} at any depth, hidden folders aside"
    )


def _check_layout(root: Path, layout: Layout) -> None:
    """Raise UsageError unless the folder has at least one image of the layout asked for."""
    if layout not in ("xbd", "pairs", "images"):
        raise UsageError(f"there is no layout {layout!r}", "Choose xbd, pairs or images")
    found = False
    for folder in walk(root):
        found = found or any(True for _ in folder.images())
        if layout == "xbd" and is_xbd_folder(folder):
            return
        if layout == "pairs" and _has_pair(root, folder):
            return
        if layout == "images" and found:
            return
    if not found:
        raise _no_images(root)
    parent = _labelled_parent(root)
    if parent is not None:
        raise UsageError(
            f"{root} holds images only, their masks or labels lie beside it", f"Give {parent}{os.sep} instead"
        )
    if layout == "xbd":
        raise UsageError(
            f"{root} is not laid out as xBD",
            "It needs images/*_pre_disaster.png beside labels/ or targets/; drop --layout",
        )
    raise UsageError(
        f"{root} has no image with a mask of the same name",
        f"It needs images/ beside masks/ or labels/ with PNG or TIFF masks; or {_FORCE_IMAGES}",
    )


def _has_pair(root: Path, folder: Folder) -> bool:
    items = folder_candidates(root, folder, "pairs")
    return any(isinstance(item, Candidate) and item.label is not None for item in items)


def _labelled_parent(root: Path) -> Path | None:
    """The folder to give instead, if ``root`` is an images folder whose masks or labels lie beside it."""
    here = Path(os.path.abspath(root))  # not resolved: a linked folder has its masks beside the link
    try:
        if not is_image_folder(here.name) or not any(map(is_mask_folder, list_folder(here.parent)[1])):
            return None
    except OSError:
        return None
    for folder in walk(root):
        seen = replace(folder, path=here.joinpath(*folder.parts), parts=(here.name, *folder.parts))
        if is_xbd_folder(seen) or _has_pair(here.parent, seen):
            return root.parent if root.name == here.name else here.parent
    return None


def _schema(layout: Layout, classes: tuple[str, ...] | None) -> ClassSchema:
    if classes is None:
        return ClassSchema()
    shown = ",".join(classes)
    if any(not name.strip() for name in classes) or len(set(classes)) != len(classes):
        raise UsageError(f"--classes {shown} holds an empty or repeated name", "Name every class id once, from id 0")
    try:
        schema = ClassSchema(tuple(name.strip() for name in classes))
    except ValueError as error:
        raise UsageError(f"--classes: {error}", "Name every class id once, from id 0") from error
    if layout == "xbd" and (len(schema.names) != 2 or schema.building_id != 1):
        raise UsageError("xBD labels hold background and building only", "Leave out --classes")
    return schema


def _check_bands(root: Path, layout: Layout, bands: tuple[int, ...]) -> None:
    """Raise UsageError if the first readable image lacks a band, so that a wrong option fails at once."""
    from changen_cli.sources.raster import BandsError, read_image

    usable = (item for item in find_candidates(root, layout) if isinstance(item, Candidate) and not item.problem)
    for candidate in islice(usable, _PEEKED):
        try:
            read_image(candidate.path, bands)
            return
        except BandsError as error:
            raise UsageError(f"{candidate.path} {error}") from error
        except SceneError:
            continue


def _decide_255(root: Path, schema: ClassSchema) -> Meaning | None:
    """Find out what 255 is in masks without named classes.

    Raises:
        UsageError: The first readable mask is not binary, so its classes must be named.
    """
    from changen_cli.sources.masks import meaning_of_255

    return meaning_of_255(islice(_binary_masks(root, schema), _DECIDING))


def _binary_masks(root: Path, schema: ClassSchema) -> Iterator[tuple[npt.NDArray[np.integer[Any]], int | None]]:
    from changen_cli.sources.masks import to_class_ids
    from changen_cli.sources.raster import read_mask

    first = True
    usable = (item for item in find_candidates(root, "pairs") if isinstance(item, Candidate) and not item.problem)
    for path in islice((item.label for item in usable if item.label is not None), _TRIED):
        try:
            values, nodata = read_mask(path)
        except SceneError:
            continue
        if first:
            try:
                to_class_ids(values, nodata, schema, named=False, meaning="unknown")
            except SceneError as error:
                raise UsageError(
                    f"{path}: {error}", "Name the classes in id order: --classes background,building,…"
                ) from error
        first = False
        yield values, nodata
