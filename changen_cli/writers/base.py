"""What every writer shares: the interface, the metadata row and the event log.

Samples arrive in whatever order workers finish them, possibly over several runs. Each writer therefore leaves its rows
to :class:`~changen_cli.writers.staging.Staging` and puts them into their final order only in ``close``: the order of
arrival, the number of workers and a resume change no byte of the result.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from changen_cli.core.checksums import write_checksums
from changen_cli.core.files import sha256
from changen_cli.core.types import ChangeEvent, ClassSchema, TimeSeries
from changen_cli.writers.staging import STAGING, Staging, dump

Layout = Literal["folder", "parquet"]
Row = dict[str, Any]


class SampleWriter(Protocol):
    """Writes samples of one dataset; all of them have the same number of dates.

    Attributes:
        staging: Where finished samples wait.
    """

    staging: Staging

    def write(self, sample: TimeSeries, note: Mapping[str, Any] | None = None) -> Row:
        """Store one finished sample and return its metadata row. Writing the same id again replaces it.

        Args:
            sample: The sample.
            note: Figures kept with it, see :meth:`~changen_cli.writers.staging.Staging.notes`.

        Raises:
            ValueError: The sample's arrays do not belong together, or its info clashes with a column.
            OutputError: Its number of dates differs from that of the samples before it.
        """
        ...

    def finished(self) -> frozenset[str]:
        """Ids already stored by this or an earlier run."""
        ...

    def tables(self, order: Sequence[str] | None = None, kept: Mapping[str, int] | None = None) -> list[Path]:
        """Put the rows into their final order, write the tables and the checksums. May be repeated.

        Args:
            order: The ids that make up the dataset, in row order. None: all of them, sorted by id.
            kept: Split → Parquet files that stay as they are; their samples are not in ``order``.

        Returns:
            The table files (``metadata.jsonl`` or Parquet shards), sorted.

        Raises:
            OutputError: An id of ``order`` was never written.
        """
        ...

    def close(self, order: Sequence[str] | None = None) -> list[Path]:
        """Write the tables and drop the staging folder."""
        ...

    def abandon(self) -> None:
        """Throw away everything that no shard and no table holds."""
        ...


def open_writer(layout: Layout, out: Path, schema: ClassSchema, part: str = "") -> SampleWriter:
    """Return the writer of a layout.

    Args:
        layout: ``folder`` (image files and ``metadata.jsonl``) or ``parquet`` (shards with embedded images).
        out: The dataset folder; created when missing.
        schema: The classes of the masks.
        part: The part of the staging folder this process has to itself, where several write.
    """
    # Imported here: each implementation imports this module.
    if layout == "parquet":
        from changen_cli.writers.parquet import ParquetWriter

        return ParquetWriter(out, schema, part=part)
    from changen_cli.writers.folder import FolderWriter

    return FolderWriter(out, schema, part)


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
    if event.quality:
        row["quality"] = dict(event.quality)
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


OUR_FILES = (
    re.compile(r"[^/]+/(images|masks|instances)/[^/]+_t\d+\.(png|tif)"),
    re.compile(r"[^/]+/changes/[^/]+_t\d+_t\d+\.(png|tif)"),
    re.compile(r"[^/]+/events/[^/]+\.jsonl"),
    re.compile(r"[^/]+/objects/[^/]+\.json"),
    re.compile(r"[^/]+/metadata\.jsonl"),
    re.compile(r"data/[^/]+-\d{5}-of-\d{5}\.parquet"),
    re.compile(r"shards/\d+\.jsonl?"),
    re.compile(r"shards/\.preview/.+\.png"),
    re.compile(r"rejected/[^/]+\.jpg"),
)
"""What files of a dataset are called; anything else in its folder is the user's."""


def remove_dataset(out: Path) -> None:
    """Remove the samples and tables a writer left in ``out``, and the folders that are empty then."""
    shutil.rmtree(out / STAGING, ignore_errors=True)
    for split in sorted(path for path in out.iterdir() if path.is_dir() and not path.is_symlink()):
        for path in sorted(split.rglob("*"), reverse=True):  # files before the folder they lie in
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif any(pattern.fullmatch(path.relative_to(out).as_posix()) for pattern in OUR_FILES):
                path.unlink()
        if not any(split.iterdir()):
            split.rmdir()
