"""Open-CD's generic datasets: folders named in the config, whole semantic masks beside the binary label.

``{train,val,test}/{A,B,label,label_from,label_to}/*.png`` and ``{train,val,test}.txt``, a name without suffix per line.

The generic datasets take stored values as they are (``format_seg_map=None``, ``reduce_semantic_zero_label=False``) and
ignore 255, so that this layout, unlike the ones with 0 and 255, can say what is unknown: ``label`` is 0 unchanged,
1 changed, 255 unknown; ``label_from`` and ``label_to`` are class ids, 255 unknown. With ``format_seg_map='to_binary'``,
as in many of its named datasets, a 1 would read as unchanged. The lists may serve as ``ann_file``; without one, folders
are listed. [likyoo/open-cd ``opencd/datasets/basecddataset.py``, ``basescddataset.py``, ``transforms/loading.py``]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from changen_cli.core.files import write_text
from changen_cli.core.types import IGNORE, UInt8Array
from changen_cli.core.untrusted import read_json
from changen_cli.exports.binary import check_lists
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_png
from changen_cli.exports.layers import Layer, check_layers, split_folders
from changen_cli.exports.master import Master, Sample, pairs
from changen_cli.exports.names import SafeNames
from changen_cli.exports.reading import Pixels

_LABEL = Layer(
    "label",
    "L",
    frozenset((0, 1, IGNORE)),
    hint="0 is unchanged, 1 changed, 255 ignored: the generic datasets take values as they are",
)
_SEMANTIC = Layer("", "L", hint="Ids of classes.json, or 255 for what is unknown", optional=True)


class OpenCD:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target, self._mode = target, mode
        self._names = SafeNames()
        self._lists: dict[str, list[str]] = defaultdict(list)

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            stem = self._names(pair.name)
            root, name = self._target / split, f"{stem}.png"
            for folder, image in zip("AB", pair.images, strict=True):
                put_rgb_png(image, root / folder / name)
            for folder, mask in zip(("label_from", "label_to"), pair.masks, strict=True):
                save_png(mask, root / folder / name)
            save_png(_label(*pair.masks), root / "label" / name)
            self._lists[split].append(stem)
        return len(chosen)

    def close(self) -> None:
        """Write the lists."""
        for split, stems in self._lists.items():
            write_text(self._target / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the folders of each split, and the lists that are there."""
        ids = _class_ids(folder / "classes.json")
        semantic = [replace(_SEMANTIC, folder=name, values=ids) for name in ("label_from", "label_to")]
        for split in split_folders(folder, "A"):
            if isinstance(split, Finding):
                yield split
                continue
            yield from check_layers(folder, split, (Layer("A"), Layer("B"), _LABEL, *semantic), agree=_agree)
            listed = folder / f"{split.name}.txt"
            if listed.is_file():
                stems = {path.stem for path in (split / "A").glob("*.png")}
                yield from check_lists({listed.name: listed}, stems, f"{split.name}/A")


def _label(before: UInt8Array, after: UInt8Array) -> UInt8Array:
    """Uint8 ``[H, W]``: 0 unchanged, 1 changed, 255 where either date is unknown."""
    unknown = (before == IGNORE) | (after == IGNORE)
    return np.where(unknown, IGNORE, before != after).astype(np.uint8)


def _class_ids(table: Path) -> frozenset[int] | None:
    """What semantic masks may hold, as far as a class table says it."""
    try:
        return frozenset((*(int(row["id"]) for row in read_json(table)["classes"]), IGNORE))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _agree(pixels: Mapping[str, Pixels]) -> Iterator[tuple[str, str, str]]:
    if not {"label", "label_from", "label_to"} <= set(pixels):
        return
    expected = _label(pixels["label_from"], pixels["label_to"])
    ignored = int(np.sum((pixels["label"] == IGNORE) & (expected == 1)))
    if ignored:
        yield "label", f"holds 255, which is ignored, in {ignored} pixels that changed", "1 is changed"
    wrong = int(np.sum((pixels["label"] != expected) & (pixels["label"] != IGNORE)))
    if wrong:
        yield "label", f"and label_from, label_to disagree in {wrong} pixels", "What changed is where the two differ"
