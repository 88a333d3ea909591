"""WebDataset: tar files that are read from front to back, one sample after the other.

``{split}/{split}-000000.tar`` …, each at most 500 MB. The files of a sample lie side by side, and have its key before
the first dot: ``<key>.t1_image.png``, ``<key>.t1_mask.png``, ``<key>.t1_instances.png`` and so on for every date,
``<key>.t1_t2_change.png`` for every step, and ``<key>.json``: its metadata, events and objects. ``t1`` is date 0, as in
the dataset's columns. Images are PNG whatever they were, as most decoders want. Those webdataset brings along turn
masks into RGB and cut 16-bit numbers: pass ``decode`` a function of your own, see docs/exports.md. [webdataset]
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import encode_png
from changen_cli.exports.master import Master, Sample, Stored
from changen_cli.exports.names import SafeNames

MAX_SHARD_BYTES = 500_000_000


class WebDataset:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target = target
        self._names = SafeNames()
        self._splits: dict[str, _Shards] = {}
        self.notes: list[str] = []

    def write(self, sample: Sample, split: str) -> int:
        """Add a sample."""
        if split not in self._splits:
            self._splits[split] = _Shards(self._target / split, split)
        key = self._names(sample.id.replace(".", "_")).replace(".", "-")  # a key ends at the first dot
        self._splits[split].put({f"{key}.{name}": data for name, data in _files(sample).items()})
        return 1

    def close(self) -> None:
        """Close the last shards, and say how to name them all."""
        for split, shards in sorted(self._splits.items()):
            shards.close()
            self.notes.append(f"{split}/{split}-{{000000..{shards.count - 1:06d}}}.tar")

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check every shard, and that all samples have the same files."""
        from changen_cli.exports.webdataset_check import check_webdataset

        yield from check_webdataset(folder)


class _Shards:
    """The shards of one split, filled one after the other."""

    def __init__(self, root: Path, split: str) -> None:
        root.mkdir(parents=True)
        self._root, self._split = root, split
        self._tar: tarfile.TarFile | None = None
        self._filled = self.count = 0

    def put(self, files: dict[str, bytes]) -> None:
        """Add the files of a sample; they are never spread over two shards."""
        size = sum(len(data) for data in files.values())
        if self._tar is None or (self._filled and self._filled + size > MAX_SHARD_BYTES):
            self.close()
            path = self._root / f"{self._split}-{self.count:06d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115 it is closed with the shard
            self._filled, self.count = 0, self.count + 1
        for name, data in files.items():
            # Without owner and time, so that the same dataset gives the same bytes.
            member = tarfile.TarInfo(name)
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._filled += size

    def close(self) -> None:
        """End the shard."""
        if self._tar is not None:
            self._tar.close()


def _files(sample: Sample) -> dict[str, bytes]:
    """The files of a sample by the part of their name after the key."""
    files: dict[str, bytes] = {}
    for kind, stored in (("image", sample.images), ("mask", sample.masks), ("instances", sample.instances)):
        for date, item in enumerate(stored, start=1):
            suffix, data = _as_png(item)
            files[f"t{date}_{kind}.{suffix}"] = data
    for step, item in enumerate(sample.changes, start=1):
        files[f"t{step}_t{step + 1}_change.png"] = _as_png(item)[1]
    told = sample.row | {"objects": sample.objects, "events": sample.events}
    return files | {"json": json.dumps(told, ensure_ascii=False).encode()}


def _as_png(stored: Stored) -> tuple[str, bytes]:
    """The suffix and the bytes of a file: as it is where it is PNG, or holds 32-bit numbers, else encoded anew."""
    if stored.suffix == ".png":
        return "png", stored.read()
    array = stored.array()
    if array.dtype == np.uint8:
        return "png", encode_png(array)
    if array.dtype != np.uint16:
        return "tif", stored.read()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=1)
    return "png", buffer.getvalue()
