"""Checks that layouts of folders side by side share: every file has its partners, can be read, holds known values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from changen_cli.exports.findings import Finding, Problem
from changen_cli.exports.reading import Pixels, decode
from changen_cli.exports.splits import NAMES

Agreement = Callable[[Mapping[str, Pixels]], Iterator[tuple[str, str, str]]]
"""The pixels of one item by folder → (folder, what is wrong, what to do), one for each disagreement."""

_SHOWN = 8


@dataclass(frozen=True)
class Layer:
    """One folder of a layout: the images of one date, or one kind of label; files of one item have equal names.

    Attributes:
        folder: Its name.
        mode: Pillow's name for its pixels: ``RGB``, or ``L`` for 8-bit grey.
        values: Grey values it may hold; None allows all.
        colors: RGB colours it may hold; None allows all.
        hint: What to do about other modes and values.
        optional: Whether some reader does without it; its absence is then a warning.
    """

    folder: str
    mode: str = "RGB"
    values: frozenset[int] | None = None
    colors: frozenset[tuple[int, int, int]] | None = None
    hint: str = ""
    optional: bool = False


def split_folders(root: Path) -> Iterator[Path | Finding]:
    """The folders of the splits; a finding where there is none."""
    found = [root / name for name in NAMES if (root / name).is_dir()]
    if not found:
        yield Finding(".", f"has none of the folders {', '.join(NAMES)}", "Name the folder that holds them")
    yield from found


def check_splits(root: Path, layers: Sequence[Layer], agree: Agreement | None = None) -> Iterator[Finding]:
    """Check ``{train,val,test}/<layer>/*.png``."""
    for found in split_folders(root):
        if isinstance(found, Finding):
            yield found
        else:
            yield from check_layers(root, found, layers, agree=agree)


def check_layers(
    root: Path, base: Path, layers: Sequence[Layer], *, suffix: str = ".png", agree: Agreement | None = None
) -> Iterator[Finding]:
    """Check folders side by side.

    Args:
        root: The folder that is checked; findings name files relative to it.
        base: The folder the layers are in.
        layers: The layers, the images of the first date first.
        suffix: How the files' names end.
        agree: Compares the layers of an item that are there and can be read.
    """
    files: dict[str, set[str]] = {}
    for layer in layers:
        folder = base / layer.folder
        if folder.is_dir():
            names = sorted(path.name for path in folder.iterdir())
            files[layer.folder] = {name for name in names if name.endswith(suffix)}
            yield from _strays(root, folder, names, suffix)
        else:
            level = "warning" if layer.optional else "error"
            yield Finding(relative(root, folder), "is missing", "The layout keeps its files there", level)  # type: ignore[arg-type]
    items = sorted(set().union(*files.values()))
    if not items:
        yield Finding(relative(root, base), f"holds no item: no {suffix} file", "Name the folder that holds the layout")
    for item in items:
        yield from _check_item(root, base, item, [layer for layer in layers if layer.folder in files], files, agree)


def _check_item(
    root: Path,
    base: Path,
    item: str,
    layers: Sequence[Layer],
    files: Mapping[str, set[str]],
    agree: Agreement | None,
) -> Iterator[Finding]:
    pixels: dict[str, Pixels] = {}
    first = next(folder for folder, names in files.items() if item in names)
    for layer in layers:
        path = base / layer.folder / item
        if item not in files[layer.folder]:
            fix = f"Add it, or remove the other files of this name, as in {first}"
            yield Finding(relative(root, path), "is missing: its partners have none to go with", fix)
            continue
        read, problems = read_pixels(path, layer)
        yield from (Finding(relative(root, path), message, fix) for message, fix in problems)
        if read is not None:
            pixels[layer.folder] = read
    shape, fitting = None, True
    for folder, array in pixels.items():
        shape = shape or array.shape[:2]
        if array.shape[:2] != shape:
            fitting = False
            sizes = f"{array.shape[1]} × {array.shape[0]} px, the first of the item is {shape[1]} × {shape[0]}"
            yield Finding(relative(root, base / folder / item), f"is {sizes}", "All files of an item share one grid")
    if agree and fitting:
        for folder, message, fix in agree(pixels):
            yield Finding(relative(root, base / folder / item), message, fix)


def read_pixels(path: Path, layer: Layer) -> tuple[Pixels | None, list[Problem]]:
    """Decode a file as a layer.

    Returns:
        Its pixels, None where they are of no use for comparisons; and (what is wrong, what to do) of each problem.
    """
    try:
        mode, array = decode(path)
    except ValueError as error:
        return None, [(f"cannot be read: {error}", "Copy or export it again")]
    return array if mode == layer.mode else None, pixel_problems(array, mode, layer)


def pixel_problems(array: Pixels, mode: str, layer: Layer) -> list[Problem]:
    """What is wrong with decoded pixels: their mode, or their values."""
    if mode != layer.mode:
        kind = "8-bit RGB" if layer.mode == "RGB" else "8-bit grey"
        return [
            (f"has mode {mode} instead of {layer.mode}", ". ".join(filter(None, (f"Save it as {kind}", layer.hint))))
        ]
    if layer.values is not None:
        strange = [int(value) for value in np.flatnonzero(np.bincount(array.ravel(), minlength=256))]
        strange = [value for value in strange if value not in layer.values]
        if strange:
            known = ", ".join(map(str, sorted(layer.values)))
            return [(f"holds the values {_some(strange)}; known are {known}", layer.hint)]
    if layer.colors is not None:
        packed = (array.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)).ravel()
        seen = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in np.unique(packed)]
        strange_colors = [color for color in seen if color not in layer.colors]
        if strange_colors:
            return [(f"holds the colours {_some(strange_colors)}, which mean nothing here", layer.hint)]
    return []


def relative(root: Path, path: Path) -> str:
    """A path as findings name it."""
    return path.relative_to(root).as_posix()


def _some(values: Sequence[object]) -> str:
    more = len(values) - _SHOWN
    return ", ".join(map(str, values[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def _strays(root: Path, folder: Path, names: Sequence[str], suffix: str) -> Iterator[Finding]:
    """Files no reader finds, and names that are one on Windows and macOS."""
    known: dict[str, str] = {}
    for name in names:
        if not name.endswith(suffix):
            message = f"is passed over: files of the layout end in {suffix}"
            yield Finding(relative(root, folder / name), message, "Convert or remove it", "warning")
        other = known.setdefault(name.casefold(), name)
        if other != name:
            message = f"differs from {other} in its case only: one overwrites the other on Windows and macOS"
            yield Finding(relative(root, folder / name), message, "Rename it in all folders", "warning")
