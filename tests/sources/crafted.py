"""TIFF files that no tool writes: every tag is free to lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

AT, LENGTH = "at", "length"
"""Stand for where a page's pixels lie, and how many bytes they are."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 12: 8, 16: 8}

Page = dict[int, tuple[int, Any]]


def page(width: int = 8, height: int = 8, bands: int = 1, data: bytes | None = None, **tags: Any) -> Page:
    """Tag → (type, values) of an uncompressed 8-bit image; ``t<number>`` replaces a tag, None leaves it out."""
    found: dict[int, Any] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8] * min(bands, 60_000)), 259: (3, [1]), 262: (3, [1]),
        273: (4, [AT]), 277: (3, [bands]), 278: (4, [height]), 279: (4, [LENGTH]),
        0: (1, bytes(width * height * bands) if data is None else data),
    }  # fmt: skip
    found.update({int(name[1:]): value for name, value in tags.items()})
    return {tag: value for tag, value in found.items() if value is not None}


def write_tiff(path: Path, *pages: Page, loop: bool = False) -> Path:
    """Write a little-endian classic TIFF."""
    out = bytearray(b"II*\0\x08\0\0\0")
    for number, given in enumerate(pages):
        data = given.get(0, (1, b""))[1]
        tags = sorted((tag, value) for tag, value in given.items() if tag)
        values_at = len(out) + 6 + 12 * len(tags)
        long = {tag: len(values) * _SIZES[kind] for tag, (kind, values) in tags if len(values) * _SIZES[kind] > 4}
        known = {AT: values_at + sum(long.values()), LENGTH: len(data)}
        entries, extra = bytearray(), bytearray()
        for tag, (kind, values) in tags:
            size = _SIZES[kind]
            raw = (
                values
                if isinstance(values, bytes)
                else b"".join(known.get(v, v).to_bytes(size, "little") for v in values)
            )
            entries += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + len(values).to_bytes(4, "little")
            entries += (values_at + len(extra)).to_bytes(4, "little") if tag in long else raw.ljust(4, b"\0")
            extra += raw if tag in long else b""
        end = known[AT] + len(data)
        following = end if number < len(pages) - 1 else 8 if loop else 0
        out += len(tags).to_bytes(2, "little") + entries + following.to_bytes(4, "little") + extra + data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return path
