"""Exports made and spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import Pair, open_master, pairs
from changen_cli.workflows.export import ExportReport, export
from changen_cli.workflows.progress import Silent

from .readers import Item


def export_as(layout: str, source: Path, target: Path, **options: Any) -> ExportReport:
    return export(source, target, layout=layout, progress=Silent(), **options)


def truth(source: Path, mode: Any = "consecutive") -> dict[str, Pair]:
    """The pairs of a dataset by name."""
    return {pair.name: pair for sample in open_master(source).samples() for pair in pairs(sample, mode)}


def assert_images(items: Iterable[Item], source: Path) -> dict[str, Item]:
    """The items show the dataset's pairs, all of them, pixel by pixel; returns them by name."""
    found, expected = {item.name: item for item in items}, truth(source)
    assert set(found) == set(expected)
    for name, item in found.items():
        for image, stored in zip(item.images, expected[name].images, strict=True):
            assert image.dtype == np.uint8 and np.array_equal(image, stored.array())
    return found


def findings(layout: str, folder: Path) -> list[Finding]:
    return list(FORMATS[layout].check(folder))


def the_finding(layout: str, folder: Path) -> Finding:
    """The one thing that is wrong."""
    found = findings(layout, folder)
    assert len(found) == 1, found
    assert found[0].message and (found[0].fix or found[0].severity == "warning")
    return found[0]


def first_file(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def repaint(path: Path, change: Callable[[Any], Any]) -> None:
    """Store changed pixels under the same name; a new file, because the old one may be a link into the dataset."""
    with Image.open(path) as picture:
        pixels = np.array(picture)
        kind = picture.format
    path.unlink()
    Image.fromarray(change(pixels)).save(path, kind)


def with_unknown(source: Path, target: Path) -> Path:
    """A copy of a dataset in whose upper 8 rows nothing is known."""
    shutil.copytree(source, target)

    def hide(array: Any, value: int) -> Any:
        array[:8] = value
        return array

    for path in (target / "train" / "masks").iterdir():
        repaint(path, lambda mask: hide(mask, 255))
    for path in (target / "train" / "changes").iterdir():
        repaint(path, lambda change: hide(change, 0))
    return target
