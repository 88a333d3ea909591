"""The master layout: one image file per date, mask and step, one event log per sample, one row per sample.

    OUT/<split>/metadata.jsonl
    OUT/<split>/images/<sample>_t0.png  masks/<sample>_t0.png  changes/<sample>_t0_t1.png  events/<sample>.jsonl

Georeferenced scenes give Cloud Optimized GeoTIFFs (``.tif``) instead of PNG. Samples without images leave ``images/``
and its columns out. ``datasets`` opens the folder as an image folder; keys that end in ``_file_name`` become image
columns, keys in ``_file_names`` columns of image lists.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from changen_cli.core.files import atomic_path, sha256, write_text
from changen_cli.core.types import ClassSchema, TimeSeries, UInt8Array
from changen_cli.writers.base import (
    Row,
    Staging,
    check_sample,
    close_checksums,
    digest,
    dump,
    event_row,
    metadata_row,
    unify,
)
from changen_cli.writers.images import change_image, encode_cog, encode_png

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
        suffix = next(iter(files)).rpartition(".")[2]
        row |= file_columns(sample.id, len(sample.masks), suffix, images=sample.images is not None)
        row["events_file"] = f"events/{sample.id}.jsonl"
        log = (event_row(event, self.schema, sample.calendar) for event in sample.events)
        files[row["events_file"]] = "".join(dump(event) + "\n" for event in log).encode()
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
            names = [value for key, value in row.items() if key.endswith("_file_name") or key == "events_file"]
            names += [name for key, value in row.items() if key.endswith("_file_names") for name in value]
            for name in names:
                (root / name).unlink(missing_ok=True)
        self._staging.clear()

    def _encode(self, sample: TimeSeries) -> dict[str, bytes]:
        """Return file name below the split → content, images first."""
        name, dates = sample.id, sample.calendar or ("",) * len(sample.masks)
        georeference = sample.scene.crs, sample.scene.transform
        suffix = "tif" if None not in georeference else "png"

        def encode(array: UInt8Array, date: str = "", nodata: int | None = None) -> bytes:
            crs, transform = georeference
            if crs is None or transform is None:
                return encode_png(array)
            return encode_cog(array, crs, transform, nodata, date)

        images = () if sample.images is None else sample.images
        unknown = self.schema.ignore_index
        files = {f"images/{name}_t{t}.{suffix}": encode(a, dates[t]) for t, a in enumerate(images)}
        files |= {f"masks/{name}_t{t}.{suffix}": encode(a, dates[t], unknown) for t, a in enumerate(sample.masks)}
        files |= {
            f"changes/{name}_t{t}_t{t + 1}.{suffix}": encode(change_image(a)) for t, a in enumerate(sample.change_masks)
        }
        return files


def file_columns(sample_id: str, dates: int, suffix: str, *, images: bool = True) -> Row:
    """Return the columns that name files, relative to ``metadata.jsonl``.

    Column ``t1`` is date 0. ``change_mask`` belongs to ``t1`` and ``t2``; with more than two dates, lists hold
    all images, all semantic masks and the change mask of every step.
    """
    row: Row = {}
    lists: Row = {}
    for kind in ("image", "mask") if images else ("mask",):
        names = [f"{kind}s/{sample_id}_t{t}.{suffix}" for t in range(dates)]
        row |= {f"t{t + 1}_{kind}_file_name": name for t, name in enumerate(names)}
        lists[f"{kind}_file_names"] = names
    changes = [f"changes/{sample_id}_t{t}_t{t + 1}.{suffix}" for t in range(dates - 1)]
    row["change_mask_file_name"] = changes[0]
    return row | lists | {"change_file_names": changes} if dates > 2 else row


def _unreadable_columns(splits: dict[str, list[Row]]) -> list[str]:
    """Columns that are empty throughout one split but not in another."""
    keys = sorted({key for part in splits.values() for key in part[0]})
    return [key for key in keys if len({all(row[key] is None for row in part) for part in splits.values()}) > 1]
