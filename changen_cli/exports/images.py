"""Files of exports: images as they are where the reader takes them, else encoded anew without loss; and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from changen_cli.core.types import UInt8Array
from changen_cli.exports.master import Stored

_LEVEL = 1  # higher levels cost twice the time and save nothing on aerial images


def encode_png(array: UInt8Array) -> bytes:
    """Encode uint8 ``[H, W]`` (mode L) or ``[H, W, 3]`` (RGB) as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, "PNG", compress_level=_LEVEL)
    return buffer.getvalue()


def save_png(array: UInt8Array, target: Path) -> None:
    """Write uint8 ``[H, W]`` (mode L) or ``[H, W, 3]`` (RGB) as PNG."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(encode_png(array))


def put_rgb_png(image: Stored, target: Path) -> None:
    """Make ``target`` a PNG of an image: a hard link where it is one, else decoded and encoded."""
    if image.suffix == ".png":
        image.put(target)
    else:
        save_png(image.array(), target)


def save_json(content: Any, target: Path, indent: int | None = None) -> None:
    """Write JSON as UTF-8."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def save_tiff(
    array: UInt8Array,
    target: Path,
    crs: str | None = None,
    transform: Sequence[float] | None = None,
    nodata: int | None = None,
) -> None:
    """Write uint8 ``[H, W]`` or ``[H, W, 3]`` as TIFF with DEFLATE, which every reader has; no side files.

    Args:
        array: The pixels.
        target: The file.
        crs: Anything rasterio takes for a CRS; with ``transform`` it makes a GeoTIFF.
        transform: Geotransform in rasterio's order, or None.
        nodata: Value a GeoTIFF tags as no data, or None.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if crs is None or transform is None:
        Image.fromarray(np.ascontiguousarray(array)).save(target, "TIFF", compression="tiff_adobe_deflate")
        return
    import rasterio
    from rasterio.transform import Affine

    bands = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    with (
        rasterio.Env(GDAL_PAM_ENABLED="NO"),
        rasterio.open(
            target, "w", driver="GTiff", width=bands.shape[2], height=bands.shape[1], count=len(bands), dtype="uint8",
            crs=crs, transform=Affine(*transform), nodata=nodata, compress="deflate", interleave="pixel",
        ) as file,
    ):  # fmt: skip
        file.write(bands)
