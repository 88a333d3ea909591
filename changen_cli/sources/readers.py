"""Making one whole scene of one image file and the labels found beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.errors import SceneError
from changen_cli.core.types import IGNORE, ClassSchema, GeoTransform, Scene
from changen_cli.sources import xbd
from changen_cli.sources.candidates import Candidate
from changen_cli.sources.georeference import ground_sampling_distance
from changen_cli.sources.masks import Meaning, label_objects, to_class_ids
from changen_cli.sources.raster import Raster, read_image, read_mask
from changen_cli.sources.tiling import compact_instances


def read_scene(
    candidate: Candidate,
    schema: ClassSchema,
    bands: tuple[int, ...] | None,
    *,
    named: bool,
    is_xbd: bool,
    meaning: Meaning | None = None,
    blank: bool = False,
) -> Scene:
    """Read an image and its label into one whole scene.

    Pixels without image content become unknown in the mask and belong to no object.

    Args:
        candidate: The files.
        schema: The classes of the mask.
        bands: One or three 1-based band numbers, or None for the default.
        named: Whether the user named the classes.
        is_xbd: Whether a label is to be read as xBD does.
        meaning: What 255 is in masks without named classes.
        blank: Give an image without a label a mask of zeros, 255 where it shows nothing.

    Raises:
        SceneError: A file cannot be read, or image and label do not fit each other.
    """
    raster = read_image(candidate.path, bands)
    notes: dict[str, Any] = dict(raster.notes)
    if raster.nodata is not None:
        notes["nodata_share"] = round(float(raster.nodata.mean()), 6)
    base = Scene(
        id=candidate.id,
        group=candidate.group,
        image=raster.image,
        gsd_m=raster.gsd_m,
        crs=raster.crs,
        transform=raster.transform,
        source_path=candidate.relative,
        notes=notes,
    )
    if candidate.label is None:
        if not blank:
            return base
        empty = np.zeros(raster.image.shape[:2], dtype=np.uint8)
        if raster.nodata is not None:
            empty[raster.nodata] = IGNORE
        return replace(base, mask=empty)
    try:
        return (
            _with_xbd(base, raster, candidate.label)
            if is_xbd
            else _with_mask(base, raster, candidate.label, schema, named, meaning)
        )
    except SceneError as error:
        text = str(error)
        raise SceneError(text if candidate.label.name in text else f"{text} ({candidate.label.name})") from error


def _with_mask(
    base: Scene, raster: Raster, path: Path, schema: ClassSchema, named: bool, meaning: Meaning | None
) -> Scene:
    values, nodata = read_mask(path)
    shape = raster.image.shape[:2]
    if values.shape != shape:
        raise SceneError(
            f"the image is {shape[0]}×{shape[1]} px, its mask {values.shape[0]}×{values.shape[1]}: they must be equal"
        )
    mask, note = to_class_ids(values, nodata, schema, named=named, meaning=meaning)
    if raster.nodata is not None:
        mask[raster.nodata] = IGNORE
    instances = label_objects(mask, schema.object_ids) if schema.object_ids else None
    notes = {**base.notes, "mask": note} if note else base.notes
    return replace(base, mask=mask, instances=instances, notes=notes)


def _with_xbd(base: Scene, raster: Raster, path: Path) -> Scene:
    shape = (raster.image.shape[0], raster.image.shape[1])
    label = (xbd.read_label if path.suffix.lower() == ".json" else xbd.read_target)(path, shape)
    mask, instances, uids = label.mask, label.instances, label.uids
    if raster.nodata is not None:
        mask[raster.nodata] = IGNORE
        instances, uids = compact_instances(np.where(raster.nodata, np.int32(0), instances), uids)
    crs, transform, gsd_m = base.crs, base.transform, base.gsd_m
    notes = {**base.notes, **label.notes}
    if crs is not None:
        notes.pop("georeference", None)  # the image's own is better than a fitted one
    elif label.transform is not None:
        crs, transform, gsd_m = _wgs84(label.transform, shape)
    return replace(
        base,
        mask=mask,
        instances=instances,
        uids=uids,
        crs=crs,
        transform=transform,
        gsd_m=gsd_m if gsd_m is not None else label.gsd_m,
        notes=notes,
    )


def _wgs84(transform: GeoTransform, shape: tuple[int, int]) -> tuple[str, GeoTransform, float | None]:
    from rasterio.crs import CRS

    crs = CRS.from_epsg(4326)
    return crs.to_wkt(), transform, ground_sampling_distance(crs, transform, shape)
