"""Pairs of semantic masks of two dates, as real and made change sets store them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.types import IGNORE, ClassSchema, Skip, UInt8Array
from changen_cli.core.untrusted import read_json
from changen_cli.sources.masks import to_class_ids
from changen_cli.sources.raster import read_image, read_mask
from changen_cli.sources.walk import MASK_SUFFIXES, list_folder

PairLayout = Literal["second", "torchange", "changen", "masks"]

_SECOND_COLOURS = {
    (255, 255, 255): IGNORE,
    (0, 0, 255): 0,
    (128, 128, 128): 1,
    (0, 128, 0): 2,
    (0, 255, 0): 3,
    (128, 0, 0): 4,
    (255, 0, 0): 5,
}
SECOND_CLASSES = ("water", "bareland", "rangeland", "tree", "building", "developed")
"""SECOND's water, ground, low vegetation, tree, building and sports field, in words that other folders understand."""

_DATED = re.compile(r"(?P<sample>.+)_t(?P<date>\d+)$")
_BATCH_ROWS = 8


@dataclass(frozen=True, eq=False)
class Pair:
    """The semantic masks of two dates.

    Attributes:
        name: For messages.
        before: uint8 ``[H, W]``, class ids; 255 where unknown.
        after: uint8 ``[H, W]``.
    """

    name: str
    before: UInt8Array
    after: UInt8Array


@dataclass(frozen=True, eq=False)
class PairSet:
    """A folder of pairs.

    Attributes:
        layout: How it is stored.
        classes: Class names, in id order.
        count: Pairs, as far as the file names tell.
        only_changes: Classes are known only where something changed; all other pixels are 255 and unchanged.
        read: Yields the pairs one by one, and those that cannot be read.
    """

    layout: PairLayout
    classes: tuple[str, ...]
    count: int
    only_changes: bool
    read: Callable[[], Iterator[Pair | Skip]]


def open_pairs(root: Path, layout: PairLayout | None = None, classes: Sequence[str] | None = None) -> PairSet:
    """Look at a folder of pairs without reading any.

    Args:
        root: The folder.
        layout: How it is stored; detected when None.
        classes: Class names in id order; from the set itself when None. SECOND's are water, ground, low vegetation,
            tree, building, sports field.

    Raises:
        UsageError: There is no such folder or no pair in it, or nothing says what its classes are.
    """
    if not root.is_dir():
        raise UsageError(f"--pairs {root} is no folder", _LAYOUTS)
    layout = layout or _detect(root)
    if layout == "torchange":
        return _open_parquet(root, _named(root, classes))
    read: Callable[[Path], UInt8Array]
    if layout == "second":
        names = tuple(classes or SECOND_CLASSES)
        read = partial(_read_second, count=len(names))
        files = [found for folder in _with(root, "label1", "label2") for found in _partners(folder, "label1", "label2")]
    elif layout == "masks":
        names = tuple(classes or ("unknown", *OPENEARTHMAP))
        folders = _with(root, "t1_masks", "t2_masks")
        files = [found for folder in folders for found in _partners(folder, "t1_masks", "t2_masks")]
        read = partial(_read_ids, schema=_schema(names))
    else:
        names = _named(root, classes)
        files = [found for folder in _with(root, "masks") for found in _steps(folder / "masks")]
        read = partial(_read_ids, schema=_schema(names))
    if not files:
        raise UsageError(f"--pairs {root} holds no pair of the {layout} layout", _LAYOUTS)
    return PairSet(layout, names, len(files), layout == "second", partial(_read_files, root, files, read))


_LAYOUTS = (
    "Known: label1/ beside label2/ (second), data/*.parquet with t1_mask and t2_mask (torchange), t1_masks/ beside "
    "t2_masks/ (masks), and datasets made by changen"
)

Files = tuple[Path, Path | None]


def _detect(root: Path) -> PairLayout:
    if _shards(root):
        return "torchange"
    if _with(root, "label1", "label2"):
        return "second"
    if _with(root, "t1_masks", "t2_masks"):
        return "masks"
    if (root / "classes.json").is_file() and _with(root, "masks"):
        return "changen"
    raise UsageError(f"--pairs {root}: no layout of pairs is recognised in it", _LAYOUTS)


def _with(root: Path, *names: str) -> list[Path]:
    """The folder itself, or those right below it, that have all of some subfolders."""
    folders = [root, *(root / name for name in list_folder(root)[1])]
    return [folder for folder in folders if all((folder / name).is_dir() for name in names)]


def _partners(folder: Path, first: str, second: str) -> list[Files]:
    """Files of the same stem in two folders; None where the second has none."""
    partners = _masks(folder / second)
    return [(path, partners.get(stem)) for stem, path in _masks(folder / first).items()]


def _masks(folder: Path) -> dict[str, Path]:
    """The mask files of a folder by their stems, sorted."""
    names = (name for name in list_folder(folder)[0] if name.lower().endswith(MASK_SUFFIXES))
    return {Path(name).stem: folder / name for name in names}


def _steps(folder: Path) -> list[Files]:
    """Consecutive dates of the samples of a dataset made by changen."""
    dates: dict[str, dict[int, Path]] = {}
    for stem, path in _masks(folder).items():
        if match := _DATED.fullmatch(stem):
            dates.setdefault(match["sample"], {})[int(match["date"])] = path
    return [
        (paths[date], paths.get(date + 1))
        for _, paths in sorted(dates.items())
        for date in range(min(paths), max(paths))
        if date in paths
    ]


def _named(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The class names given, else those of ``classes.json``."""
    if classes:
        return tuple(classes)
    path = root / "classes.json"
    try:
        rows = read_json(path)["classes"]
        return tuple(row["name"] for row in sorted(rows, key=lambda row: row["id"]))
    except FileNotFoundError:
        known = ",".join(("unknown", *OPENEARTHMAP))
        raise UsageError(
            f"nothing in {root} says what its class ids are", f"Name them in id order, e.g. --classes {known}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read: {error!r}", "Name the classes with --classes") from None


def _schema(names: tuple[str, ...]) -> ClassSchema:
    try:
        return ClassSchema(names)
    except ValueError as error:
        raise UsageError(f"--classes: {error}") from None


def _read_files(root: Path, files: list[Files], read: Callable[[Path], UInt8Array]) -> Iterator[Pair | Skip]:
    for first, second in files:
        name = first.relative_to(root).as_posix()
        if second is None:
            yield Skip(name, "has no partner of the other date")
            continue
        path = first
        try:
            before = read(path)
            path = second
            after = read(path)
        except SceneError as error:
            yield Skip(path.relative_to(root).as_posix(), str(error))
            continue
        yield _pair(name, before, after)


def _pair(name: str, before: UInt8Array, after: UInt8Array) -> Pair | Skip:
    if before.shape == after.shape:
        return Pair(name, before, after)
    sizes = " and ".join(f"{mask.shape[0]}×{mask.shape[1]}" for mask in (before, after))
    return Skip(name, f"its masks are {sizes} px: they must be equal")


def _read_ids(path: Path, schema: ClassSchema) -> UInt8Array:
    return to_class_ids(*read_mask(path), schema, named=True)[0]


def _read_second(path: Path, count: int) -> UInt8Array:
    """A label of SECOND: its colours, or grey values 0 (unchanged) to 6."""
    pixels = read_image(path).image.astype(np.int32)
    packed = (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]
    grey = packed // 0x010101
    if (packed == grey * 0x010101).all() and grey.max(initial=0) <= count:
        return np.where(grey == 0, IGNORE, grey - 1).astype(np.uint8)
    keys = np.array([(red << 16) + (green << 8) + blue for red, green, blue in _SECOND_COLOURS])
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], packed), keys.size - 1)
    wrong = keys[order][place] != packed
    if wrong.any():
        row, col = np.argwhere(wrong)[0]
        raise SceneError(f"holds the colour {tuple(pixels[row, col].tolist())}, which is none of SECOND's")
    return np.array(list(_SECOND_COLOURS.values()), dtype=np.uint8)[order][place]


def _shards(root: Path) -> list[Path]:
    folder = root / "data" if (root / "data").is_dir() else root
    return [folder / name for name in list_folder(folder)[0] if name.endswith(".parquet")]


def _open_parquet(root: Path, names: tuple[str, ...]) -> PairSet:
    import pyarrow.parquet as pq

    schema, count = _schema(names), 0
    for path in _shards(root):
        try:
            file = pq.ParquetFile(path)
        except (OSError, ValueError):
            continue  # told when it is read
        dates = _mask_columns(file.schema_arrow.names)
        if len(dates) < 2:
            raise UsageError(f"{path} has no columns t1_mask and t2_mask", _LAYOUTS)
        count += file.metadata.num_rows * (len(dates) - 1)
    if not _shards(root):
        raise UsageError(f"--pairs {root} holds no pair of the torchange layout", _LAYOUTS)
    return PairSet("torchange", names, count, False, partial(_read_parquet, root, schema))


def _mask_columns(names: list[str]) -> list[str]:
    """``t1_mask``, ``t2_mask``, … as far as they go."""
    dates: list[str] = []
    while f"t{len(dates) + 1}_mask" in names:
        dates.append(f"t{len(dates) + 1}_mask")
    return dates


def _read_parquet(root: Path, schema: ClassSchema) -> Iterator[Pair | Skip]:
    import pyarrow.parquet as pq

    for path in _shards(root):
        shard, row = path.relative_to(root).as_posix(), 0
        try:
            file = pq.ParquetFile(path)
            dates = _mask_columns(file.schema_arrow.names)
            for batch in file.iter_batches(_BATCH_ROWS, columns=dates):
                for cells in batch.to_pylist():
                    yield from _row_pairs(f"{shard}, row {row}", [cells[date] for date in dates], schema)
                    row += 1
        except (OSError, ValueError) as error:
            yield Skip(shard, f"cannot be read: {' '.join(str(error).split())[:200]}")


def _row_pairs(name: str, cells: list[dict[str, bytes]], schema: ClassSchema) -> Iterator[Pair | Skip]:
    try:
        masks = [to_class_ids(_decode(cell), None, schema, named=True)[0] for cell in cells]
    except SceneError as error:
        yield Skip(name, str(error))
        return
    for before, after in pairwise(masks):
        yield _pair(name, before, after)


def _decode(cell: dict[str, bytes]) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(cell["bytes"]), formats=("PNG", "TIFF")) as picture:
            values = np.array(picture)
    except Exception as error:  # decoders meet any bytes and raise almost anything
        raise SceneError(f"a mask cannot be decoded: {' '.join(str(error).split())[:120]}") from None
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise SceneError("a mask is a colour picture; class ids in a single band are needed")
    return values
