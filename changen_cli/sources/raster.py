"""Decode one image or mask file: PNG and JPEG with Pillow, everything georeferenced or 16-bit with GDAL.

Orientation tags (EXIF) are ignored on purpose: a mask drawn on the stored pixels would no longer fit a turned image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp, MaskFlags

from changen_cli.core.errors import SceneError
from changen_cli.core.types import BoolArray, GeoTransform, UInt8Array
from changen_cli.sources import bounds
from changen_cli.sources.georeference import NOT_PLACED, ground_sampling_distance, is_placed

_PERCENTILES = (2.0, 98.0)
_SAMPLE_PX = 4_000_000
"""Percentiles are taken on a regular subsample of about this many pixels, so that they cost no memory."""
_EMPTY_PX = 1024
"""Zeros inside the image are missing data where more of them are connected; fewer are dark ground."""
_BLOCK_ROWS = 1024
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_LFS_POINTER = b"version https://git-lfs"


class BandsError(SceneError):
    """The file has fewer bands than were asked for."""


@dataclass(frozen=True, eq=False)
class Raster:
    """One decoded image.

    Attributes:
        image: uint8 ``[H, W, 3]``, RGB.
        nodata: bool ``[H, W]``, True where the file has no image content; None when it has content everywhere.
        crs: Reference system as WKT, or None.
        transform: Geotransform; None exactly when ``crs`` is.
        gsd_m: Metres per pixel, or None.
        notes: ``bands`` (used and left out, 1-based), ``stretch`` and ``georeference`` (why there is none), where they
            apply.
    """

    image: UInt8Array
    nodata: BoolArray | None = None
    crs: str | None = None
    transform: GeoTransform | None = None
    gsd_m: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def read_image(path: Path, bands: tuple[int, ...] | None = None) -> Raster:
    """Read an image as 8-bit RGB with its georeference.

    Bands: by default those tagged red, green and blue, else the first three; of two bands the first; one band is
    repeated. Depth: 8-bit values are kept; anything else is stretched, each band on its own, from its 2nd to its 98th
    percentile over the whole file (so that tiles of one scene match), ignoring pixels without data.

    Args:
        path: A PNG, JPEG or TIFF file.
        bands: One or three 1-based band numbers, in the order red, green, blue.

    Raises:
        BandsError: The file lacks a band that is asked for.
        SceneError: The file is empty, truncated, too large, or no image.
    """
    if _use_gdal(path):
        return _read_gdal(path, bands)
    stored = _read_pillow(path)
    used, notes = _choose_bands(bands, stored.shape[2], None)
    nodata = None
    if stored.shape[2] in (2, 4) and _is_alpha(stored[:, :, -1]):
        nodata = _hidden(stored[:, :, -1])
        if bands is None:
            notes = {}  # leaving out alpha is no news
    image, stretched = _to_uint8(stored[:, :, [band - 1 for band in used]], nodata)
    return Raster(image, nodata, notes={**notes, **stretched})


def read_mask(path: Path) -> tuple[npt.NDArray[np.integer[Any]], int | None]:
    """Read the class ids of a mask: stored values, never colours, so a palette PNG gives its indices.

    Returns:
        ``[H, W]`` integers as stored, and the value the file declares as nodata (None when it declares none).

    Raises:
        SceneError: The file cannot be read, has more than one band, or holds values that are not whole numbers.
    """
    nodata = None
    if _use_gdal(path):
        with _decoding(), _open_gdal(path) as dataset:
            if dataset.count != 1:
                raise SceneError(_colour_mask(dataset.count))
            bounds.check_bytes(dataset.height, dataset.width, 1, np.dtype(dataset.dtypes[0]).itemsize)
            values = dataset.read(1)
            with _open_gdal(path, beside=True) as told:
                declared = told.nodata
            nodata = int(declared) if declared is not None and float(declared).is_integer() else None
    else:
        with _decoding(), Image.open(path, formats=("PNG", "JPEG")) as picture:
            bounds.check_pixels(picture.height, picture.width)
            if len(picture.getbands()) != 1:
                raise SceneError(_colour_mask(len(picture.getbands())))
            values = np.array(picture)
    if values.dtype == np.bool_:
        return values.astype(np.uint8), nodata
    if not np.issubdtype(values.dtype, np.integer):
        whole = values.astype(np.int64) if np.isfinite(values).all() else None
        if whole is None or not np.array_equal(whole, values):
            raise SceneError("the mask holds fractions; it needs whole class ids")
        values = whole
    return values, nodata


def _colour_mask(count: int) -> str:
    return f"the mask has {count} bands, a colour picture; it needs class ids in a single band"


def _use_gdal(path: Path) -> bool:
    """Whether GDAL reads this file; raises SceneError for files that are no image, or a PNG that is not whole."""
    with _decoding():
        bounds.check_regular(path)
        with path.open("rb") as file:
            head = file.read(32)
    if not head:
        raise SceneError("is empty (0 bytes)")
    if head.startswith(_LFS_POINTER):
        raise SceneError("is a Git LFS pointer, not the image: run git lfs pull")
    if head.startswith(_PNG_SIGNATURE):
        # GDAL fills the lost rows of a truncated PNG with black and reports nothing.
        with _decoding(), Image.open(path, formats=("PNG",)) as picture:
            picture.verify()
    if head.startswith(_JPEG_SIGNATURE):
        with _decoding():
            bounds.check_jpeg(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        return True
    if path.with_name(f"{path.name}.aux.xml").is_file():  # GDAL's sidecar may hold a georeference
        return True
    # Pillow cuts 16-bit colour to its high byte, which turns the usual 11-bit satellite image black.
    return head.startswith(_PNG_SIGNATURE) and head[24:25] == b"\x10"


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever a decoder raises into a SceneError, and its warnings into silence.

    Decoders meet hostile bytes and raise almost anything (OSError, SyntaxError, struct.error, zlib.error, …), so this
    is the one place that catches everything: one broken file must never end a run over a million of them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SceneError:
        raise
    except Image.DecompressionBombError as error:
        raise SceneError(f"is too large: more than {bounds.MAX_PIXELS // 10**6} million pixels") from error
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise SceneError(f"cannot be read: {reason[:200]}") from error


def _read_pillow(path: Path) -> npt.NDArray[Any]:
    """Return ``[H, W, C]`` with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha)."""
    # Formats are named so that a file called .png never reaches one of Pillow's rarer decoders.
    with _decoding(), Image.open(path, formats=("PNG", "JPEG")) as picture:
        bounds.check_pixels(picture.height, picture.width)
        transparent = "transparency" in picture.info
        if picture.mode in ("P", "PA"):
            pixels = np.array(picture.convert("RGBA" if transparent or picture.mode == "PA" else "RGB"))
            if pixels.shape[2] == 4:  # the alpha of a palette has many values at soft edges, but is never measured
                pixels[:, :, 3] = np.where(pixels[:, :, 3] > 0, 255, 0)
        elif picture.mode in ("RGB", "L") and transparent:
            pixels = np.array(picture.convert("RGBA" if picture.mode == "RGB" else "LA"))
        elif picture.mode in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I", "F"):
            pixels = np.array(picture)
        else:  # 1-bit, CMYK, YCbCr, LAB, …
            pixels = np.array(picture.convert("RGB"))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


@contextmanager
def _open_gdal(path: Path, *, beside: bool = False) -> Iterator[Any]:
    """Open a file with GDAL.

    Args:
        path: The file.
        beside: Whether to look for a georeference in the files beside it. Pixels are never read from what was opened
            so: GDAL would open a mask beside it with any of its formats, and some of these lead to other files, and
            to addresses on the network.
    """
    # The driver is fixed for the same reason. It follows the content, as map tiles are often PNGs called .tif, with
    # their georeference in .tif.aux.xml.
    with path.open("rb") as file:
        head = file.read(len(_PNG_SIGNATURE))
    driver = "PNG" if head == _PNG_SIGNATURE else "JPEG" if head.startswith(_JPEG_SIGNATURE) else "GTiff"
    if driver == "GTiff":
        bounds.check_tiff(path)
    bounds.check_sidecars(path)
    # Relative, a name could begin with one of GDAL's prefixes, such as GTIFF_DIR:1:, and be that of another file.
    where = Path(os.path.abspath(path))
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE" if beside else "EMPTY_DIR"),
        rasterio.open(where, driver=driver) as dataset,
    ):
        bounds.check_pixels(dataset.height, dataset.width)
        yield dataset


def _read_gdal(path: Path, bands: tuple[int, ...] | None) -> Raster:
    with _decoding(), _open_gdal(path) as dataset, _open_gdal(path, beside=True) as told:
        if any(np.issubdtype(np.dtype(kind), np.complexfloating) for kind in dataset.dtypes):
            raise SceneError("holds complex numbers, not an image")
        alpha, nodata = _alpha(dataset)
        used: tuple[int, ...] = (1,)
        notes: dict[str, Any] = {}
        colours = dataset.colorinterp
        if bands is None and dataset.count == 1 and colours[0] == ColorInterp.palette:
            pixels = _palette(dataset)
        else:
            used, notes = _choose_bands(bands, dataset.count, colours, alpha)
            itemsize = max(np.dtype(dataset.dtypes[band - 1]).itemsize for band in used)
            bounds.check_bytes(dataset.height, dataset.width, len(used), itemsize)
            pixels = np.moveaxis(dataset.read(list(used)), 0, 2)
        nodata = _merge(nodata, _declared_nodata(told, pixels, used))
        nodata = _merge(nodata, _internal_mask(dataset, used[0]))
        crs = told.crs
        if crs and not is_placed(told.transform):
            crs, notes = None, {**notes, "georeference": {"not_used": NOT_PLACED}}
        transform: GeoTransform | None = None
        gsd_m = None
        if crs:
            t = told.transform
            transform = (t.a, t.b, t.c, t.d, t.e, t.f)
            gsd_m = ground_sampling_distance(crs, transform, dataset.shape)
    if pixels.dtype != np.uint8 and alpha is None:
        # Black borders without a nodata tag are the rule in 16-bit mosaics.
        nodata = _merge(nodata, _empty((pixels == 0).all(axis=2)))
    image, stretched = _to_uint8(pixels, nodata)
    nodata = nodata if nodata is not None and nodata.any() else None
    return Raster(image, nodata, crs.to_wkt() if crs else None, transform, gsd_m, {**notes, **stretched})


def _alpha(dataset: Any) -> tuple[int | None, BoolArray | None]:
    """Find the alpha band (1-based) and the pixels it hides."""
    for band, colour in enumerate(dataset.colorinterp, start=1):
        if colour == ColorInterp.alpha and dataset.count > 1:
            values = dataset.read(band)
            if _is_alpha(values):
                return band, _hidden(values)
    return None, None


def _is_alpha(values: npt.NDArray[Any]) -> bool:
    """Whether a band that stands in the place of alpha is one: it holds 0 and one other value at most.

    One with many different values is a measured band in disguise: the near infrared of four-band aerial imagery is
    often tagged so, and its zeros are water, not missing data.
    """
    return bool(((values == 0) | (values == values.max())).all())


def _hidden(alpha: npt.NDArray[Any]) -> BoolArray | None:
    """The pixels an alpha band hides; one that would hide everything, or hides nothing, gives None."""
    hidden: BoolArray = alpha == 0
    return hidden if hidden.any() and not hidden.all() else None


def _empty(zero: BoolArray) -> BoolArray | None:
    """Of the pixels that are 0 in all bands, those without image content: black borders and large holes.

    Deep shadow and water are 0 in places too, so a component of zeros counts only if it has more than one pixel and
    touches the border, or is large.
    """
    if not zero.any():
        return None
    from scipy import ndimage

    labels = np.empty(zero.shape, dtype=np.int32)
    count: int = ndimage.label(zero, structure=np.ones((3, 3), dtype=np.uint8), output=labels)  # type: ignore[attr-defined]
    sizes = np.zeros(count + 1, dtype=np.int64)
    for row in range(0, len(labels), _BLOCK_ROWS):  # in blocks: counting converts to 64 bits
        sizes += np.bincount(labels[row : row + _BLOCK_ROWS].ravel(), minlength=count + 1)
    at_border = np.zeros(count + 1, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_border[edge] = True
    empty = (at_border & (sizes > 1)) | (sizes > _EMPTY_PX)
    empty[0] = False
    return np.asarray(empty[labels])


def _declared_nodata(dataset: Any, pixels: npt.NDArray[Any], used: tuple[int, ...]) -> BoolArray | None:
    missing: BoolArray | None = None
    declared = [dataset.nodatavals[band - 1] for band in used]
    if dataset.colorinterp[0] != ColorInterp.palette and all(value is not None for value in declared):
        # All bands, not any: a single saturated or black band is image content.
        missing = (pixels == np.asarray(declared)).all(axis=2)
    if np.issubdtype(pixels.dtype, np.floating):
        missing = _merge(missing, ~np.isfinite(pixels).all(axis=2))
    return missing


def _internal_mask(dataset: Any, band: int) -> BoolArray | None:
    flags = dataset.mask_flag_enums[band - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(dataset.read_masks(band) == 0)
    return None


def _merge(first: BoolArray | None, second: BoolArray | None) -> BoolArray | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _palette(dataset: Any) -> UInt8Array:
    table = np.zeros((65536, 3), dtype=np.uint8)
    for value, colour in dataset.colormap(1).items():
        table[value] = colour[:3]
    return np.asarray(table[dataset.read(1)])


def _choose_bands(
    bands: tuple[int, ...] | None, count: int, colours: tuple[ColorInterp, ...] | None, alpha: int | None = None
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return the 1-based bands to use and the note about them (empty when the file is plain RGB)."""
    if bands is not None:
        if max(bands) > count:
            raise BandsError(
                f"has {count} band{'s' * (count != 1)}, but band {max(bands)} is asked for: change --bands"
            )
        used = bands
    else:
        colour_of = {colour: band for band, colour in reversed(list(enumerate(colours or (), start=1)))}
        rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        plain = [band for band in range(1, count + 1) if band != alpha]
        if all(colour in colour_of for colour in rgb):
            used = tuple(colour_of[colour] for colour in rgb)
        else:
            used = tuple(plain[:3]) if len(plain) >= 3 else (plain[0],)
    left_out = [band for band in range(1, count + 1) if band not in used]
    if used == (1, 2, 3) and not left_out:
        return used, {}
    return used, {"bands": {"used": list(used), "left_out": left_out}}


def _to_uint8(pixels: npt.NDArray[Any], nodata: BoolArray | None) -> tuple[UInt8Array, dict[str, Any]]:
    """Return uint8 ``[H, W, 3]`` of ``[H, W, 1 or 3]`` pixels, and the note of the stretch if there was one."""
    notes: dict[str, Any] = {}
    if pixels.dtype != np.uint8:
        stride = max(1, round((pixels.shape[0] * pixels.shape[1] / _SAMPLE_PX) ** 0.5))
        sample = pixels[::stride, ::stride]
        valid = np.isfinite(sample)
        if nodata is not None:
            valid &= ~nodata[::stride, ::stride, None]
        result = np.zeros(pixels.shape, dtype=np.uint8)
        limits: dict[Literal["low", "high"], list[float]] = {"low": [], "high": []}
        for band in range(pixels.shape[2]):
            known = sample[:, :, band][valid[:, :, band]]
            low, high = np.percentile(known.astype(np.float64), _PERCENTILES).tolist() if known.size else (0.0, 0.0)
            span = high - low if high > low else 1.0
            scaled = (np.nan_to_num(pixels[:, :, band].astype(np.float32)) - low) * (255.0 / span)
            result[:, :, band] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
            limits["low"].append(low)
            limits["high"].append(high)
        if nodata is not None:
            result[nodata] = 0
        notes = {"stretch": {"method": "2-98 percentile per band of the whole image", **limits}}
        pixels = result
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels), notes
