"""Image files of exports: as they are where the reader takes them, else encoded anew without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from changen_cli.core.types import UInt8Array
from changen_cli.exports.master import Stored

_LEVEL = 1  # higher levels cost twice the time and save nothing on aerial images


def save_png(array: UInt8Array, target: Path) -> None:
    """Write uint8 ``[H, W]`` (mode L) or ``[H, W, 3]`` (RGB) as PNG."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(target, "PNG", compress_level=_LEVEL)


def put_rgb_png(image: Stored, target: Path) -> None:
    """Make ``target`` a PNG of an image: a hard link where it is one, else decoded and encoded."""
    if image.suffix == ".png":
        image.put(target)
    else:
        save_png(image.array(), target)
