"""What a raster file claims about itself, checked from its header before a decoder believes it.

A few hundred bytes can ask a decoder for gigabytes or for hours. TIFF is the format that lets them: tiles of any size,
any number of bands, pages and tags. Its directories are read here, with nothing but ``struct``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from changen_cli.core.errors import SceneError

MAX_PIXELS = 170_000_000
"""Larger files are refused from their header, before anything is decoded. Below Pillow's own hard limit."""
MAX_BYTES = 1 << 31
"""Decoded size of the bands that are used; those of the largest image in 32 bits fit."""
MAX_BANDS = 4096
MAX_PAGES = 256
_MAX_TAGS = 1024
_MAX_TAG = 1 << 25
"""Descriptions and colour profiles are decoded several times over."""
_MAX_TEXT = 1 << 18
"""GDAL's time to take up the metadata of a file grows with its square; for so much it takes half a second."""
_MAX_RATIO = 100
"""An image that is larger than :data:`MAX_BYTES` with all its bands must be at least a hundredth of that on disk."""
_SMALL_BLOCK = 1 << 26
_MAX_SIDECAR = 1 << 18
_MAX_XML = 1 << 24
"""What satellites come with has up to a few megabytes."""
_MAX_SCANS = 100
_READ = 1 << 20

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS, _PLANAR, _TILE_W, _TILE_H = 256, 257, 258, 277, 278, 284, 322, 323
_PLAIN = {_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS, _PLANAR, _TILE_W, _TILE_H}
_GDAL_METADATA = 42112
_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def check_regular(path: Path) -> None:
    """Raise SceneError for what is no file: reading a pipe never ends, nor does a device.

    Links are followed, as everywhere in an input folder.
    """
    if not path.exists():
        raise SceneError("does not exist (a broken link?)")
    if not path.is_file():
        raise SceneError("is no file but a folder, a pipe or a device")


def check_pixels(height: int, width: int) -> None:
    """Raise SceneError for more than :data:`MAX_PIXELS`."""
    if height * width > MAX_PIXELS:
        raise SceneError(f"is too large: {height}×{width} px, at most {MAX_PIXELS // 10**6} million pixels are read")


def check_bytes(height: int, width: int, bands: int, itemsize: int) -> None:
    """Raise SceneError for more than :data:`MAX_BYTES`, decoded."""
    size = height * width * bands * itemsize
    if size > MAX_BYTES:
        raise SceneError(
            f"is too large: {bands} bands of {height}×{width} px are {size / 1e9:.1f} GB, "
            f"at most {MAX_BYTES / 1e9:.1f} GB are read: tile it"
        )


def check_sidecars(path: Path) -> None:
    """Raise SceneError when one of the files beside an image that GDAL reads as a whole is larger than it need be."""
    for name, limit in (
        (f"{path.name}.aux.xml", _MAX_SIDECAR),
        *((f"{path.stem}.{suffix}", _MAX_XML) for suffix in ("xml", "XML")),
    ):
        beside = path.with_name(name)
        if not beside.exists():
            continue
        check_regular(beside)
        if beside.stat().st_size > limit:
            raise SceneError(f"its {name} is larger than {limit >> 10} kB: remove it")


def check_jpeg(path: Path) -> None:
    """Raise SceneError for a JPEG of so many scans that decoding it takes hours.

    In pixel data ``FF`` is always followed by ``00`` or a restart marker, so ``FF DA`` begins a scan, here or in a
    thumbnail.
    """
    scans, last = 0, b""
    with path.open("rb") as file:
        while block := file.read(_READ):
            scans += (last + block).count(b"\xff\xda")
            last = block[-1:] if block[-1:] == b"\xff" else b""
            if scans > _MAX_SCANS:
                raise SceneError(f"has more than {_MAX_SCANS} scans, which no camera or tool writes: save it again")


def check_tiff(path: Path) -> None:
    """Check the directories of a TIFF or BigTIFF; nothing is decoded, and a few kilobytes are read.

    Raises:
        SceneError: It is no whole TIFF, or claims what no image has.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for page, tags in enumerate(_pages(file, size)):
            if page == MAX_PAGES:
                raise SceneError(f"has more than {MAX_PAGES} pages or overviews: keep the first page only")
            _check_page(tags, size)


def _check_page(tags: dict[int, int], size: int) -> None:
    width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
    check_pixels(height, width)
    bands = tags.get(_SAMPLES, 1)
    if bands > MAX_BANDS:
        raise SceneError(f"has {bands} bands, at most {MAX_BANDS} are read")
    mixed = bands if tags.get(_PLANAR, 1) == 1 else 1  # bands that lie in one block
    pixel_bits = mixed * tags.get(_BITS, 1)
    block_w = tags.get(_TILE_W, width)
    block_h = tags[_TILE_H] if _TILE_H in tags else min(tags.get(_ROWS, height), height)
    block, whole = block_w * block_h * pixel_bits // 8, width * height * pixel_bits // 8
    if block > max(_SMALL_BLOCK, min(whole, MAX_BYTES)):
        raise SceneError(
            f"has blocks of {block_h}×{block_w} px with {mixed} band{'s' * (mixed > 1)}, far larger than it needs: "
            "save it with smaller ones"
        )
    if whole > max(MAX_BYTES, _MAX_RATIO * size):
        raise SceneError(
            f"claims {whole / 1e9:.1f} GB of pixels in a file of {size / 1e6:.1f} MB: save it again, or tile it"
        )


def _pages(file: BinaryIO, size: int) -> Iterator[dict[int, int]]:
    """Yield the first value of the plain tags of every directory.

    Raises:
        SceneError: The chain of directories is broken.
    """
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else 0
    if version not in (42, 43):
        raise SceneError("cannot be read: is no TIFF")
    # Classic: 4-byte offsets, entries of 12 bytes; BigTIFF: 8-byte offsets, entries of 20 bytes.
    count_as, entry_as, next_as = ("H", "HHI4s", "I") if version == 42 else ("Q", "HHQ8s", "Q")
    offset = struct.unpack(f"{order}{next_as}", head[4:8] if version == 42 else head[8:16])[0]
    seen: set[int] = set()
    while offset and offset not in seen:  # decoders end a loop where it closes
        seen.add(offset)
        file.seek(min(offset, size))
        count = _unpack(file, f"{order}{count_as}")[0]
        if count > _MAX_TAGS:
            raise SceneError(f"has {count} tags in one page, at most {_MAX_TAGS} are read")
        entries = [_unpack(file, f"{order}{entry_as}") for _ in range(count)]
        offset = _unpack(file, f"{order}{next_as}")[0]
        yield _values(file, order or "<", entries, size)


def _values(file: BinaryIO, order: str, entries: list[tuple[Any, ...]], size: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for tag, kind, count, raw in entries:
        length = count * _UNIT.get(kind, 1)
        if length > size and length > len(raw):
            raise SceneError(f"cannot be read: tag {tag} claims more bytes than the file has")
        if length > _MAX_TAG:
            raise SceneError(f"has a tag ({tag}) of {length >> 20} MB, at most {_MAX_TAG >> 20} MB are read: remove it")
        if length > _MAX_TEXT and tag == _GDAL_METADATA:
            raise SceneError(f"has {length >> 10} kB of metadata, at most {_MAX_TEXT >> 10} kB are read: remove it")
        if tag not in _PLAIN or kind not in (3, 4, 16):
            continue
        code = {3: "H", 4: "I", 16: "Q"}[kind]
        if length > len(raw):
            file.seek(min(size, struct.unpack(f"{order}{'I' if len(raw) == 4 else 'Q'}", raw)[0]))
            values = _unpack(file, f"{order}{min(count, MAX_BANDS)}{code}")
        else:
            values = struct.unpack_from(f"{order}{count}{code}", raw)
        if values:
            found[tag] = max(values)
    return found


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    data = file.read(struct.calcsize(form))
    if len(data) != struct.calcsize(form):
        raise SceneError("cannot be read: a directory ends early")
    return struct.unpack(form, data)
