from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from changen_cli.core.errors import SceneError
from changen_cli.sources import bounds
from changen_cli.sources.raster import BandsError, read_image, read_mask

from .files import UTM_TRANSFORM, bomb, rgb, save, save_tif

R, G, B, A, U = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha, ColorInterp.undefined


def layers(*values: int, dtype: str = "uint8") -> np.ndarray:
    """One constant 8×8 band per value."""
    return np.stack([np.full((8, 8), value, dtype=dtype) for value in values])


def test_png_is_kept_as_it_is(tmp_path: Path) -> None:
    found = read_image(save(tmp_path / "a.png", rgb()))
    assert np.array_equal(found.image, rgb())
    assert (found.nodata, found.crs, found.transform, found.notes) == (None, None, None, {})


def test_jpeg_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees"
    Image.fromarray(rgb(16, 48)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert read_image(tmp_path / "a.jpg").image.shape == (16, 48, 3)


@pytest.mark.parametrize("name", ["zip:x", "https:", "s3:a!b", "vsizip", "a?b#c"])
def test_a_folder_is_a_folder_whatever_it_is_called(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    save_tif(tmp_path / "a.tif", layers(10, 20, 30)).rename(tmp_path / name / "a.tif")
    monkeypatch.chdir(tmp_path)
    assert tuple(read_image(Path(name) / "a.tif").image[0, 0]) == (10, 20, 30)


def test_grey_palette_and_bilevel_become_rgb(tmp_path: Path) -> None:
    grey = rgb()[:, :, 0]
    assert np.array_equal(read_image(save(tmp_path / "l.png", grey)).image, np.stack([grey] * 3, axis=2))
    palette = Image.fromarray(np.full((4, 4), 7, dtype=np.uint8), mode="P")
    palette.putpalette([0] * 21 + [10, 20, 30])
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").image[0, 0].tolist() == [10, 20, 30]
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "1.png")
    assert read_image(tmp_path / "1.png").image[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("channels", [2, 4])
def test_transparent_pixels_have_no_data(tmp_path: Path, channels: int) -> None:
    pixels = np.full((4, 4, channels), 90, dtype=np.uint8)
    pixels[0, 0, -1] = 0
    found = read_image(save(tmp_path / "a.png", pixels))
    assert found.nodata is not None
    assert np.argwhere(found.nodata).tolist() == [[0, 0]]
    assert found.image.shape == (4, 4, 3)
    assert (found.image[1, 1] == 90).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_a_measured_band_in_the_place_of_alpha_hides_nothing(tmp_path: Path, channels: int) -> None:
    pixels = np.full((8, 8, channels), 90, dtype=np.uint8)
    pixels[:, :, -1] = np.arange(64).reshape(8, 8)
    pixels[:4, :, -1] = 0
    found = read_image(save(tmp_path / "a.png", pixels))
    assert found.nodata is None
    assert (found.image == 90).all()
    assert found.notes["bands"] == {"used": list(range(1, channels)), "left_out": [channels]}
    pixels[:, :, -1] = 0  # would hide everything
    assert read_image(save(tmp_path / "b.png", pixels)).nodata is None


def test_soft_edges_of_a_palette_still_hide(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1], [2, 2]], dtype=np.uint8), mode="P")
    palette.putpalette([9] * 9)
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128, 255]))
    found = read_image(tmp_path / "p.png")
    assert found.nodata is not None
    assert found.nodata.tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("colour", [False, True])
def test_16_bit_png_is_stretched_not_cut_to_its_high_byte(tmp_path: Path, colour: bool) -> None:
    values = np.linspace(100, 1800, 64 * 64).reshape(64, 64).astype(np.uint16)
    path = tmp_path / "a.png"
    if colour:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path, "w", driver="PNG", width=64, height=64, count=3, dtype="uint16") as dataset:
                dataset.write(np.stack([values] * 3))
    else:
        Image.fromarray(values).save(path)
    found = read_image(path)
    assert (found.image.min(), found.image.max()) == (0, 255)
    assert found.notes["stretch"]["low"][0] == pytest.approx(134, abs=2)
    assert found.notes["stretch"]["high"][-1] == pytest.approx(1766, abs=2)


def test_bands_by_their_tags(tmp_path: Path) -> None:
    path = save_tif(tmp_path / "a.tif", layers(1, 2, 3, 4), colorinterp=[B, G, R, U])
    found = read_image(path)
    assert found.image[0, 0].tolist() == [3, 2, 1]
    assert found.notes["bands"] == {"used": [3, 2, 1], "left_out": [4]}


def test_bands_asked_for(tmp_path: Path) -> None:
    path = save_tif(tmp_path / "a.tif", layers(1, 2, 3, 4, 5), photometric="minisblack")
    assert read_image(path).notes["bands"] == {"used": [1, 2, 3], "left_out": [4, 5]}
    found = read_image(path, (4, 3, 2))
    assert found.image[0, 0].tolist() == [4, 3, 2]
    assert found.notes["bands"] == {"used": [4, 3, 2], "left_out": [1, 5]}
    assert read_image(path, (5,)).image[0, 0].tolist() == [5, 5, 5]
    with pytest.raises(BandsError, match="has 5 bands, but band 6"):
        read_image(path, (6, 3, 2))


def test_one_and_two_bands(tmp_path: Path) -> None:
    assert read_image(save_tif(tmp_path / "1.tif", layers(9))).image[0, 0].tolist() == [9, 9, 9]
    two = read_image(save_tif(tmp_path / "2.tif", layers(9, 7), photometric="minisblack"))
    assert two.image[0, 0].tolist() == [9, 9, 9]
    assert two.notes["bands"] == {"used": [1], "left_out": [2]}


def test_alpha_band_hides_pixels_but_infrared_tagged_alpha_does_not(tmp_path: Path) -> None:
    bands = layers(50, 60, 70, 255)
    bands[3, 0, :] = 0
    real = read_image(save_tif(tmp_path / "a.tif", bands, colorinterp=[R, G, B, A]))
    assert real.nodata is not None
    assert real.nodata.sum() == 8
    bands[3] = np.arange(64).reshape(8, 8)
    infrared = read_image(save_tif(tmp_path / "b.tif", bands, colorinterp=[R, G, B, A]))
    assert infrared.nodata is None
    assert infrared.notes["bands"]["left_out"] == [4]


def test_nodata_needs_all_bands(tmp_path: Path) -> None:
    bands = layers(50, 60, 70)
    bands[:, 0, 0] = 0
    bands[0, 5, 5] = 0
    found = read_image(save_tif(tmp_path / "a.tif", bands, nodata=0))
    assert found.nodata is not None
    assert np.argwhere(found.nodata).tolist() == [[0, 0]]
    assert read_image(save_tif(tmp_path / "b.tif", bands)).nodata is None


def test_uint16_stretch_ignores_the_black_strip(tmp_path: Path) -> None:
    bands = np.stack([np.linspace(low, low + 1000, 4096).reshape(64, 64) for low in (200, 400, 600)]).astype(np.uint16)
    bands[:, :, :32] = 0
    found = read_image(save_tif(tmp_path / "a.tif", bands))
    assert found.nodata is not None
    assert found.nodata[:, :32].all()
    assert not found.nodata[:, 32:].any()
    assert found.notes["stretch"]["low"] == pytest.approx([227, 427, 627], abs=4)
    assert (found.image[:, :32] == 0).all()
    assert found.image[63, 63].tolist() == [255, 255, 255]
    assert found.image[32, 33, 0] == found.image[32, 33, 2]  # each band on its own


@pytest.mark.parametrize("kind", ["uint16", "float32"])
@pytest.mark.parametrize("count", [1, 3])
def test_zeros_are_missing_only_at_the_border_or_in_large_holes(tmp_path: Path, kind: str, count: int) -> None:
    bands = np.full((count, 96, 96), 700, dtype=kind)
    expected = np.zeros((96, 96), dtype=bool)
    expected[:, :3] = True  # border
    expected[3, 3] = True  # touches it by a corner
    expected[40:73, 40:73] = True  # 33 × 33 > 1024
    bands[:, expected] = 0
    bands[:, 10, 10] = 0  # shadow
    bands[:, 80:90, 20:30] = 0  # a pond
    bands[:, 50, 95] = 0  # one pixel at the border
    found = read_image(save_tif(tmp_path / "a.tif", bands, photometric="minisblack"))
    assert found.nodata is not None
    assert np.array_equal(found.nodata, expected)
    bands[:, expected] = 700
    assert read_image(save_tif(tmp_path / "b.tif", bands, photometric="minisblack")).nodata is None


def test_float_with_nan_and_int16_with_nodata(tmp_path: Path) -> None:
    values = np.linspace(0.1, 0.9, 192).reshape(3, 8, 8).astype(np.float32)
    values[1, 2, 3] = np.nan
    found = read_image(save_tif(tmp_path / "f.tif", values))
    assert found.nodata is not None
    assert np.argwhere(found.nodata).tolist() == [[2, 3]]
    signed = (np.arange(192).reshape(3, 8, 8) + 100).astype(np.int16)
    signed[:, 0, 0] = -9999
    found = read_image(save_tif(tmp_path / "i.tif", signed, nodata=-9999))
    assert found.notes["stretch"]["low"][0] > 100
    assert found.nodata is not None
    assert found.nodata.sum() == 1


def test_a_constant_16_bit_image_does_not_divide_by_zero(tmp_path: Path) -> None:
    assert read_image(save_tif(tmp_path / "a.tif", layers(700, 700, 700, dtype="uint16"))).image.max() == 0


def test_georeference_is_kept(tmp_path: Path) -> None:
    found = read_image(save_tif(tmp_path / "a.tif", layers(1, 2, 3)))
    assert found.crs is not None
    assert "UTM zone 33N" in found.crs
    assert found.transform == tuple(UTM_TRANSFORM)[:6]
    assert found.gsd_m == pytest.approx(0.5)


def test_a_reference_system_without_a_geotransform_is_none(tmp_path: Path) -> None:
    found = read_image(save_tif(tmp_path / "a.tif", layers(1, 2, 3), transform=Affine.identity()))
    assert (found.crs, found.transform, found.gsd_m) == (None, None, None)
    assert "not where" in found.notes["georeference"]["not_used"]


def test_png_called_tif_with_its_georeference_beside_it(tmp_path: Path) -> None:
    source = save_tif(tmp_path / "source.tif", rgb().transpose(2, 0, 1), "EPSG:4326", Affine(1e-5, 0, 15, 0, -1e-5, 60))
    with rasterio.open(source) as dataset:
        profile = {**dataset.profile, "driver": "PNG"}
        for key in ("tiled", "interleave", "blockxsize", "blockysize"):
            profile.pop(key, None)
        with rasterio.open(tmp_path / "tile.png", "w", **profile) as copy:
            copy.write(dataset.read())
    (tmp_path / "tile.png").rename(tmp_path / "tile.tif")
    (tmp_path / "tile.png.aux.xml").rename(tmp_path / "tile.tif.aux.xml")
    found = read_image(tmp_path / "tile.tif")
    assert np.array_equal(found.image, rgb())
    assert found.transform == pytest.approx((1e-5, 0, 15, 0, -1e-5, 60))
    assert found.gsd_m == pytest.approx(0.79, abs=0.01)


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("name", ["a.tif", "a.{}"])
@pytest.mark.parametrize("lost", [9, 20, 3000])
def test_every_truncation_is_noticed_by_both_decoders(tmp_path: Path, kind: str, name: str, lost: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = save(tmp_path / f"whole.{kind}", noise).read_bytes()
    path = tmp_path / name.format(kind)
    path.write_bytes(data)
    assert read_image(path).image.shape == (64, 64, 3)
    path.write_bytes(data[:-lost])
    with pytest.raises(SceneError, match="cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_broken_files_are_scene_errors(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = tmp_path / f"a.{suffix}"
    if suffix == "tif":
        save_tif(whole, noise.transpose(2, 0, 1))
    else:
        save(whole, noise)
    assert read_image(whole).image.shape == (64, 64, 3)
    data = whole.read_bytes()
    for name, content in {"cut": data[: len(data) // 2], "text": b"hello, I am no image", "empty": b""}.items():
        broken = tmp_path / f"{name}.{suffix}"
        broken.write_bytes(content)
        with pytest.raises(SceneError, match="empty" if name == "empty" else "cannot be read"):
            read_image(broken)
        with pytest.raises(SceneError):
            read_mask(broken)


def test_bombs_are_refused_from_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SceneError, match="too large"):
        read_image(bomb(tmp_path / "a.png"))
    with pytest.raises(SceneError, match="too large"):  # below Pillow's own limit, above ours
        read_image(bomb(tmp_path / "b.png", 13300, 13000))
    monkeypatch.setattr(bounds, "MAX_PIXELS", 63)
    with pytest.raises(SceneError, match="too large"):
        read_image(save_tif(tmp_path / "a.tif", layers(1, 2, 3)))


def test_lfs_pointer_and_virtual_format(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(SceneError, match="git lfs pull"):
        read_image(tmp_path / "a.png")
    inner = save_tif(tmp_path / "inner.tif", layers(1, 2, 3))
    (tmp_path / "b.tif").write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{inner}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(SceneError):
        read_image(tmp_path / "b.tif")


def test_palette_masks_give_indices(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode="P")
    mask.putpalette([255, 255, 255, 222, 31, 7, 0, 69, 255])
    mask.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png")[0].tolist() == [[0, 1], [2, 1]]


def test_mask_kinds(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "b.png", np.eye(2, dtype=bool)))[0].tolist() == [[1, 0], [0, 1]]
    assert read_mask(save(tmp_path / "16.png", np.array([[0, 300]], dtype=np.uint16)))[0].tolist() == [[0, 300]]
    assert read_mask(save_tif(tmp_path / "m.tif", layers(3), nodata=7))[1] == 7
    assert read_mask(save_tif(tmp_path / "f.tif", layers(3, dtype="float32")))[0].tolist() == layers(3)[0].tolist()
    with pytest.raises(SceneError, match="fractions"):
        read_mask(save_tif(tmp_path / "g.tif", layers(3, dtype="float32") / 2))
    with pytest.raises(SceneError, match="3 bands, a colour picture"):
        read_mask(save(tmp_path / "rgb.png", rgb()))
    with pytest.raises(SceneError, match="3 bands"):
        read_mask(save_tif(tmp_path / "rgb.tif", layers(1, 2, 3)))
