"""Images and masks: PNG, JPEG and TIFF with bytes that are not as they should be."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from changen_cli.core.errors import SceneError
from changen_cli.sources.raster import read_image, read_mask

from .mutations import examples, refusing, spoilt_bytes

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 24, 32), dtype=np.uint8)


def by_pillow(kind: str, pixels: np.ndarray, **options: object) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(pixels).save(memory, kind, **options)
    return memory.getvalue()


def by_gdal(pixels: np.ndarray, **options: object) -> bytes:
    count, height, width = pixels.shape
    where = {"crs": rasterio.CRS.from_epsg(32633), "transform": from_origin(500000, 5200000, 0.5, 0.5)}
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        **where,
        **options,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(pixels)
            target.update_tags(note="x" * 50)
        return bytes(memory.read())


@cache
def seeds() -> dict[str, bytes]:
    """Small files of many kinds."""
    rgb, grey = np.moveaxis(PIXELS, 0, 2), PIXELS[0]
    palette = Image.fromarray(grey % 4, mode="P")
    palette.putpalette(list(range(12)))
    memory = io.BytesIO()
    palette.save(memory, "PNG", transparency=bytes([0, 128, 255]))
    return {
        "rgb.png": by_pillow("PNG", rgb),
        "palette.png": memory.getvalue(),
        "grey16.png": by_pillow("PNG", grey.astype(np.uint16) * 200),
        "mask.png": by_pillow("PNG", grey % 3),
        "rgb.jpg": by_pillow("JPEG", rgb, quality=90),
        "progressive.jpg": by_pillow("JPEG", rgb, progressive=True, quality=90),
        "plain.tif": by_gdal(PIXELS),
        "tiled.tif": by_gdal(PIXELS, tiled=True, blockxsize=16, blockysize=16, compress="deflate"),
        "float.tif": by_gdal(PIXELS.astype(np.float32), compress="lzw", predictor=3, nodata=0),
        "big.tif": by_gdal(PIXELS.astype(np.uint16), BIGTIFF="YES", interleave="band", compress="packbits"),
        "jpeg.tif": by_gdal(np.repeat(np.repeat(PIXELS, 2, 1), 2, 2), compress="jpeg", photometric="ycbcr"),
        "mask.tif": by_gdal(PIXELS[:1] % 3, nodata=255),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def test_the_seeds_are_sound(folder: Path) -> None:
    for name, data in seeds().items():
        (folder / name).write_bytes(data)
        assert read_image(folder / name).image.shape[2] == 3


@pytest.mark.parametrize("name", seeds())
@examples
@given(draw=st.data())
def test_an_image_is_read_or_refused(folder: Path, name: str, draw: st.DataObject) -> None:
    path = folder / name
    path.write_bytes(draw.draw(spoilt_bytes(seeds()[name], edges=600)))
    with refusing(SceneError):
        found = read_image(path)
        assert found.image.dtype == np.uint8 and found.image.shape[2] == 3
        assert found.nodata is None or found.nodata.shape == found.image.shape[:2]
        assert (found.crs is None) == (found.transform is None)
        assert found.transform is None or np.isfinite(found.transform).all()
    with refusing(SceneError):
        values, _ = read_mask(path)
        assert values.ndim == 2 and np.issubdtype(values.dtype, np.integer)


@examples
@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"]),
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_loose_bytes(folder: Path, suffix: str, head: bytes, data: bytes) -> None:
    path = folder / f"loose{suffix}"
    path.write_bytes(head + data)
    with refusing(SceneError):
        read_image(path)
