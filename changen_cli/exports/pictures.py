"""Opening pictures nobody vouches for."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

_FORMATS = ("PNG", "TIFF", "JPEG")


@contextmanager
def open_picture(source: Path | bytes) -> Iterator[Image.Image]:
    """Open a picture, of the formats datasets use only.

    Left to choose by content, Pillow would run Ghostscript for a ``.png`` that is PostScript, and its rarer decoders.
    Hostile bytes make decoders raise almost anything, so that all of it becomes one error.

    Args:
        source: A file, or its bytes.

    Raises:
        ValueError: It cannot be decoded, or is larger than any image of a dataset.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
            picture.load()
    except Exception as error:
        shown = str(error).replace(str(source), "") if isinstance(source, Path) else str(error)
        raise ValueError(" ".join(shown.split())[:160] or type(error).__name__) from error
    with picture:
        yield picture
