"""Arrays → image files, without timestamps or library-dependent metadata: the same array gives the same bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from changen_cli.core.calendar import tiff_datetime
from changen_cli.core.types import GeoTransform, UInt8Array

# Measured on 1024² aerial RGB: level 1 costs 89 ms and 2.15 MB, level 6 costs 223 ms and 2.23 MB. Masks are runs
# of equal values: run-length matching halves them (14 kB instead of 27 kB) at the same 6 ms.
_LEVEL = 1
_DEFAULT_STRATEGY, _RUN_LENGTH = -1, 3

_BLOCK = 512


def change_image(change: npt.NDArray[np.bool_]) -> UInt8Array:
    """Return a change mask as it is stored: uint8 ``[H, W]``, 0 unchanged, 255 changed."""
    return change.astype(np.uint8) * np.uint8(255)


def encode_png(array: UInt8Array) -> bytes:
    """Encode uint8 ``[H, W, 3]`` (RGB) or ``[H, W]`` (mode L) as PNG."""
    buffer = io.BytesIO()
    strategy = _RUN_LENGTH if array.ndim == 2 else _DEFAULT_STRATEGY
    image = Image.fromarray(np.ascontiguousarray(array))
    image.save(buffer, "PNG", compress_level=_LEVEL, compress_type=strategy)
    return buffer.getvalue()


def encode_cog(
    array: UInt8Array, crs: str, transform: GeoTransform, nodata: int | None = None, date: str = ""
) -> bytes:
    """Encode uint8 ``[H, W, 3]`` or ``[H, W]`` as a Cloud Optimized GeoTIFF, lossless.

    DEFLATE rather than the faster ZSTD, because every TIFF reader has it. No overviews: tiles are read whole, and
    overviews would add a third to each file. Encoded in memory, so GDAL leaves no side files behind.

    Args:
        array: The pixels.
        crs: Anything rasterio takes for a CRS; WKT here.
        transform: Geotransform of the tile.
        nodata: Value to tag as no data, or None.
        date: Calendar date of the pixels, of which the tag DateTime holds the middle; empty: no such tag.
    """
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    bands = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    options: dict[str, Any] = {
        "driver": "COG", "width": bands.shape[2], "height": bands.shape[1], "count": bands.shape[0],
        "dtype": "uint8", "crs": crs, "transform": Affine(*transform), "compress": "DEFLATE",
        "level": 6 if len(bands) == 1 else 1, "predictor": "YES", "blocksize": _BLOCK, "overviews": "NONE",
        "num_threads": 1,
    }  # fmt: skip
    if nodata is not None:
        options["nodata"] = nodata
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile(ext=".tif") as memory:
        with memory.open(**options) as target:
            target.write(bands)
            if date:
                target.update_tags(TIFFTAG_DATETIME=tiff_datetime(date))
        return bytes(memory.getbuffer())
