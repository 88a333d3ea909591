"""SECOND: land-cover change in six classes, labelled only where something changed.

``{train,val,test}/{im1,im2,label1,label2,label,label1_wo_cm,label2_wo_cm}/*.png``:

- ``label1``, ``label2``: RGB in SECOND's colours, white where nothing changed, as published. [Yang et al. 2021]
- ``label1_wo_cm``, ``label2_wo_cm``: the same as grey index, 0 unchanged, 1 to 6 in Open-CD's and torchange's order.
  torchange reads these and takes all above 0 for changed; a config of Open-CD names them as ``seg_map_path_from`` and
  ``_to``, because it reads RGB as luminance. [Z-Zheng/pytorch-change-models ``torchange/data/second.py`` and
  ``torchange/metrics/second.py``; likyoo/open-cd ``opencd/datasets/second.py``, ``basescddataset.py``]
- ``label``: 0 and 1, which Open-CD wants and the published set lacks; 255 would be ignored.

The classes of the dataset are mapped to SECOND's by name. What changes only within one of them is no change here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from changen_cli.core.errors import UsageError
from changen_cli.core.files import write_text
from changen_cli.core.types import ClassSchema, UInt8Array
from changen_cli.exports.coverage import Coverage
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_png
from changen_cli.exports.layers import Layer, check_splits
from changen_cli.exports.master import Master, Sample, pairs
from changen_cli.exports.names import SafeNames
from changen_cli.exports.reading import Pixels

CLASSES = ("unchanged", "water", "ground", "low vegetation", "tree", "building", "sports field")
_COLORS = (
    (255, 255, 255), (0, 0, 255), (128, 128, 128), (0, 128, 0), (0, 255, 0), (128, 0, 0), (255, 0, 0),
)  # fmt: skip
_PALETTE = np.array(_COLORS, np.uint8)
# "vegetation" is left out: nobody but the user knows whether it is trees or grass.
_KNOWN = {
    "water": ("water", "river", "sea", "lake", "pond", "water body"),
    "ground": (
        "ground", "bareland", "bare land", "bare soil", "barren", "soil", "land", "road", "roads", "street", "pavement",
        "developed", "developed space", "parking", "railway", "impervious",
    ),
    "low vegetation": (
        "low vegetation", "rangeland", "grass", "grassland", "cropland", "agriculture", "agriculture land", "farmland",
    ),
    "tree": ("tree", "trees", "forest", "woodland"),
    "building": ("building", "buildings", "house", "houses", "roof", "roofs"),
    "sports field": ("sports field", "playground", "pitch", "sport field"),
}  # fmt: skip
_BY_NAME = {name: theirs for theirs, names in _KNOWN.items() for name in names}

_COLORED = Layer(
    "",
    colors=frozenset(_COLORS),
    hint=f"SECOND's colours are {', '.join(map(str, _COLORS))}; grey index belongs into label1_wo_cm, label2_wo_cm",
)
_INDEX = Layer("", "L", frozenset(range(7)), hint="0 is unchanged, 1 to 6 the classes", optional=True)
_LAYERS = (
    Layer("im1"),
    Layer("im2"),
    replace(_COLORED, folder="label1"),
    replace(_COLORED, folder="label2"),
    Layer("label", "L", frozenset((0, 1)), hint="0 is unchanged, 1 changed: Open-CD would ignore a 255", optional=True),
    replace(_INDEX, folder="label1_wo_cm"),
    replace(_INDEX, folder="label2_wo_cm"),
)


class Second:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`.

    Args:
        target: An empty folder.
        master: The dataset.
        mode: Which pairs of a longer series are written.
        mapping: Class of the dataset → class of SECOND, where the name does not say it.

    Raises:
        UsageError: A class has no counterpart.
    """

    def __init__(self, target: Path, master: Master, mode: PairMode, *, mapping: Mapping[str, str]) -> None:
        self._target, self._mode = target, mode
        self._counterparts = counterparts(master.schema, mapping)
        self._index = np.zeros(256, np.uint8)
        for name, theirs in self._counterparts.items():
            self._index[master.schema.names.index(name)] = CLASSES.index(theirs)
        # torchange replaces the folder's name in the whole path, file name included.
        self._names = SafeNames("im1")
        self._coverage = Coverage("change between SECOND's classes")

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            root, name = self._target / split, f"{self._names(pair.name)}.png"
            before, after = (self._index[mask] for mask in pair.masks)
            changed = (before != after).astype(np.uint8)
            self._coverage.add(pair.change, before != after)
            save_png(changed, root / "label" / name)
            for number, image, index in zip("12", pair.images, (before, after), strict=True):
                put_rgb_png(image, root / f"im{number}" / name)
                _save_labels(index * changed, root, number, name)
        return len(chosen)

    def close(self) -> None:
        """Write the class table: the order of SECOND's classes differs between its readers."""
        classes = [{"id": index, "name": name, "color": list(_COLORS[index])} for index, name in enumerate(CLASSES)]
        table = {"classes": classes, "from": self._counterparts}
        write_text(self._target / "classes.json", json.dumps(table, indent=1) + "\n")

    @property
    def notes(self) -> list[str]:
        """How much of the change is not labelled."""
        return self._coverage.notes()

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the folders of each split, and that all labels show the same change."""
        yield from check_splits(folder, _LAYERS, _agree)
        for path in sorted(folder.glob("*/im1/*im1*")):
            message = "holds im1 in its name: torchange replaces that text to find the other files"
            yield Finding(path.relative_to(folder).as_posix(), message, "Rename it in all folders")


def counterparts(schema: ClassSchema, mapping: Mapping[str, str]) -> dict[str, str]:
    """SECOND's class for every class of a dataset but the unknown ones.

    Raises:
        UsageError: A class has none, or the mapping names classes that are not there.
    """
    for ours, theirs in mapping.items():
        if ours not in schema.names:
            raise UsageError(f"--map: the dataset has no class {ours!r}", f"It has {', '.join(schema.names)}")
        if theirs not in CLASSES[1:]:
            raise UsageError(f"--map: SECOND has no class {theirs!r}", f"It has {', '.join(CLASSES[1:])}")
    names = [name for index, name in enumerate(schema.names) if index not in schema.unknown_ids]
    found = {name: mapping.get(name) or _BY_NAME.get(name.lower().replace("_", " ")) for name in names}
    missing = [name for name, theirs in found.items() if theirs is None]
    if missing:
        asked = ",".join(f"{name}=CLASS" for name in missing)
        raise UsageError(
            f"SECOND has no counterpart for {', '.join(missing)}",
            f'Say which: --map "{asked}", each CLASS one of {", ".join(CLASSES[1:])}',
        )
    return {name: theirs for name, theirs in found.items() if theirs}


def _save_labels(index: UInt8Array, root: Path, number: str, name: str) -> None:
    save_png(_PALETTE[index], root / f"label{number}" / name)
    save_png(index, root / f"label{number}_wo_cm" / name)


def _agree(pixels: Mapping[str, Pixels]) -> Iterator[tuple[str, str, str]]:
    """All labels of a pair must show the same pixels as changed, in the same class."""
    indexes = {folder: _to_index(pixels[folder]) for folder in ("label1", "label2") if folder in pixels}
    if len(indexes) < 2:
        return
    changed = indexes["label1"] > 0
    others = {"label2": indexes["label2"] > 0}
    others |= {"label": pixels["label"] > 0} if "label" in pixels else {}
    for folder, other in others.items():
        wrong = int(np.sum(other != changed))
        if wrong:
            yield folder, f"and label1 disagree in {wrong} pixels on what changed", "All labels show the same change"
    for folder, index in indexes.items():
        plain = f"{folder}_wo_cm"
        wrong = int(np.sum(pixels[plain] != index)) if plain in pixels else 0
        if wrong:
            yield plain, f"and {folder} disagree in {wrong} pixels", f"The order is {', '.join(CLASSES)}"


def _to_index(colored: Pixels) -> UInt8Array:
    """RGB ``[H, W, 3]`` to index ``[H, W]``; other colours count as unchanged."""
    index = np.zeros(colored.shape[:2], np.uint8)
    for number, color in enumerate(_COLORS):
        index[(colored == np.array(color, np.uint8)).all(axis=2)] = number
    return index
