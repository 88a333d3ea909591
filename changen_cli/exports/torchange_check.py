"""Checks of a folder of Parquet shards as torchange and `datasets` read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.exports.cards import read_front
from changen_cli.exports.findings import Finding, one_line
from changen_cli.exports.layers import Layer, pixel_problems
from changen_cli.exports.reading import Pixels, decode, open_shard

IMAGES, MASKS = ("t1_image", "t2_image"), ("t1_mask", "t2_mask", "change_mask")
COLUMNS = (*IMAGES, *MASKS, "image_name")
_SHARD = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.parquet")


def check_dataset(folder: Path) -> Iterator[Finding]:
    """Check names of shards, columns, every row, and the card."""
    shards = sorted((folder / "data").glob("*.parquet"))
    if not shards:
        yield Finding("data", "holds no Parquet file", "Name the folder that holds data/<split>-00000-of-….parquet")
        return
    yield from _check_names(shards)
    rows: Counter[str] = Counter()
    names: dict[str, str] = {}
    for shard in shards:
        count = yield from _check_shard(shard, names)
        rows[shard.name.split("-")[0]] += count
    yield from _check_card(folder / "README.md", rows)


def _check_names(shards: list[Path]) -> Iterator[Finding]:
    """Shards are numbered without a gap, and all say how many there are."""
    seen: dict[str, list[tuple[int, int]]] = {}
    for shard in shards:
        match = _SHARD.fullmatch(shard.name)
        if match is None:
            message = "is not named <split>-00000-of-00001.parquet"
            yield Finding(f"data/{shard.name}", message, "Rename it, or remove what is no shard")
            continue
        seen.setdefault(match["split"], []).append((int(match["number"]), int(match["total"])))
    for split, numbers in seen.items():
        total = max(of for _, of in numbers)
        missing = sorted(set(range(total)) - {number for number, _ in numbers})
        if missing or any(of != total for _, of in numbers):
            listed = f"lacks the shards {', '.join(map(str, missing))}" if missing else "has shards of two exports"
            yield Finding("data", f"split {split} {listed} of {total}", "Copy or export it again")


def _check_shard(shard: Path, names: dict[str, str]) -> Generator[Finding, None, int]:
    """Check one shard; returns its number of rows."""
    import pyarrow as pa

    place = f"data/{shard.name}"
    try:
        file = open_shard(shard)
    except (OSError, pa.ArrowException) as error:
        yield Finding(place, f"cannot be read: {one_line(error)}", "Copy or export it again")
        return 0
    have = set(file.schema_arrow.names)
    for name in ("t1_image", "t2_image", "image_name"):
        if name not in have:
            yield Finding(place, f"has no column {name}, which torchange needs", "Export it again")
    if not have & set(MASKS):
        yield Finding(place, "has neither change_mask nor t1_mask, t2_mask: nothing to learn", "Export it again")
    columns = [name for name in COLUMNS if name in have]
    count = 0
    try:
        for batch in file.iter_batches(4, columns=columns):
            for row in batch.to_pylist():
                yield from _check_row(row, place, count, names)
                count += 1
    except (OSError, pa.ArrowException) as error:
        yield Finding(place, f"breaks off: {one_line(error)}", "Copy or export it again")
    return count


def _check_row(row: dict[str, Any], place: str, number: int, names: dict[str, str]) -> Iterator[Finding]:
    name = row.get("image_name") or f"row {number}"
    where = f"{place}, {name}"
    if "image_name" in row:
        if not row["image_name"]:
            yield Finding(where, "has no image_name", "Every row needs one")
        elif name in names:
            yield Finding(where, f"comes twice, also in {names[name]}", "A pair belongs to one split, once")
        names[name] = place
    pixels: dict[str, Pixels] = {}
    for column in (*IMAGES, *MASKS):
        if column not in row:
            continue
        mode, array = _decode(row[column])
        if array is None:
            yield Finding(where, f"{column} cannot be read: {mode}", "Export it again")
            continue
        layer = Layer(column, "RGB" if column in IMAGES else "L")
        problems = pixel_problems(array, mode, layer)
        yield from (Finding(where, f"{column} {message}", fix) for message, fix in problems)
        if not problems:
            pixels[column] = array
    if len({array.shape[:2] for array in pixels.values()}) > 1:
        sizes = ", ".join(f"{column} {a.shape[1]} × {a.shape[0]}" for column, a in pixels.items())
        yield Finding(where, f"mixes sizes: {sizes} px", "All images of a row share one grid")
    elif set(MASKS) <= set(pixels):
        wrong = int(np.sum((pixels["change_mask"] > 0) != (pixels["t1_mask"] != pixels["t2_mask"])))
        if wrong:
            message = f"change_mask disagrees with t1_mask and t2_mask in {wrong} pixels"
            yield Finding(where, message, "What changed is where the two differ")


def _decode(cell: Any) -> tuple[str, Pixels | None]:
    """Mode and pixels of one cell; or the reason why there are none."""
    if not isinstance(cell, dict) or not cell.get("bytes"):
        return "it is empty", None
    try:
        return decode(cell["bytes"])
    except ValueError as error:
        return str(error), None


def _check_card(card: Path, rows: Mapping[str, int]) -> Iterator[Finding]:
    """The card has to name the files of every split, and the rows they hold: `load_dataset` compares both."""
    head = read_front(card)
    if not head:
        yield Finding("README.md", "has no YAML at its head", "Export it again", "warning")
        return
    info = head.get("dataset_info")
    stated = info.get("splits") if isinstance(info, dict) else None
    counts = {split["name"]: split.get("num_examples") for split in stated or ()}
    for name, count in counts.items():
        if rows.get(name, 0) != count:
            message = f"states {count} rows in {name}, its shards hold {rows.get(name, 0)}"
            yield Finding("README.md", message, "load_dataset refuses it: correct num_examples")
    if stated and set(rows) - set(counts):
        yield Finding(
            "README.md", f"states no split {', '.join(sorted(set(rows) - set(counts)))}", "Add it to dataset_info"
        )
