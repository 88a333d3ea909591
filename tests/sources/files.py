"""Small real files for the tests of reading."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine

from changen_cli.core.types import Scene, Skip
from changen_cli.sources.folder import open_source

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

UTM = "EPSG:32633"
UTM_TRANSFORM = Affine(0.5, 0, 500000, 0, -0.5, 5200000)


def rgb(height: int = 64, width: int = 64) -> np.ndarray:
    """An image in which every pixel tells its place: red = row, green = column, blue = 200."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows % 256, cols % 256, np.full_like(rows, 200)], axis=2).astype(np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    """Write a PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def save_tif(
    path: Path, bands: np.ndarray, crs: str | None = UTM, transform: Affine = UTM_TRANSFORM, **options: Any
) -> Path:
    """Write a GeoTIFF of ``[B, H, W]``; ``options`` may hold nodata and colorinterp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = options.pop("colorinterp", None)
    count, height, width = bands.shape
    georeference = {"crs": crs, "transform": transform} if crs else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype=bands.dtype,
            **georeference,
            **options,
        ) as dataset:
            dataset.write(bands)
            if colours:
                dataset.colorinterp = colours
    return path


def bomb(path: Path, width: int = 60000, height: int = 60000) -> Path:
    """Write a PNG of a few bytes whose header promises billions of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    return path


def box(row0: float, col0: float, row1: float, col1: float) -> str:
    """WKT of a rectangle in pixels."""
    return f"POLYGON (({col0} {row0}, {col1} {row0}, {col1} {row1}, {col0} {row1}, {col0} {row0}))"


def bad_name(folder: Path, name: bytes) -> Path:
    """A path whose last name is these bytes; the test is skipped where the file system takes UTF-8 only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / os.fsdecode(name)
    try:
        path.write_bytes(b"")
    except (OSError, ValueError):
        pytest.skip("needs a file system that takes any name")
    path.unlink()
    return path


def entry(wkt: str, uid: str, subtype: str | None = None) -> dict[str, Any]:
    """One entry of xBD's feature lists."""
    properties = {"feature_type": "building", "uid": uid}
    if subtype:
        properties["subtype"] = subtype
    return {"properties": properties, "wkt": wkt}


def label(path: Path, xy: list[Any], lng_lat: list[Any] | None = None, metadata: dict[str, Any] | None = None) -> Path:
    """Write an xBD label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"features": {"lng_lat": lng_lat or [], "xy": xy}, "metadata": metadata or {}}
    path.write_text(json.dumps(content))
    return path


def xbd_scene(
    folder: Path, name: str = "flood_00000001", size: int = 64, xy: list[Any] | None = None, **rest: Any
) -> Path:
    """Write one xBD image pair and the label of its first date; returns the label."""
    for date in ("pre", "post"):
        save(folder / "images" / f"{name}_{date}_disaster.png", rgb(size, size))
    xy = [entry(box(4, 4, 12, 14), "u1")] if xy is None else xy
    return label(folder / "labels" / f"{name}_pre_disaster.json", xy, **rest)


def pair(folder: Path, name: str, mask: np.ndarray, image: np.ndarray | None = None) -> None:
    """Write an image and its mask as PNG into ``images/`` and ``masks/``."""
    save(folder / "images" / f"{name}.png", rgb(*mask.shape[:2]) if image is None else image)
    save(folder / "masks" / f"{name}.png", mask)


def read(root: Path, **options: Any) -> tuple[list[Scene], list[Skip]]:
    """Open a folder and return its scenes and skips, each in order."""
    scenes: list[Scene] = []
    skips: list[Skip] = []
    for item in open_source(root, **options):
        if isinstance(item, Scene):
            scenes.append(item)
        else:
            skips.append(item)
    return scenes, skips
