"""Change sets with one binary label: ``A/`` earlier image, ``B/`` later image, ``label/`` 0 or 255, equal file names.

- ``levir-cd``: ``{train,val,test}/{A,B,label}/*.png``; Open-CD and torchange find the files of a pair by their names.
  [likyoo/open-cd ``opencd/datasets/levir_cd.py``, Z-Zheng/pytorch-change-models ``torchange/data/levircd.py``]
- ``levir-cd-flat``: ``{A,B,label}/*.png``, names beginning with their split. torchgeo sorts each folder by itself and
  goes through them side by side, so that one file too many shifts all pairs after it.
  [torchgeo/torchgeo ``torchgeo/datasets/levircd.py``]
- ``whu-cd``: ``{A,B,label}/*.png`` and ``list/{train,val,test}.txt``, a file name with its suffix per line.
  [likyoo/open-cd ``opencd/datasets/whu_cd.py``, wgcban/ChangeFormer ``datasets/CD_dataset.py``]

What changed is every pixel whose class differs. Labels hold 0 and 255: Open-CD takes values of 128 and more for
changed, torchgeo clamps 255 to 1, torchange takes all above 0, ChangeFormer divides by 255. None of them can say that a
pixel is unknown; such pixels never change and are 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from changen_cli.core.files import write_text
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_png
from changen_cli.exports.layers import Layer, check_layers, check_splits
from changen_cli.exports.master import Master, Pair, Sample, pairs
from changen_cli.exports.names import SafeNames
from changen_cli.exports.splits import NAMES

_LABEL = Layer(
    "label",
    "L",
    frozenset((0, 255)),
    hint="0 is unchanged, 255 changed: readers that take 128 and more for changed would miss a 1",
)
_LAYERS = (Layer("A"), Layer("B"), _LABEL)


class LevirCD:
    """Writes LEVIR-CD; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target, self._mode = target, mode
        self._names = SafeNames()

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            self._put(pair, self._target / split, f"{self._names(pair.name)}.png")
        return len(chosen)

    def close(self) -> None:
        """Nothing is left to write."""

    def _put(self, pair: Pair, root: Path, name: str) -> None:
        for folder, image in zip("AB", pair.images, strict=True):
            put_rgb_png(image, root / folder / name)
        save_png(pair.change.astype(np.uint8) * np.uint8(255), root / "label" / name)

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check ``{train,val,test}/{A,B,label}``."""
        yield from check_splits(folder, _LAYERS)


class LevirCDFlat(LevirCD):
    """Writes the flat folder torchgeo reads."""

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            self._put(pair, self._target, f"{self._names(f'{split}_{pair.name}')}.png")
        return len(chosen)

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check ``{A,B,label}`` and that every name begins with a split."""
        yield from check_layers(folder, folder, _LAYERS)
        for layer in _LAYERS:
            for path in sorted((folder / layer.folder).glob("*.png")):
                if not path.name.startswith(NAMES):
                    message = "is in no split: its name does not begin with train, val or test"
                    yield Finding(f"{layer.folder}/{path.name}", message, "Rename it, e.g. to train_<name>.png")


class WhuCD(LevirCD):
    """Writes WHU-CD with its lists."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        super().__init__(target, master, mode)
        self._lists: dict[str, list[str]] = {name: [] for name in NAMES}

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            name = f"{self._names(pair.name)}.png"
            self._put(pair, self._target, name)
            self._lists[split].append(name)
        return len(chosen)

    def close(self) -> None:
        """Write the lists, empty ones too: where a list is missing Open-CD reads every pair of the folders."""
        for split, names in self._lists.items():
            write_text(self._target / "list" / f"{split}.txt", "".join(f"{name}\n" for name in names))

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check ``{A,B,label}`` and the lists."""
        yield from check_layers(folder, folder, _LAYERS)
        lists = {f"list/{split}.txt": folder / "list" / f"{split}.txt" for split in NAMES}
        files = {path.name for path in (folder / "A").glob("*.png")}
        yield from check_lists(lists, files, "A")


def check_lists(lists: Mapping[str, Path], files: set[str], place: str) -> Iterator[Finding]:
    """Check lists of names, one for each split.

    Args:
        lists: Name of a list, relative to the folder that is checked → its file.
        files: The names there are.
        place: The folder they are in, for messages.
    """
    owner: dict[str, str] = {}
    for name, path in lists.items():
        if not path.is_file():
            yield Finding(name, "is missing: Open-CD then takes every pair for this split", "Write it, if only empty")
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            entry = line.strip()
            if not entry:
                continue
            if len(entry.split()) > 1 or "#" in entry:
                message = f"lists {entry!r}: some readers cut names at spaces and #"
                yield Finding(name, message, "Rename the files without them")
            elif entry not in files:
                near = next((known for known in files if Path(known).stem == Path(entry).stem), None)
                fix = f"Write it as {near}" if near else "Remove the line, or add the files"
                yield Finding(name, f"lists {entry}, which is not in {place}", fix)
            if entry in owner:
                message = f"lists {entry} again" if owner[entry] == name else f"lists {entry}, as {owner[entry]} does"
                yield Finding(name, message, "A pair belongs to one split, once")
            owner.setdefault(entry, name)
    for entry in sorted(files - set(owner)):
        yield Finding(
            f"{place}/{entry}", "is in no list, so that it is never read", "Add it to a list, or remove it", "warning"
        )
