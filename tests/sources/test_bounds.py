"""Files that ask a decoder for more than it should give; each is refused from its header, in no time."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import SceneError
from changen_cli.sources import bounds
from changen_cli.sources.raster import read_image, read_mask

from .crafted import AT, LENGTH, page, write_tiff
from .files import rgb, save, save_tif

ITEMS = b"".join(b'<Item name="k%d">v</Item>' % number for number in range(20_000))
DEFLATE = (3, [8])
ZEROS = zlib.compress(bytes(1 << 20), 9)
TILED = {"t273": None, "t278": None, "t279": None, "t324": (4, [AT]), "t325": (4, [LENGTH]), "t259": DEFLATE}


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([page(40_000, 40_000, data=b"1")], "is too large: 40000×40000 px"),
        ([page(2, 2**32 - 1, data=b"1")], "is too large"),
        ([page(bands=5000)], "has 5000 bands, at most 4096"),
        ([page(t322=(4, [60_000]), t323=(4, [60_000]), data=ZEROS, **TILED)], "blocks of 60000×60000 px with 1 band,"),
        ([page(4096, 4096, 600, ZEROS, t259=DEFLATE)], "with 600 bands"),
        ([page(13_000, 13_000, 3, ZEROS, t258=(3, [64] * 3), t259=DEFLATE, t278=(4, [16]))], "4.1 GB of pixels in a"),
        ([page()] * 300, "more than 256 pages"),
        ([page(**{f"t{40_000 + tag}": (3, [1]) for tag in range(1100)})], "tags in one page, at most 1024"),
        ([page(t42112=(2, b"<GDALMetadata>" + ITEMS + b"</GDALMetadata>\0"))], "of metadata, at most 256 kB"),
    ],
    ids=["pixels", "height", "bands", "tile", "strip", "ratio", "pages", "tags", "metadata"],
)
def test_crafted_tiffs_are_refused_from_their_header(tmp_path: Path, pages: list, reason: str) -> None:
    path = write_tiff(tmp_path / "a.tif", *pages)
    for read in (read_image, read_mask):
        started = time.perf_counter()
        with pytest.raises(SceneError, match=reason):
            read(path)
        assert time.perf_counter() - started < 1


def test_the_used_bands_are_what_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_tif(tmp_path / "a.tif", np.zeros((4, 64, 64), np.float64), interleave="band")
    monkeypatch.setattr(bounds, "MAX_BYTES", 64 * 64 * 8)
    assert read_image(path, (2,)).image.shape == (64, 64, 3)
    with pytest.raises(SceneError, match="3 bands of 64×64 px are"):
        read_image(path)


def test_ordinary_files_stay_readable(tmp_path: Path) -> None:
    assert read_image(write_tiff(tmp_path / "plain.tif", page())).image.shape == (8, 8, 3)
    assert read_image(write_tiff(tmp_path / "loop.tif", page(), page(), loop=True)).image.shape == (8, 8, 3)
    for options in (
        {"BIGTIFF": "YES"}, {"tiled": True, "blockxsize": 512, "blockysize": 512}, {"compress": "deflate"},
        {"ENDIANNESS": "BIG"}, {"interleave": "pixel"}, {"SPARSE_OK": "TRUE"},
    ):  # fmt: skip
        path = save_tif(tmp_path / "a.tif", rgb().transpose(2, 0, 1), **options)
        assert np.array_equal(read_image(path).image, rgb()), options


def test_a_mask_file_beside_an_image_opens_no_other_file(tmp_path: Path) -> None:
    """GDAL takes ``<name>.msk`` of any format for the mask of an image, virtual ones that name any path too."""
    hidden = np.zeros((1, 64, 64), np.uint8)
    hidden[0, :32] = 255
    secret = save_tif(tmp_path / "elsewhere" / "secret.tif", hidden)
    path = save_tif(tmp_path / "a.tif", rgb().transpose(2, 0, 1))
    (tmp_path / "a.tif.msk").write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>'
        f'<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>{secret}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert read_image(path).nodata is None


def test_a_georeference_of_megabytes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", rgb())
    (tmp_path / "a.png.aux.xml").write_text("<PAMDataset>" + " " * (1 << 19) + "</PAMDataset>")
    with pytest.raises(SceneError, match=r"a\.png\.aux\.xml is larger than"):
        read_image(path)


def test_a_jpeg_of_a_thousand_scans_is_refused(tmp_path: Path) -> None:
    Image.fromarray(rgb(512, 512)).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    assert read_image(tmp_path / "a.jpg").image.shape == (512, 512, 3)
    start = data.rindex(b"\xff\xda")
    (tmp_path / "b.jpg").write_bytes(data[:start] + data[start:-2] * 1000 + data[-2:])
    with pytest.raises(SceneError, match="more than 100 scans"):
        read_image(tmp_path / "b.jpg")


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").symlink_to(tmp_path / "pipe")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):
        with pytest.raises(SceneError, match="a pipe or a device"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_geotransform_without_meaning_is_none(tmp_path: Path, value: float) -> None:
    path = save_tif(tmp_path / "a.tif", rgb().transpose(2, 0, 1))
    data, scale = path.read_bytes(), struct.pack("<ddd", 0.5, 0.5, 0.0)
    assert data.count(scale) == 1
    path.write_bytes(data.replace(scale, struct.pack("<ddd", value, value, 0.0)))
    found = read_image(path)
    assert (found.crs, found.transform, found.gsd_m) == (None, None, None)
