"""Content that may be anything, whoever wrote it: pixels, logs, rows; or one line that says why it cannot be read."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core import untrusted
from changen_cli.core.errors import OutputError
from changen_cli.exports.findings import one_line

Row = dict[str, Any]
"""One row of a table, or one event."""
Pixels = npt.NDArray[Any]
"""``[H, W]`` or ``[H, W, channels]``, as stored."""
MAX_DATES = 65
"""Dates of the longest series a recipe can ask for."""
_FORMATS = ("PNG", "TIFF", "JPEG")
_MAX_TIFF_BYTES = 1 << 31


def decode(source: Path | bytes) -> tuple[str, Pixels]:
    """Pillow's name for the mode of an image file, and its pixels.

    Left to choose by content, Pillow would run Ghostscript for a ``.png`` that is PostScript.

    Raises:
        ValueError: It cannot be decoded, or is larger than any image of a dataset; in one line.
    """
    from PIL import Image

    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ValueError("is no file but a folder, a pipe or a device")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS) as picture:
                return picture.mode, np.array(picture)
    except Exception as error:  # decoders raise whatever they run into
        raise ValueError(one_line(error, source if isinstance(source, Path) else None)) from None


@contextmanager
def open_geotiff(path: Path) -> Iterator[Any]:
    """Open a GeoTIFF by itself: of the files beside it, GDAL would take some for parts of it, whatever they are.

    Raises:
        RasterioError: It is none, or larger than any image of a dataset.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(Path(os.path.abspath(path)), driver="GTiff") as source:
            sizes = [np.dtype(kind).itemsize for kind in source.dtypes]
            if source.width * source.height * sum(sizes) > _MAX_TIFF_BYTES:
                raise RasterioIOError(f"is too large: {len(sizes)} bands of {source.height} × {source.width} px")
            yield source


def read_lines(table: Path) -> Iterator[Row]:
    """The rows of ``metadata.jsonl``.

    Raises:
        ValueError: One is no JSON object, in one line.
    """
    for number, line in enumerate(untrusted.read_lines(table), 1):
        try:
            row = untrusted.parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no row: {line.strip()[:40]!r}")
        yield row


def identified(row: Row) -> Row:
    """Return a row, which has what every use of it needs; its names may become those of files and folders.

    Raises:
        ValueError: They may not.
        KeyError: One is missing.
    """
    for key in ("image_name", "split"):
        if not untrusted.is_plain_name(row[key]):
            raise ValueError(f"{key} {str(row[key])[:80]!r} cannot be the name of a file")
    if type(row["dates"]) is not int or not 1 < row["dates"] <= MAX_DATES:
        raise ValueError(f"{row['image_name']}: a series has 2 to {MAX_DATES} dates, not {str(row['dates'])[:20]}")
    if not isinstance(row["group"], str):
        raise ValueError(f"{row['image_name']}: its group is no text")
    return row


def read_cells(shard: Path, batch_rows: int, without: Sequence[str] = (), *, pixels: bool = True) -> Iterator[Row]:
    """The rows of a Parquet file, a few at a time.

    Args:
        shard: The file.
        batch_rows: How many are in memory.
        without: Columns to leave out.
        pixels: Whether to read images and masks.
    """
    file = open_shard(shard)
    names = [n for n in file.schema_arrow.names if n not in without and (pixels or not holds_pixels(n))]
    for batch in file.iter_batches(batch_rows, columns=names):
        yield from batch.to_pylist()


def open_shard(path: Path) -> Any:
    """Open a Parquet file so that only what is asked for is in memory."""
    import pyarrow.parquet as pq

    # Buffered ahead, as pyarrow does by itself, the whole file would be.
    return pq.ParquetFile(path, pre_buffer=False)


def holds_pixels(column: str) -> bool:
    """Whether a column of the master layout holds images or masks."""
    return column.startswith("change_mask") or column.endswith(("_image", "_mask", "_instances"))


def parse_log(text: str) -> list[Row]:
    """The events of a log: JSON Lines, or a JSON array.

    Raises:
        OutputError: One is no JSON object.
    """
    try:
        events = (
            untrusted.parse_json(text)
            if text.startswith("[")
            else [untrusted.parse_json(line) for line in text.splitlines()]
        )
    except ValueError as error:
        raise OutputError(f"the event log is no JSON: {error}") from None
    if not all(isinstance(event, dict) for event in events):
        raise OutputError("the event log holds something that is no event")
    return list(events)


def parse_objects(text: str) -> dict[int, str]:
    """Number → object id, of the table of a sample's objects.

    Raises:
        OutputError: It is no such JSON object.
    """
    try:
        return {int(number): str(name) for number, name in untrusted.parse_json(text).items()}
    except (ValueError, AttributeError) as error:
        raise OutputError(f"the table of objects is no JSON object of numbers: {error}") from None
