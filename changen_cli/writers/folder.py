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
from collections.abc import Iterable, Sequence
from pathlib import Path

from changen_cli.core.files import atomic_path, sha256, write_text
from changen_cli.core.types import ClassSchema, TimeSeries
from changen_cli.writers.base import (
    Row,
    Staging,
    check_sample,
    close_checksums,
    digest,
    dump,
    event_row,
    metadata_row,
    object_names,
    unify,
)
from changen_cli.writers.images import Pixels, change_image, encode_cog, encode_plain, numbers_image

logger = logging.getLogger(__name__)


class FolderWriter:
    """Writes samples as loose files; implements :class:`changen_cli.writers.base.SampleWriter`.

    Args:
        out: The dataset folder.
        schema: The classes of the masks.
    """

    def __init__(self, out: Path, schema: ClassSchema) -> None:
        self.out = out
        self.schema = schema
        self._staging = Staging(out)

    def write(self, sample: TimeSeries) -> Row:
        """Write the files of one sample and park its row; on an error none of its files remains."""
        check_sample(sample)
        self._staging.check_dates(sample)
        row = metadata_row(sample)
        files = self._encode(sample)
        row |= file_columns(files, len(sample.masks))
        row |= {"objects_file": f"objects/{sample.id}.json", "events_file": f"events/{sample.id}.jsonl"}
        log = "".join(dump(event_row(event, self.schema, sample.calendar)) + "\n" for event in sample.events)
        files |= {row["objects_file"]: object_names(sample).encode(), row["events_file"]: log.encode()}
        root = self.out / sample.split
        written: list[Path] = []
        try:
            for name, data in files.items():
                path = root / name
                with atomic_path(path) as partial:
                    partial.write_bytes(data)
                written.append(path)
            self._staging.put(sample.id, row, {f"{sample.split}/{name}": digest(data) for name, data in files.items()})
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return row

    def finished(self) -> frozenset[str]:
        """Ids of the samples whose files are complete and whose rows wait for :meth:`close`."""
        return self._staging.ids()

    def close(self, order: Sequence[str] | None = None) -> list[Path]:
        """Write ``<split>/metadata.jsonl`` and checksums; return the tables. Without samples nothing is written."""
        rows = unify(self._staging.rows(order))
        splits: dict[str, list[Row]] = {}
        for row in rows:
            splits.setdefault(row["split"], []).append(row)
        for key in _unreadable_columns(splits):
            # `datasets` infers types per split and refuses splits that disagree.
            logger.warning("metadata column %r left out: it has no value at all in one of the splits", key)
            for row in rows:
                del row[key]
        paths = []
        for split, part in sorted(splits.items()):
            path = self.out / split / "metadata.jsonl"
            write_text(path, "".join(dump(row) + "\n" for row in part))
            paths.append(path)
        if paths:
            close_checksums(self.out, self._staging.digests(order), ((path, sha256(path)) for path in paths))
        self._staging.clear()
        return paths

    def abandon(self) -> None:
        """Remove the files and rows of all samples that no ``metadata.jsonl`` lists yet."""
        for row in self._staging.rows(None):
            root = self.out / row["split"]
            names = [value for key, value in row.items() if key.endswith(("_file_name", "s_file"))]
            names += [name for key, value in row.items() if key.endswith("_file_names") for name in value]
            for name in names:
                (root / name).unlink(missing_ok=True)
        self._staging.clear()

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


def _unreadable_columns(splits: dict[str, list[Row]]) -> list[str]:
    """Columns that are empty throughout one split but not in another."""
    keys = sorted({key for part in splits.values() for key in part[0]})
    return [key for key in keys if len({all(row[key] is None for row in part) for part in splits.values()}) > 1]
