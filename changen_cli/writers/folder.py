"""The master layout: one image file per date, mask and step, one event log per sample, one row per sample.

    OUT/<split>/metadata.jsonl
    OUT/<split>/images/<sample>_t0.png  masks/<sample>_t0.png  changes/<sample>_t0_t1.png  events/<sample>.jsonl
    OUT/<split>/instances/<sample>_t0.png  objects/<sample>.json

Georeferenced scenes give Cloud Optimized GeoTIFFs (``.tif``) instead of PNG. Samples without images leave ``images/``
and its columns out. ``datasets`` opens the folder as an image folder; keys that end in ``_file_name`` become image
columns, keys in ``_file_names`` columns of image lists.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from changen_cli.core.files import atomic_path, sha256
from changen_cli.core.types import ClassSchema, TimeSeries
from changen_cli.writers.base import (
    check_sample,
    close_checksums,
    event_row,
    metadata_row,
    object_names,
)
from changen_cli.writers.columns import Columns
from changen_cli.writers.images import Pixels, change_image, encode_cog, encode_plain, numbers_image
from changen_cli.writers.staging import Row, Staging, dump

logger = logging.getLogger(__name__)


class FolderWriter:
    """Writes samples as loose files; implements :class:`changen_cli.writers.base.SampleWriter`.

    Args:
        out: The dataset folder.
        schema: The classes of the masks.
        part: As of :class:`~changen_cli.writers.staging.Staging`.
    """

    def __init__(self, out: Path, schema: ClassSchema, part: str = "") -> None:
        self.out = out
        self.schema = schema
        self.staging = Staging(out, part)

    def write(self, sample: TimeSeries, note: Mapping[str, Any] | None = None) -> Row:
        """Write the files of one sample and its row; on an error none of its files remains."""
        check_sample(sample)
        self.staging.check_dates(sample)
        row = metadata_row(sample)
        files = self._encode(sample)
        row |= file_columns(files, len(sample.masks))
        row |= {"objects_file": f"objects/{sample.id}.json", "events_file": f"events/{sample.id}.jsonl"}
        log = "".join(dump(event_row(event, self.schema, sample.calendar)) + "\n" for event in sample.events)
        files |= {row["objects_file"]: object_names(sample).encode(), row["events_file"]: log.encode()}
        self.staging.put(sample.id, row, {f"{sample.split}/{name}": data for name, data in files.items()}, note)
        return row

    def finished(self) -> frozenset[str]:
        """Ids of the samples whose files are complete."""
        return self.staging.ids()

    def tables(self, order: Sequence[str] | None = None, kept: Mapping[str, int] | None = None) -> list[Path]:
        """Write ``<split>/metadata.jsonl`` and checksums; return the tables. Without samples nothing is written."""
        columns = Columns(self.staging.rows(order))
        if not columns.count:
            return []
        for key in columns.unreadable():
            # `datasets` infers types per split and refuses splits that disagree.
            logger.warning("metadata column %r left out: it has no value at all in one of the splits", key)
            columns.keys.remove(key)
        paths = [self.out / split / "metadata.jsonl" for split in sorted(columns.splits)]
        with ExitStack() as stack:
            files = {
                path.parent.name: stack.enter_context(
                    stack.enter_context(atomic_path(path)).open("w", encoding="utf-8", newline="\n")
                )
                for path in paths
            }
            for row in self.staging.rows(order):
                files[row["split"]].write(dump(columns.unify(row)) + "\n")
        close_checksums(self.out, self.staging.digests(order), ((path, sha256(path)) for path in paths))
        return paths

    def close(self, order: Sequence[str] | None = None) -> list[Path]:
        """Write the tables and drop the staging folder."""
        paths = self.tables(order)
        self.staging.clear()
        return paths

    def abandon(self) -> None:
        """Remove the files and rows of all samples that no ``metadata.jsonl`` lists yet."""
        for name, _ in self.staging.digests(None):
            (self.out / name).unlink(missing_ok=True)
        self.staging.clear()

    def _encode(self, sample: TimeSeries) -> dict[str, bytes]:
        """Return file name below the split → content, images first."""
        name, dates = sample.id, sample.calendar or ("",) * len(sample.masks)
        crs, transform = sample.scene.crs, sample.scene.transform

        def encode(array: Pixels, date: str = "", nodata: int | None = None) -> tuple[str, bytes]:
            if crs is not None and transform is not None:
                return "tif", encode_cog(array, crs, transform, nodata, date)
            return encode_plain(array)

        images = () if sample.images is None else sample.images
        files: dict[str, bytes] = {}

        def add(stem: str, encoded: tuple[str, bytes]) -> None:
            files[f"{stem}.{encoded[0]}"] = encoded[1]

        for t, image in enumerate(images):
            add(f"images/{name}_t{t}", encode(image, dates[t]))
        for t, mask in enumerate(sample.masks):
            add(f"masks/{name}_t{t}", encode(mask, dates[t], self.schema.ignore_index))
        for t, numbers in enumerate(numbers_image(sample.instances)):
            add(f"instances/{name}_t{t}", encode(numbers, dates[t]))
        for t, change in enumerate(sample.change_masks):
            add(f"changes/{name}_t{t}_t{t + 1}", encode(change_image(change)))
        return files


def file_columns(files: Iterable[str], dates: int) -> Row:
    """Return the columns that name image files, relative to ``metadata.jsonl``.

    Column ``t1`` is date 0. ``change_mask`` belongs to ``t1`` and ``t2``; with more than two dates, lists hold
    all images, all semantic masks, all instance masks and the change mask of every step.

    Args:
        files: Paths ``<kind>s/<name>``, those of a kind by date.
        dates: Dates of the series.
    """
    kinds: dict[str, list[str]] = {}
    for name in files:
        kinds.setdefault(name.partition("s/")[0], []).append(name)
    columns = {"image": "image", "mask": "mask", "instance": "instances"}
    row: Row = {
        f"t{t + 1}_{column}_file_name": name
        for kind, column in columns.items()
        for t, name in enumerate(kinds.get(kind, ()))
    }
    row["change_mask_file_name"] = kinds["change"][0]
    return row | {f"{kind}_file_names": names for kind, names in kinds.items()} if dates > 2 else row
