"""S2Looking: building change with new and demolished buildings told apart.

``{train,val,test}/{Image1,Image2,label,label1,label2}/*.png``. ``label`` is what its readers use, 0 and 255.
``label1`` is newly built, blue on black, ``label2`` demolished, red on black, as the published files are. Its authors
do not say which image is the earlier one; here it is ``Image1``. [Shen et al. 2021, doi 10.3390/rs13245094;
likyoo/open-cd ``opencd/datasets/s2looking.py``; Z-Zheng/pytorch-change-models ``torchange/data/s2looking.py``]

Only buildings count: a destroyed one no longer stands, all other change of class is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from changen_cli.core.errors import UsageError
from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.exports.coverage import Coverage
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_png
from changen_cli.exports.layers import Layer, check_splits
from changen_cli.exports.master import Master, Sample, pairs
from changen_cli.exports.names import SafeNames
from changen_cli.exports.reading import Pixels

_BLACK, _BLUE, _RED = (0, 0, 0), (0, 0, 255), (255, 0, 0)
_LAYERS = (
    Layer("Image1"),
    Layer("Image2"),
    Layer("label", "L", frozenset((0, 255)), hint="0 is unchanged, 255 changed"),
    Layer("label1", colors=frozenset((_BLACK, _BLUE)), hint="Newly built is 0,0,255 on black", optional=True),
    Layer("label2", colors=frozenset((_BLACK, _RED)), hint="Demolished is 255,0,0 on black", optional=True),
)


class S2Looking:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        schema = master.schema
        if schema.class_agnostic or not schema.building_ids:
            raise UsageError(
                f"{master.root}: S2Looking shows buildings, and no class of the dataset is one", "Use --as levir-cd"
            )
        self._target, self._mode = target, mode
        self._standing = np.isin(np.arange(256), schema.standing_ids)
        # torchange replaces the folder's name in the whole path, file name included.
        self._names = SafeNames("Image1")
        self._coverage = Coverage("change of buildings")

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            root, name = self._target / split, f"{self._names(pair.name)}.png"
            for folder, image in zip(("Image1", "Image2"), pair.images, strict=True):
                put_rgb_png(image, root / folder / name)
            before, after = (self._standing[mask] for mask in pair.masks)
            self._coverage.add(pair.change, before != after)
            save_png((before != after).astype(np.uint8) * np.uint8(255), root / "label" / name)
            save_png(_paint(after & ~before, _BLUE), root / "label1" / name)
            save_png(_paint(before & ~after, _RED), root / "label2" / name)
        return len(chosen)

    def close(self) -> None:
        """Nothing is left to write."""

    @property
    def notes(self) -> list[str]:
        """How much of the change is not labelled."""
        return self._coverage.notes()

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the folders of each split, and that ``label`` is what the other two show together."""
        yield from check_splits(folder, _LAYERS, _agree)
        for path in sorted(folder.glob("*/Image1/*Image1*")):
            message = "holds Image1 in its name: torchange replaces that text to find the other files"
            yield Finding(path.relative_to(folder).as_posix(), message, "Rename it in all folders")


def _paint(where: BoolArray, color: tuple[int, int, int]) -> UInt8Array:
    return np.where(where[..., None], np.array(color, np.uint8), np.uint8(0))


def _agree(pixels: Mapping[str, Pixels]) -> Iterator[tuple[str, str, str]]:
    if not {"label", "label1", "label2"} <= set(pixels):
        return
    built, gone = (pixels[folder].any(axis=2) for folder in ("label1", "label2"))
    both, wrong = int(np.sum(built & gone)), int(np.sum((built | gone) != (pixels["label"] > 0)))
    if both:
        yield "label1", f"and label2 share {both} pixels", "A building is newly built or demolished"
    if wrong:
        yield "label", f"and label1 with label2 disagree in {wrong} pixels", "The label is what both show together"
