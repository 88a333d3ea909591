"""Files that ask a decoder for more than it should give; each is refused from its header, in no time."""

from __future__ import annotations

import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
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
        ([page(t270=(2, b"x" * (1 << 26)))], "has a tag .270. of 64 MB, at most 32 MB"),
        ([page(t42112=(2, b"<GDALMetadata>" + ITEMS + b"</GDALMetadata>\0"))], "of metadata, at most 256 kB"),
    ],
    ids=["pixels", "height", "bands", "tile", "strip", "ratio", "pages", "tags", "text", "metadata"],
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


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address that nobody may ask."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")  # nobody answers either
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("kind", ["a.tif", "a.png", "a.jpg", "deep.png"])
def test_files_beside_an_image_lead_nowhere(tmp_path: Path, kind: str, address: str) -> None:
    """GDAL takes ``.msk`` and ``.ovr`` of any of its formats, some of which name files or addresses themselves."""
    path = tmp_path / kind
    if kind == "a.tif":
        save_tif(path, rgb().transpose(2, 0, 1))
    elif kind == "deep.png":
        save(path, rgb()[:, :, 0].astype(np.uint16) * 200 + 1)
    else:
        save(path, rgb())
    service = f"<GDAL_WMTS><GetCapabilitiesUrl>{address}/{{}}</GetCapabilitiesUrl></GDAL_WMTS>"
    for suffix in (".msk", ".ovr"):
        (tmp_path / f"{kind}{suffix}").write_text(service.format(suffix))
    (tmp_path / f"{kind}.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/{address}/overview</MDI></Metadata>'
        "<SRS>EPSG:32633</SRS><GeoTransform>5e5,0.5,0,5.2e6,0,-0.5</GeoTransform></PAMDataset>"
    )
    found = read_image(path)
    assert found.nodata is None and found.gsd_m == pytest.approx(0.5, rel=1e-2)
    if kind == "deep.png":
        read_mask(path)


def test_a_mask_file_beside_an_image_opens_no_other_file(tmp_path: Path) -> None:
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


def test_virtual_formats_called_tif_or_png_are_not_read(tmp_path: Path, address: str) -> None:
    for name in ("a.tif", "a.png", "a.jpg"):
        for text in (
            f"<GDAL_WMTS><GetCapabilitiesUrl>{address}/x</GetCapabilitiesUrl></GDAL_WMTS>",
            f'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f"<SourceFilename>/vsicurl/{address}/y</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
        ):
            (tmp_path / name).write_text(text)
            (tmp_path / f"{name}.aux.xml").write_text("<PAMDataset/>")
            for read in (read_image, read_mask):
                with pytest.raises(SceneError, match="cannot be read"):
                    read(tmp_path / name)


def test_a_name_with_a_prefix_of_gdal_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``GTIFF_DIR:1:x.tif`` is the first page of another file, where the folder is given as a relative one."""
    other, own = rgb(), 255 - rgb()
    save_tif(tmp_path / "a.tif", other.transpose(2, 0, 1))
    monkeypatch.chdir(tmp_path)
    for name in (Path("GTIFF_DIR:1:a.tif"), Path("GTIFF_DIR:1:.") / "a.tif"):
        name.parent.mkdir(exist_ok=True)
        save_tif(tmp_path / "b.tif", own.transpose(2, 0, 1)).rename(name)
        assert np.array_equal(read_image(name).image, own)


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
