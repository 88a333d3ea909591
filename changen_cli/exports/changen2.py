"""The published Changen2 sets: ``{t1_images,t2_images,t1_masks,t2_masks}/*.tif``, equal file names, no change mask.

What changed is where the two masks differ. Masks hold class ids, 255 where nothing is known; ``classes.json`` names
them. Georeferenced samples become GeoTIFF with their CRS and transform. With more than one split, each is a folder
of its own with these four inside. [yb23/HySCDG, its loader of Changen2]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.types import IGNORE, UInt8Array
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import save_tiff
from changen_cli.exports.layers import Layer, check_layers, relative
from changen_cli.exports.master import Master, Pair, Sample, Stored, pairs
from changen_cli.exports.names import SafeNames
from changen_cli.exports.reading import Pixels, open_geotiff
from changen_cli.exports.splits import NAMES

_FOLDERS = ("t1_images", "t2_images", "t1_masks", "t2_masks")
_LAYERS = (*(Layer(name) for name in _FOLDERS[:2]), *(Layer(name, "L") for name in _FOLDERS[2:]))


class Changen2:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target, self._mode = target, mode
        self._names = SafeNames()

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            name = f"{self._names(pair.name)}.tif"
            for folder, stored in zip(_FOLDERS, _files(pair), strict=True):
                _put(stored, self._target / split / folder / name, sample.row)
        return len(chosen)

    def close(self) -> None:
        """Move the folders of a single split to the root, where the published sets have them."""
        splits = sorted(path for path in self._target.iterdir() if path.is_dir())
        if len(splits) == 1:
            for folder in sorted(splits[0].iterdir()):
                folder.rename(self._target / folder.name)
            splits[0].rmdir()

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the four folders, of each split where there are splits, and that georeferences agree."""
        splits = [folder / name for name in NAMES if (folder / name).is_dir()]
        for base in splits or [folder]:
            yield from check_layers(folder, base, _LAYERS, suffix=".tif", agree=_agree)
            for path in sorted((base / _FOLDERS[0]).glob("*.tif")):
                yield from _check_places(folder, base, path.name)


def _files(pair: Pair) -> tuple[Stored, Stored, Stored, Stored]:
    masks = pair.sample.masks
    return (*pair.images, masks[pair.first], masks[pair.second])


def _put(stored: Stored, target: Path, row: Mapping[str, Any]) -> None:
    if stored.suffix == ".tif":
        stored.put(target)
    else:
        array: UInt8Array = stored.array()
        nodata = IGNORE if array.ndim == 2 else None
        save_tiff(array, target, row.get("crs"), row.get("transform"), nodata)


def _agree(pixels: Mapping[str, Pixels]) -> Iterator[tuple[str, str, str]]:
    if {"t1_masks", "t2_masks"} <= set(pixels):
        appeared = int(np.sum((pixels["t1_masks"] == IGNORE) != (pixels["t2_masks"] == IGNORE)))
        if appeared:
            fix = "Readers would take it for change: 255 must be the same in both masks"
            yield "t2_masks", f"differs from t1_masks in {appeared} pixels in what is unknown (255)", fix


def _check_places(root: Path, base: Path, name: str) -> Iterator[Finding]:
    """All four files of a pair must lie at one place."""
    places = {folder: _place(base / folder / name) for folder in _FOLDERS if (base / folder / name).is_file()}
    first = places[_FOLDERS[0]]
    for folder, place in places.items():
        # A file that cannot be opened was reported when its pixels were read.
        if first and place and place != first:
            message = f"lies elsewhere than {_FOLDERS[0]}/{name}: another CRS or transform"
            yield Finding(relative(root, base / folder / name), message, "Write all four files with one georeference")


def _place(path: Path) -> tuple[Any, ...] | None:
    """CRS and transform of a file; None if it cannot be opened."""
    from rasterio.errors import RasterioError

    try:
        with open_geotiff(path) as source:
            return source.crs, *source.transform
    except RasterioError:
        return None
