"""Pairs of images with what changed between them: of datasets made by changen, and of real change sets."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from changen_cli.core.errors import OutputError, SceneError, UsageError
from changen_cli.core.seeding import derive_seed
from changen_cli.core.types import IGNORE, BoolArray, ClassSchema, Skip, UInt8Array
from changen_cli.core.untrusted import read_json
from changen_cli.exports.findings import one_line
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import Master, Pair, Sample, open_master
from changen_cli.exports.master import pairs as date_pairs
from changen_cli.sources.raster import read_image, read_mask
from changen_cli.sources.walk import is_image, list_folder, printable
from changen_cli.sources.wkt import parse_polygons

MAX_STEPS = 4
"""Pairs of neighbouring dates taken of one series, spread over it: a long one must not stand for all."""
_MOST_CLASSES = 32
_PRE, _POST = "_pre_disaster", "_post_disaster"
_DAMAGED = ("minor-damage", "major-damage", "destroyed")

Planes = tuple[BoolArray, BoolArray]
"""What changed, and where that is known; bool ``[H, W]`` each."""
Label = Callable[[tuple[Path, ...], tuple[int, ...]], Planes]
"""Reads the labels of a pair, given the size of its images."""


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Two images of one place.

    Attributes:
        name: Unique in its set.
        place: What it shows; probes are never tested on a place they were fitted to.
        before: uint8 ``[H, W, 3]``, the earlier date.
        after: uint8 ``[H, W, 3]``.
        change: bool ``[H, W]``, what changed.
        known: bool ``[H, W]``, where the labels say anything.
        masks: uint8 ``[2, H, W]``, semantic masks of the two dates; None where the set has none.
    """

    name: str
    place: str
    before: UInt8Array
    after: UInt8Array
    change: BoolArray
    known: BoolArray
    masks: UInt8Array | None = None


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """A set of pairs of which any can be read by its number.

    Attributes:
        layout: How it is stored.
        count: How many; of datasets made by changen, how many series.
        names: Goes through all names, in order, without reading pixels.
        read: Number → its pairs, or why it cannot be used.
        schema: The classes of its semantic masks; None where it has none, or nobody says what they mean.
    """

    layout: str
    count: int
    names: Callable[[], Iterable[str]]
    read: Callable[[int], Iterator[ImagePair | Skip]]
    schema: ClassSchema | None = None

    def choose(self, most: int) -> list[int]:
        """Numbers of at most ``most`` of them, in order: those of the lowest hashes, so the same ones every time."""
        ranked = ((derive_seed(0, "evaluate", name), number) for number, name in enumerate(self.names()))
        return sorted(number for _, number in heapq.nsmallest(most, ranked))


def open_real_pairs(root: Path, *, named: str = "--real", most_steps: int | None = MAX_STEPS) -> ImagePairs:
    """Look at a folder of real pairs: LEVIR-CD, WHU-CD, S2Looking, SECOND, changen2, xBD, or a dataset of changen.

    Args:
        root: The set, or a folder right above its splits.
        named: What the user calls it, for messages.
        most_steps: See :func:`made_pairs`.

    Raises:
        UsageError: There is no such folder, or no pair in it.
    """
    if not root.is_dir():
        raise UsageError(f"{named} {root} is no folder", "Give the folder that holds A/ B/ label/ or the like")
    if (root / "manifest.json").is_file() and (root / "classes.json").is_file():
        return made_pairs(open_master(root), most_steps=most_steps)
    folders = [root, *(root / name for name in list_folder(root)[1])]
    for layout, parts, label in _LAYOUTS:
        found = [triple for folder in folders for triple in _triples(folder, parts)]
        if found:
            return _set(root, layout, found, label)
    disasters = [pair for folder in folders for pair in _disasters(folder)]
    if disasters:
        return _set(root, "xbd", disasters, _read_xbd)
    raise UsageError(f"{named} {root} holds no pairs of images with labels", f"Known: {_KNOWN}")


def made_pairs(master: Master, *, most_steps: int | None = MAX_STEPS) -> ImagePairs:
    """The pairs of neighbouring dates of a dataset made by changen.

    Args:
        master: The dataset.
        most_steps: At most so many of a series, spread over it; None for all.

    Raises:
        UsageError: It has no images.
    """
    if not master.has_images:
        raise UsageError(f"{master.root} has masks only", "Evaluate a dataset made by changen generate")
    lookup = Lookup(master)

    def names() -> Iterator[str]:
        return (str(row["image_name"]) for row in master.rows())

    def read(number: int) -> Iterator[ImagePair | Skip]:
        yield from (_made(pair) for pair in _spread(lookup[number], most_steps))

    return ImagePairs("changen", len(lookup), names, read, master.schema)


def _spread(sample: Sample, most: int | None) -> list[Pair]:
    found = date_pairs(sample)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(most or len(found), len(found))).round().astype(int))
    return [found[place] for place in chosen]


def _made(pair: Pair) -> ImagePair:
    before, after = (image.array() for image in pair.images)
    masks = np.stack(pair.masks)
    sizes = {before.shape[:2], after.shape[:2], masks.shape[1:]}
    if len(sizes) > 1 or before.ndim != 3 or after.ndim != 3:
        raise OutputError(f"{pair.name}: images and masks differ in size", "Run changen validate on the dataset")
    known = (masks != IGNORE).all(axis=0)
    return ImagePair(
        pair.name, pair.sample.group, before[..., :3], after[..., :3], pair.change & known, known, masks=masks
    )


@dataclass(frozen=True)
class _Files:
    """The files of one pair: images of both dates, and its labels."""

    before: Path
    after: Path
    labels: tuple[Path, ...]

    def name(self, root: Path) -> str:
        """Its path below the set, which is the same wherever the set lies."""
        return printable(self.before.relative_to(root).as_posix())


def _set(root: Path, layout: str, files: list[_Files], label: Label) -> ImagePairs:
    return ImagePairs(
        layout,
        len(files),
        lambda: (item.name(root) for item in files),
        lambda number: _read(root, files[number], label),
    )


def _triples(folder: Path, parts: tuple[str, ...]) -> list[_Files]:
    """Files of one stem in all of some folders; those that lack one are no pair."""
    if not all((folder / part).is_dir() for part in parts):
        return []
    stems = [
        {Path(name).stem: folder / part / name for name in list_folder(folder / part)[0] if is_image(name)}
        for part in parts
    ]
    common = sorted(set.intersection(*map(set, stems)))
    return [_Files(stems[0][stem], stems[1][stem], tuple(part[stem] for part in stems[2:])) for stem in common]


def _disasters(folder: Path) -> list[_Files]:
    """Pairs of an xBD tree: targets where there are any, else labels with polygons."""
    if not (folder / "images").is_dir():
        return []
    found = []
    images = {Path(name).stem: folder / "images" / name for name in list_folder(folder / "images")[0]}
    for stem, before in images.items():
        name = stem.removesuffix(_PRE)
        after = images.get(f"{name}{_POST}")
        target, label = folder / "targets" / f"{name}{_POST}_target.png", folder / "labels" / f"{name}{_POST}.json"
        labels = next((path for path in (target, label) if path.is_file()), None)
        if stem != name and after is not None and labels is not None:
            found.append(_Files(before, after, (labels,)))
    return found


def _read(root: Path, files: _Files, label: Label) -> Iterator[ImagePair | Skip]:
    name = files.name(root)
    try:
        before, after = read_image(files.before).image, read_image(files.after).image
        change, known = label(files.labels, before.shape[:2])
    except SceneError as error:
        yield Skip(name, str(error))
        return
    if before.shape != after.shape or change.shape != before.shape[:2]:
        yield Skip(name, "its two images and its labels differ in size")
        return
    yield ImagePair(name, name, before, after, change & known, known)


def _read_binary(paths: tuple[Path, ...], shape: tuple[int, ...]) -> Planes:
    """A label of 0 and 255, or 0 and 1 with 255 unknown."""
    values = read_image(paths[0]).image.max(axis=-1)
    few = values[values < IGNORE]
    if values.max(initial=0) == IGNORE and few.max(initial=0) == 1:
        return values == 1, values != IGNORE
    # Labels that went through resampling or JPEG have values in between.
    changed = values >= 128 if values.max(initial=0) > _MOST_CLASSES else values > 0
    return changed, np.ones(values.shape, bool)


def _read_second(paths: tuple[Path, ...], shape: tuple[int, ...]) -> Planes:
    """SECOND's labels of both dates: white, or the index 0, where nothing changed."""
    changed = np.zeros(shape, bool)
    for path in paths:
        pixels = read_image(path).image
        if pixels.shape[:2] != shape:
            raise SceneError(f"{path.name} differs in size from its image")
        grey = (pixels == pixels[..., :1]).all() and pixels.max(initial=0) <= _MOST_CLASSES
        changed |= (pixels > 0).any(axis=-1) if grey else (pixels < IGNORE).any(axis=-1)
    return changed, np.ones(shape, bool)


def _read_ids(paths: tuple[Path, ...], shape: tuple[int, ...]) -> Planes:
    """Semantic masks of both dates."""
    first, second = (read_mask(path)[0] for path in paths)
    if first.shape != second.shape:
        raise SceneError(f"{paths[1].name} differs in size from the mask of the first date")
    return first != second, (first != IGNORE) & (second != IGNORE)


def _read_xbd(paths: tuple[Path, ...], shape: tuple[int, ...]) -> Planes:
    """The later date's damage: a building of minor damage or more has changed; the unclassified are unknown."""
    path = paths[0]
    if path.suffix != ".json":
        values = read_mask(path)[0]
        return (values >= 2) & (values <= 4), values != IGNORE
    from rasterio.features import rasterize

    codes = {"un-classified": 1} | dict.fromkeys(_DAMAGED, 2)
    shapes = []
    try:
        for feature in read_json(path)["features"]["xy"]:
            code = codes.get(feature["properties"].get("subtype"), 0)
            for polygon in parse_polygons(feature["wkt"]) if code else ():
                shapes.append(({"type": "Polygon", "coordinates": [ring.tolist() for ring in polygon]}, code))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(f"label {path.name} cannot be read: {one_line(error)}") from None
    burnt = rasterize(shapes, out_shape=shape, fill=0, dtype="uint8") if shapes else np.zeros(shape, np.uint8)
    return burnt == 2, burnt != 1


_LAYOUTS: tuple[tuple[str, tuple[str, ...], Label], ...] = (
    ("levir-cd", ("A", "B", "label"), _read_binary),
    ("s2looking", ("Image1", "Image2", "label"), _read_binary),
    ("second", ("im1", "im2", "label1", "label2"), _read_second),
    ("changen2", ("t1_images", "t2_images", "t1_masks", "t2_masks"), _read_ids),
)
_KNOWN = (
    "A/, B/ and label/ (LEVIR-CD, WHU-CD), Image1/, Image2/ and label/ (S2Looking), im1/, im2/, label1/ and label2/ "
    "(SECOND), t1_images/ … t2_masks/, images/ beside targets/ or labels/ (xBD), each also below splits, and datasets "
    "made by changen"
)
