"""Building change sets: two images and one binary label per pair.

LEVIR-CD keeps ``{train,val,test}/{A,B,label}/*.png`` with labels 0 and 255 in mode L; its readers (Open-CD, torchange)
find the three files of a pair by their equal names. [likyoo/open-cd, Z-Zheng/pytorch-change-models]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_png
from changen_cli.exports.master import Master, Sample, pairs


class LevirCD:
    """Writes LEVIR-CD; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target, self._mode = target, mode

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            root, name = self._target / split, f"{pair.name}.png"
            for folder, image in zip("AB", pair.images, strict=True):
                put_rgb_png(image, root / folder / name)
            save_png(pair.change.astype(np.uint8) * np.uint8(255), root / "label" / name)
        return len(chosen)

    def close(self) -> None:
        """Nothing is left to write."""

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check a folder by the rules of its readers."""
        raise NotImplementedError
