"""torchange's datasets on the Hub: Parquet with one pair per row.

``data/<split>-00000-of-0000N.parquet`` with exactly the columns ``t1_image t2_image t1_mask t2_mask change_mask
image_name``, and a ``README.md`` whose YAML names features, splits and files. ``HFBitemporalDataset`` loads it with
``load_dataset(...).with_format('numpy')`` and takes masks as they are, in the order t1, t2, change: they have to be in
mode L, class ids with 255 unknown, and 0/255 for the change. [Z-Zheng/pytorch-change-models
``torchange/data/bitemporal.py``, the card of EVER-Z/torchange_second]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from changen_cli.core.files import write_text
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import encode_png
from changen_cli.exports.master import Master, Pair, Sample, Stored, pairs
from changen_cli.exports.splits import NAMES
from changen_cli.exports.torchange_check import COLUMNS, IMAGES, MASKS, check_dataset

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHARD_BYTES = 500_000_000
_GROUP_BYTES, _GROUP_ROWS = 32_000_000, 100  # what one row group holds in memory, and the Hub's viewer reads at once

_KEPT = ("license", "license_name", "license_link", "task_categories", "tags")
"""What the card of the dataset says that is true of the export as well."""


class Torchange:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`.

    Args:
        target: An empty folder.
        master: The dataset.
        mode: Which pairs of a longer series are written.
        max_shard_bytes: Image bytes after which a new shard begins.
    """

    def __init__(self, target: Path, master: Master, mode: PairMode, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
        self._target, self._mode, self._limit, self._master = target, mode, max_shard_bytes, master
        self._splits: dict[str, _SplitWriter] = {}

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        if split not in self._splits:
            self._splits[split] = _SplitWriter(self._target / "data", split, self._limit)
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            self._splits[split].add(_row(pair))
        return len(chosen)

    def close(self) -> None:
        """Finish the shards, whose names hold their number, and write the card."""
        for writer in self._splits.values():
            writer.close()
        splits = {name: self._splits[name] for name in (*NAMES, *self._splits) if name in self._splits}
        write_text(self._target / "README.md", _card(self._master, splits))

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check shards, columns, every row, and the card."""
        yield from check_dataset(folder)


class _SplitWriter:
    """Streams rows into shards; one row group is in memory at a time."""

    def __init__(self, folder: Path, split: str, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.split, self.rows, self.bytes = split, 0, 0
        self._folder, self._limit = folder, limit
        self._shards: list[Path] = []
        self._schema = _schema()
        self._writer: Any = None
        self._group: list[dict[str, Any]] = []
        self._held = self._filled = 0

    def add(self, row: dict[str, Any]) -> None:
        size = sum(len(row[name]["bytes"]) for name in (*IMAGES, *MASKS))
        if self._writer is not None and self._filled + size > self._limit:
            self._end_shard()
        if self._writer is None:
            self._begin_shard()
        elif self._held + size > _GROUP_BYTES or len(self._group) >= _GROUP_ROWS:
            self._flush()
        self._group.append(row)
        self._held += size
        self._filled += size
        self.rows += 1
        self.bytes += size + len(row["image_name"])

    def close(self) -> None:
        self._end_shard()
        for number, path in enumerate(self._shards):
            path.rename(self._folder / f"{self.split}-{number:05d}-of-{len(self._shards):05d}.parquet")

    def _begin_shard(self) -> None:
        import pyarrow.parquet as pq

        self._shards.append(self._folder / f".{self.split}-{len(self._shards):05d}.parquet")
        plain = ["image_name"]
        self._writer = pq.ParquetWriter(
            self._shards[-1], self._schema, compression="snappy", use_dictionary=plain, write_statistics=plain
        )

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._group, schema=self._schema))
        self._group, self._held = [], 0

    def _end_shard(self) -> None:
        self._flush()
        self._writer.close()
        self._writer, self._filled = None, 0


def _schema() -> pa.Schema:
    """The arrow schema, which carries the features: `datasets` and the viewer then see images, not structs of bytes."""
    from datasets import Features, Image, Value

    images = {name: Image() for name in (*IMAGES, *MASKS)}
    return Features({**images, "image_name": Value("string")}).arrow_schema


def _row(pair: Pair) -> dict[str, Any]:
    masks = (pair.sample.masks[pair.first], pair.sample.masks[pair.second])
    stored = dict(zip(COLUMNS[:4], (*pair.images, *masks), strict=True))
    row: dict[str, Any] = {name: _cell(value, f"{pair.name}_{name}.png") for name, value in stored.items()}
    change = encode_png(pair.change.astype(np.uint8) * np.uint8(255))
    return row | {"change_mask": {"bytes": change, "path": f"{pair.name}_change_mask.png"}, "image_name": pair.name}


def _cell(stored: Stored, name: str) -> dict[str, Any]:
    data = stored.read() if stored.suffix == ".png" else encode_png(stored.array())
    return {"bytes": data, "path": name}


def _card(master: Master, splits: Mapping[str, _SplitWriter]) -> str:
    features = [{"name": name, "dtype": "image"} for name in COLUMNS[:-1]]
    counts = [{"name": name, "num_bytes": w.bytes, "num_examples": w.rows} for name, w in splits.items()]
    head = {key: value for key, value in master.card.items() if key in _KEPT}
    head["dataset_info"] = {"features": [*features, {"name": "image_name", "dtype": "string"}], "splits": counts}
    files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    head["configs"] = [{"config_name": "default", "data_files": files}]
    classes = "\n".join(f"| {index} | {name} |" for index, name in enumerate(master.schema.names))
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---

# {master.name}

Pairs of overhead images with semantic masks and a change mask, made by changen: one or both images of a pair are
generated. The columns are those torchange reads:
`HFBitemporalDataset(dict(hf_repo_name=..., splits=['train'], transform=...))`.

`t1_mask` and `t2_mask` hold class ids, 255 where nothing is known; `change_mask` is 0, or 255 where they differ.

| id | class |
| ---: | --- |
{classes}
"""
