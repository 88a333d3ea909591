"""A folder of images as a stream of scenes: the layout is detected, or given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.types import ClassSchema, Scene, Skip
from changen_cli.sources.candidates import (
    Candidate,
    Layout,
    find_candidates,
    folder_candidates,
    is_xbd_folder,
    pair_folders,
)
from changen_cli.sources.walk import IMAGE_SUFFIXES, Folder, is_changen_output, walk

__all__ = ["Layout", "Source", "detect_layout", "open_source"]

_SHOWN_FOLDERS = 4
_PEEKED = 8
"""So many files are tried to check options against the first readable one."""
_FORCE_IMAGES = "pass --layout images to ignore the masks"


class Source:
    """The scenes of one input folder. Iterating streams them; every iteration starts anew, in the same order.

    Every image file gives either its scenes (one, or its tiles) or exactly one skip. Make it with
    :func:`open_source`, which checks the request.

    Attributes:
        root: The input folder.
        layout: How it is laid out.
        schema: The classes of the masks.
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
    ) -> None:
        self.root = root
        self.layout: Layout = layout
        self.schema = schema
        self._named = named
        self._res = res
        self._upsample = upsample
        self._bands = bands

    def __iter__(self) -> Iterator[Scene | Skip]:
        # Imported here: these load rasterio and Pillow, which finding and describing a folder do without.
        from changen_cli.sources.readers import read_scene
        from changen_cli.sources.tiling import tile_scene

        for candidate in find_candidates(self.root, self.layout):
            if isinstance(candidate, Skip):
                yield candidate
                continue
            if candidate.problem:
                yield Skip(candidate.relative, candidate.problem, failed=False)
                continue
            try:
                scene = read_scene(candidate, self.schema, self._bands, named=self._named, is_xbd=self.layout == "xbd")
            except SceneError as error:
                yield Skip(candidate.relative, str(error))
                continue
            yield from tile_scene(scene, self._res, upsample=self._upsample)

    def count_images(self) -> int:
        """Count the image files, those that will be skipped included, by their names only."""
        return sum(isinstance(item, Candidate) for item in find_candidates(self.root, self.layout))

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
            return f"pairs layout: images under {where} with masks of the same name in {kinds or 'no folder'}"
        return f"images layout: unlabelled images under {where}"


def detect_layout(root: Path) -> Layout:
    """Find out how an input folder is laid out; the first folder in walking order that is decisive decides.

    * ``xbd``: ``images/`` with ``*_pre_disaster.*`` beside ``labels/``, ``targets/`` or ``masks/``, at any depth.
    * ``pairs``: ``images/`` beside ``masks/`` or ``labels/`` (or similar names) with a mask of an image's name.
    * ``images``: images, and no mask folder anywhere.

    Raises:
        UsageError: There is no such folder, it holds no images, or mask folders in it fit none of them.
    """
    _check_root(root)
    mask_folder = ""
    found = False
    for folder in walk(root):
        if is_xbd_folder(folder):
            return "xbd"
        if _has_pair(root, folder):
            return "pairs"
        found = found or bool(folder.images)
        if not mask_folder and folder.mask_folders:
            mask_folder = folder.relative(folder.mask_folders[0])
    if not found:
        raise _no_images(root)
    if mask_folder:
        raise UsageError(
            f"{root} has masks in {mask_folder}/, but no mask is named like an image in an images/ folder beside it",
            f"Put images and masks of the same name into images/ and masks/, or {_FORCE_IMAGES}",
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
    source = Source(
        root,
        layout,
        _schema(layout, classes),
        named=classes is not None,
        res=res,
        upsample=upsample,
        bands=bands,
    )
    _peek(source, bands)
    return source


def _check_root(root: Path) -> None:
    if not root.exists():
        raise UsageError(f"{root} does not exist", "Give the folder that holds the images")
    if not root.is_dir():
        raise UsageError(f"{root} is a file", "Give the folder that holds the images")
    if is_changen_output(root):
        raise UsageError(f"{root} is a dataset made by changen, not a source", "Give the folder of the real images")


def _no_images(root: Path) -> UsageError:
    return UsageError(
        f"no images in {root}", f"Looked for {', '.join(IMAGE_SUFFIXES)} at any depth, hidden folders aside"
    )


def _check_layout(root: Path, layout: Layout) -> None:
    """Raise UsageError unless the folder has at least one image of the layout asked for."""
    if layout not in ("xbd", "pairs", "images"):
        raise UsageError(f"there is no layout {layout!r}", "Choose xbd, pairs or images")
    found = False
    for folder in walk(root):
        found = found or bool(folder.images)
        if layout == "xbd" and is_xbd_folder(folder):
            return
        if layout == "pairs" and _has_pair(root, folder):
            return
        if layout == "images" and found:
            return
    if not found:
        raise _no_images(root)
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
    if schema.building_id is None:
        raise UsageError(
            f"--classes {shown} has no building class", "Buildings are what changes: name one class building"
        )
    if layout == "xbd" and (len(schema.names) != 2 or schema.building_id != 1):
        raise UsageError("xBD labels hold background and building only", "Leave out --classes")
    return schema


def _peek(source: Source, bands: tuple[int, ...] | None) -> None:
    """Check options against the first readable files, so that a wrong one fails at once and not file by file."""
    check_mask = source.layout == "pairs" and not source._named
    if bands is None and not check_mask:
        return
    from changen_cli.sources.masks import to_class_ids
    from changen_cli.sources.raster import BandsError, read_image, read_mask

    tried = 0
    for candidate in find_candidates(source.root, source.layout):
        if isinstance(candidate, Skip) or candidate.problem:
            continue
        tried += 1
        if tried > _PEEKED or (bands is None and not check_mask):
            return
        if bands is not None:
            try:
                read_image(candidate.path, bands)
                bands = None
            except BandsError as error:
                raise UsageError(f"{candidate.path} {error}") from error
            except SceneError:
                continue
        if check_mask and candidate.label is not None:
            try:
                values, nodata = read_mask(candidate.label)
            except SceneError:
                continue
            check_mask = False
            try:
                to_class_ids(values, nodata, source.schema, named=False)
            except SceneError as error:
                raise UsageError(
                    f"{candidate.label}: {error}", "Name the classes in id order: --classes background,building,…"
                ) from error
