"""Arrays → image files, without timestamps or library-dependent metadata: the same array gives the same bytes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from changen_cli.core.calendar import tiff_datetime
from changen_cli.core.types import GeoTransform, Int32Array, UInt8Array

UInt16Array = npt.NDArray[np.uint16]
Float32Array = npt.NDArray[np.float32]
Pixels = UInt8Array | UInt16Array | Int32Array

# Level 6 costs two and a half times the time of level 1 and saves nothing on aerial images. Masks are runs of equal
# values: run-length matching halves them (14 kB instead of 27 kB at 1024²) at the same time.
_LEVEL = 1
_GREY, _RGB = 0, 2

_BLOCK = 512


def change_image(change: npt.NDArray[np.bool_]) -> UInt8Array:
    """Return a change mask as it is stored: uint8 ``[H, W]``, 0 unchanged, 255 changed."""
    return change.astype(np.uint8) * np.uint8(255)


def encode_png(array: UInt8Array) -> bytes:
    """Encode uint8 ``[H, W, 3]`` (RGB) or ``[H, W]`` (mode L) as PNG."""
    height, width = array.shape[:2]
    samples = np.ascontiguousarray(array).reshape(height, -1)
    if array.ndim == 2:
        return _png(samples, width, 8, _GREY, zlib.Z_RLE)
    return _png(samples, width, 8, _RGB, zlib.Z_DEFAULT_STRATEGY)


def numbers_image(instances: Int32Array) -> UInt16Array | Int32Array:
    """Return object numbers as they are stored: uint16, or int32 where a number does not fit."""
    fits = int(instances.max(initial=0)) <= np.iinfo(np.uint16).max
    return instances.astype(np.uint16) if fits else instances


def encode_plain(array: Pixels) -> tuple[str, bytes]:
    """Encode pixels without a georeference: PNG, or TIFF for int32, which PNG does not have.

    Returns:
        The suffix, and the file.
    """
    if array.dtype == np.uint8:
        return "png", encode_png(np.asarray(array, dtype=np.uint8))
    if array.dtype == np.uint16:
        return "png", _encode_png16(np.asarray(array, dtype=np.uint16))
    return "tif", encode_tiff(array)


def encode_tiff(array: Pixels | Float32Array) -> bytes:
    """Encode ``[H, W]`` as TIFF without a georeference."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    return buffer.getvalue()


def _encode_png16(array: UInt16Array) -> bytes:
    """Encode uint16 ``[H, W]`` as grey PNG."""
    return _png(array.astype(">u2").view(np.uint8), array.shape[1], 16, _GREY, zlib.Z_RLE)


def _png(samples: UInt8Array, width: int, depth: int, colour: int, strategy: int) -> bytes:
    """Write PNG by hand.

    Every line is filtered as its difference to the one above: in masks all but the ends of objects are runs of zeros
    then. Pillow, which tries all filters on every line, takes twice the time for images, and four times for masks, and
    makes files of the same size.

    Args:
        samples: uint8 ``[H, bytes of a line]``.
        width: Pixels of a line.
        depth: Bits of a sample.
        colour: PNG's colour type.
        strategy: zlib's strategy.
    """
    height, length = samples.shape
    lines = np.empty((height, 1 + length), dtype=np.uint8)
    lines[:, 0] = 2  # the filter: 2 is "up"
    lines[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=lines[1:, 1:])
    deflate = zlib.compressobj(_LEVEL, strategy=strategy)
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", deflate.compress(lines.data) + deflate.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def encode_cog(
    array: Pixels | Float32Array, crs: str, transform: GeoTransform, nodata: int | None = None, date: str = ""
) -> bytes:
    """Encode uint8 ``[H, W, 3]``, or uint8, uint16, int32 or float32 ``[H, W]``, as a Cloud Optimized GeoTIFF.

    Lossless. DEFLATE rather than the faster ZSTD, because every TIFF reader has it. No overviews: tiles are read whole,
    and overviews would add a third to each file. Encoded in memory, so GDAL leaves no side files behind.

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
        "dtype": array.dtype.name, "crs": crs, "transform": Affine(*transform), "compress": "DEFLATE",
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
