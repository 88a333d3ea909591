"""One sample found in a dataset, and two copies of one compared, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from changen_cli.core.errors import OutputError
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import Master, Sample, Stored

Kind = Literal["image", "mask", "instances", "change", "events", "objects", "metadata"]
State = Literal["identical", "same content", "differs", "unreadable"]


@dataclass(frozen=True)
class Comparison:
    """How one file of a sample, or one of its texts, compares with another copy of it.

    Attributes:
        name: The file below the dataset, or what it is where it is no file of its own.
        kind: What it holds.
        state: ``same content``: the pixels or values are equal, the bytes are not.
        psnr_db: Of an image that differs, its peak signal-to-noise ratio in dB.
        note: Of anything else that differs, how.
    """

    name: str
    kind: Kind
    state: State
    psnr_db: float | None = None
    note: str = ""


def find_sample(master: Master, sample_id: str) -> Sample | None:
    """One sample of a dataset; None where it has none of that id. No pixels of others are read.

    Raises:
        OutputError: A table, or a text of the sample, cannot be read.
    """
    number = next((i for i, row in enumerate(master.rows()) if row["image_name"] == sample_id), None)
    return None if number is None else Lookup(master)[number]


def compare_samples(stored: Sample, made: Sample, step: int | None = None) -> list[Comparison]:
    """Compare two copies of a sample.

    Args:
        stored: The one of a dataset.
        made: The other one; with ``step`` it may end after that.
        step: Only this step: its two dates, its change mask and its events.
    """
    dates = slice(None) if step is None else slice(step, step + 2)
    steps = slice(None) if step is None else slice(step, step + 1)
    kinds: tuple[tuple[Kind, Sequence[Stored], Sequence[Stored], slice], ...] = (
        ("image", stored.images, made.images, dates),
        ("mask", stored.masks, made.masks, dates),
        ("instances", stored.instances, made.instances, dates),
        ("change", stored.changes, made.changes, steps),
    )
    found = [
        _pixels(kind, a, b) for kind, before, now, part in kinds for a, b in zip(before[part], now[part], strict=True)
    ]
    events = [[event for event in sample.events if step in (None, event.get("step"))] for sample in (stored, made)]
    found.append(_texts("events", *events, equal=stored.log == made.log if step is None else events[0] == events[1]))
    if step is None:
        found.append(_texts("objects", stored.objects, made.objects, equal=stored.names == made.names))
        rows = [{key: value for key, value in sample.row.items() if value is not None} for sample in (stored, made)]
        found.append(_texts("metadata", *rows, equal=rows[0] == rows[1]))
    return found


def _pixels(kind: Kind, stored: Stored, made: Stored) -> Comparison:
    name = stored.name if stored.path is None else "/".join(stored.path.parts[-3:])
    found = partial(Comparison, name, kind)
    try:
        if stored.read() == made.read():
            return found("identical")
        a, b = stored.array(), made.array()
    except OutputError as error:
        return found("unreadable", note=str(error))
    if a.shape != b.shape:
        return found("differs", note=f"{a.shape} stored, {b.shape} made")
    unequal = int(np.count_nonzero(a != b))
    if not unequal:
        return found("same content")
    if kind == "image":
        return found("differs", psnr_db=round(psnr_db(a, b), 2))
    return found("differs", note=f"{unequal} of {a.size} pixels")


def psnr_db(a: Any, b: Any) -> float:
    """Peak signal-to-noise ratio of two different images of 8 bits, in dB: 10 log10(255² / mean squared error)."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def _texts(kind: Kind, stored: Any, made: Any, *, equal: bool) -> Comparison:
    """Compare texts by what they say, which is known to be the same where the bytes are equal."""
    if equal or stored == made:
        return Comparison(kind, kind, "identical" if equal else "same content")
    return Comparison(kind, kind, "differs", note=_difference(stored, made))


def _difference(stored: Any, made: Any) -> str:
    if isinstance(stored, dict):
        keys = [str(key) for key in {**stored, **made} if stored.get(key) != made.get(key)]
        return f"{len(keys)} of {len({**stored, **made})} values: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
    return f"{len(stored)} stored, {len(made)} made, {sum(row in stored for row in made)} of them equal"
