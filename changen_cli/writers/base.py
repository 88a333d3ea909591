"""What every writer shares: the interface, the metadata row, the event log, and the staging folder.

Samples arrive in whatever order workers finish them, possibly over several runs. Each writer therefore parks
one row per finished sample under ``OUT/.staging`` and puts rows into their final order only in ``close``: the
order of arrival, the number of workers and a resume change no byte of the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from changen_cli.core.checksums import write_checksums
from changen_cli.core.errors import OutputError
from changen_cli.core.files import sha256, write_text
from changen_cli.core.types import ChangeEvent, ClassSchema, TimeSeries

logger = logging.getLogger(__name__)

Layout = Literal["folder", "parquet"]
Row = dict[str, Any]

STAGING = ".staging"
_DIGESTS = "_sha256"


class SampleWriter(Protocol):
    """Writes samples of one run; all of them have the same number of dates."""

    def write(self, sample: TimeSeries) -> Row:
        """Store one finished sample and return its metadata row. Writing the same id again replaces it.

        Raises:
            ValueError: The sample's arrays do not belong together, or its info clashes with a column.
            OutputError: Its number of dates differs from that of the samples before it.
        """
        ...

    def finished(self) -> frozenset[str]:
        """Ids already stored by this or an earlier run and waiting for :meth:`close`; a resume skips them."""
        ...

    def close(self, order: Sequence[str] | None = None) -> list[Path]:
        """Put the rows into their final order, write the tables and the checksums, drop the staging folder.

        Args:
            order: The ids that make up the dataset, in row order. None: all of them, sorted by id.

        Returns:
            The table files written (``metadata.jsonl`` or Parquet shards), sorted.

        Raises:
            OutputError: An id of ``order`` was never written.
        """
        ...

    def abandon(self) -> None:
        """Throw away everything stored since the last :meth:`close`."""
        ...


def open_writer(layout: Layout, out: Path, schema: ClassSchema) -> SampleWriter:
    """Return the writer of a layout.

    Args:
        layout: ``folder`` (image files and ``metadata.jsonl``) or ``parquet`` (shards with embedded images).
        out: The dataset folder; created when missing.
        schema: The classes of the masks.
    """
    # Imported here: each implementation imports this module.
    if layout == "parquet":
        from changen_cli.writers.parquet import ParquetWriter

        return ParquetWriter(out, schema)
    from changen_cli.writers.folder import FolderWriter

    return FolderWriter(out, schema)


def check_sample(sample: TimeSeries) -> None:
    """Raise ValueError unless the arrays of ``sample`` share one grid and have writable types."""
    images, masks, instances = sample.images, sample.masks, sample.instances
    if masks.dtype != np.uint8 or masks.ndim != 3:
        raise ValueError(f"sample {sample.id}: masks must be uint8 [T, H, W], not {masks.dtype} {masks.shape}")
    if images is not None and (images.dtype != np.uint8 or images.shape != (*masks.shape, 3)):
        shape = (*masks.shape, 3)
        raise ValueError(f"sample {sample.id}: images must be uint8 {shape}, not {images.dtype} {images.shape}")
    if instances.dtype != np.int32 or instances.shape != masks.shape or instances.min(initial=0) < 0:
        given = f"{instances.dtype} {instances.shape}"
        raise ValueError(f"sample {sample.id}: instances must be int32 {masks.shape}, 0 or more, not {given}")
    if len(sample.calendar) not in (0, len(masks)):
        raise ValueError(f"sample {sample.id}: {len(sample.calendar)} calendar dates for {len(masks)} dates")
    if len(masks) < 2:
        raise ValueError(f"sample {sample.id}: a time series has at least two dates")


def event_row(event: ChangeEvent, schema: ClassSchema, calendar: Sequence[str] = ()) -> Row:
    """Return one event as JSON values; with the dates its step leads from and to where the series has a calendar.

    ``step`` t leads from date t to date t+1. ``polygon`` is WKT in pixel coordinates ``(col row)``; boxes are
    half-open ``[row0, col0, row1, col1]`` pixels. A new building also names the real object its pixels came from.
    """
    row: Row = {
        "object_id": event.object_id,
        "instance": int(event.instance),
        "step": int(event.time_index),
        **dict(zip(("date_from", "date_to"), calendar[event.time_index :], strict=False)),
        "kind": event.kind,
        "from_class": int(event.from_class),
        "to_class": int(event.to_class),
        "from_name": _class_name(schema, event.from_class),
        "to_name": _class_name(schema, event.to_class),
        "bbox": [int(v) for v in event.bbox],
        "area_px": int(event.area_px),
        "from_areas_px": {str(k): int(v) for k, v in sorted(event.from_areas_px.items())},
        "polygon": event.polygon,
    }
    row |= {key: value for key, value in (("stage", event.stage),) if value}
    row |= {key: list(value) for key in ("split_into", "merged_from") if (value := getattr(event, key))}
    if event.placement is not None:
        row["source_scene"] = event.placement.exemplar.scene_id
        row["source_object"] = event.placement.exemplar.object_id
        row["source_box"] = [int(v) for v in event.placement.exemplar.box]
        row["rotation_deg"] = round(math.degrees(event.placement.rotation_rad), 4)
        row["scale"] = round(float(event.placement.scale), 6)
        row["mirrored"] = bool(event.placement.mirrored)
    return row


def _class_name(schema: ClassSchema, class_id: int) -> str:
    return schema.names[class_id] if 0 <= class_id < len(schema.names) else "ignore"


def metadata_row(sample: TimeSeries) -> Row:
    """Return the columns both layouts share, images and events aside.

    ``changed_fraction``, ``asked`` and ``reached`` hold one share of the tile in [0, 1] per step; ``crs`` is
    ``EPSG:n`` where the WKT resolves to one; ``transform`` maps (col, row) to map units, rasterio order.

    Raises:
        ValueError: ``sample.info`` uses a column's name or one that image folders would take for a file.
    """
    scene = sample.scene
    dates, height, width = sample.masks.shape
    row: Row = {
        "image_name": sample.id,
        "scene_id": scene.id,
        "group": scene.group,
        "source_path": scene.source_path,
        "variant": int(sample.variant),
        "seed": int(sample.seed),
        "split": sample.split,
        "dates": int(dates),
        **({"calendar": list(sample.calendar)} if sample.calendar else {}),
        "height": int(height),
        "width": int(width),
        "gsd_m": None if scene.gsd_m is None else float(scene.gsd_m),
        "crs": crs_name(scene.crs),
        "transform": None if scene.transform is None else [float(v) for v in scene.transform],
        "event_count": len(sample.events),
        "changed_fraction": [round(float(change.mean()), 8) for change in sample.change_masks],
    }
    if sample.reports:
        row["asked"] = [float(report.asked) for report in sample.reports]
        row["reached"] = [float(report.reached) for report in sample.reports]
        row["met"] = [bool(report.met) for report in sample.reports]
        row["notes"] = [report.note for report in sample.reports]
    for key, value in sample.info.items():
        # `datasets` turns every such key into an image column.
        if key in row or key.endswith(("file_name", "file_names")):
            raise ValueError(f"sample {sample.id}: info key {key!r} is reserved")
        row[key] = value
    return row


def object_names(sample: TimeSeries) -> str:
    """Return the ids of all objects of a series as JSON, ``{"1": id, …}`` by their numbers in the instance masks."""
    return dump({str(number): name for number, name in sorted(sample.objects.items())})


def crs_name(wkt: str | None) -> str | None:
    """Return ``EPSG:n`` where ``wkt`` resolves to a code, else ``wkt`` itself; None stays None."""
    if wkt is None:
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        code = CRS.from_user_input(wkt).to_epsg()
    except CRSError:
        return wkt
    return wkt if code is None else f"EPSG:{code}"


def unify(rows: Sequence[Row]) -> list[Row]:
    """Give all rows the same keys in the same order and each column one type.

    Table readers infer a column's type from its first rows: a key that comes later, or an int among floats,
    makes the whole dataset unreadable. Missing values become None, ints become floats in a float column, and a
    column of mixed kinds becomes text.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # Keys that only some samples have must not depend on which of them comes first.
    keys = [k for k in keys if all(k in row for row in rows)] + sorted(
        k for k in keys if not all(k in row for row in rows)
    )
    out: list[Row] = [{key: row.get(key) for key in keys} for row in rows]
    for key in keys:
        kinds = {type(row[key]) for row in out if row[key] is not None}
        if kinds <= {bool} or kinds <= {int} or kinds <= {str} or kinds <= {list}:
            continue
        numbers = kinds <= {int, float}
        for row in out:
            if row[key] is not None:
                row[key] = float(row[key]) if numbers else _text(row[key])
    return out


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def dump(value: Any) -> str:
    """Return compact JSON on one line; refuses NaN and infinity, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


class Staging:
    """Rows of finished samples, one small file each, until the writer is closed.

    A row is written last and by rename, so its presence means that everything else of the sample is complete.

    Args:
        out: The dataset folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / STAGING
        self._dates: int | None = None

    def check_dates(self, sample: TimeSeries) -> None:
        """Raise OutputError when ``sample`` has another number of dates than the others of this run."""
        if self._dates is None:
            first = next(iter(sorted(self.ids())), None)
            self._dates = len(sample.masks) if first is None else int(self._load(first)["dates"])
        if len(sample.masks) != self._dates:
            raise OutputError(
                f"sample {sample.id} has {len(sample.masks)} dates, the others have {self._dates}",
                "Write series of different lengths to different folders",
            )

    def put(self, sample_id: str, row: Row, files: dict[str, str] | None = None) -> None:
        """Park one row, and the SHA-256 of the sample's files by their path below the dataset folder."""
        write_text(self.folder / f"{sample_id}.json", dump(row | {_DIGESTS: files or {}}) + "\n")

    def digests(self, order: Iterable[str] | None) -> Iterator[tuple[str, str]]:
        """Yield path and SHA-256 of all files of the parked samples, one sample after the other."""
        for sample_id in sorted(self.ids()) if order is None else order:
            yield from self._read(sample_id)[_DIGESTS].items()

    def ids(self) -> frozenset[str]:
        """Ids of all parked rows."""
        if not self.folder.is_dir():
            return frozenset()
        return frozenset(p.name[:-5] for p in self.folder.iterdir() if p.suffix == ".json" and p.name[0] != ".")

    def rows(self, order: Iterable[str] | None) -> list[Row]:
        """Return the parked rows in ``order``, or sorted by id.

        Raises:
            OutputError: An id of ``order`` has no row.
        """
        ids = self.ids()
        wanted = sorted(ids) if order is None else list(order)
        if missing := [i for i in wanted if i not in ids]:
            raise OutputError(f"{len(missing)} samples were never written, e.g. {missing[0]}", "Run again to make them")
        return [self._load(i) for i in wanted]

    def clear(self) -> None:
        """Remove the staging folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._dates = None

    def _load(self, sample_id: str) -> Row:
        row = self._read(sample_id)
        del row[_DIGESTS]
        return row

    def _read(self, sample_id: str) -> Row:
        row: Row = json.loads((self.folder / f"{sample_id}.json").read_text(encoding="utf-8"))
        return row


def digest(data: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(data).hexdigest()


def close_checksums(out: Path, samples: Iterable[tuple[str, str]], tables: Iterable[tuple[Path, str]]) -> None:
    """Write the checksums of a dataset: ``classes.json``, the files of its samples, its tables."""
    classes = [path for path in (out / "classes.json",) if path.is_file()]
    write_checksums(
        out,
        chain(
            ((path.name, sha256(path)) for path in classes),
            samples,
            ((path.relative_to(out).as_posix(), value) for path, value in tables),
        ),
    )


# What a writer calls its files; anything else in a dataset folder is the user's.
_OUR_FILES = (
    re.compile(r"[^/]+/(images|masks|instances)/[^/]+_t\d+\.(png|tif)"),
    re.compile(r"[^/]+/changes/[^/]+_t\d+_t\d+\.(png|tif)"),
    re.compile(r"[^/]+/events/[^/]+\.jsonl"),
    re.compile(r"[^/]+/objects/[^/]+\.json"),
    re.compile(r"[^/]+/metadata\.jsonl"),
    re.compile(r"data/[^/]+-\d{5}-of-\d{5}\.parquet"),
)


def remove_dataset(out: Path) -> None:
    """Remove the samples and tables a writer left in ``out``, and the folders that are empty then."""
    Staging(out).clear()
    for split in sorted(path for path in out.iterdir() if path.is_dir() and not path.is_symlink()):
        for path in sorted(split.rglob("*"), reverse=True):  # files before the folder they lie in
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif any(pattern.fullmatch(path.relative_to(out).as_posix()) for pattern in _OUR_FILES):
                path.unlink()
        if not any(split.iterdir()):
            split.rmdir()
