"""Learn a transition matrix, the sizes of change regions and how much changes from pairs of semantic masks."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from changen_cli.core.errors import IncompleteError, OutputError, UsageError
from changen_cli.core.files import write_text
from changen_cli.core.transitions import PartSizes, TransitionTable, load_transitions
from changen_cli.core.types import IGNORE, ClassSchema, Skip
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.transition_pairs import SECOND_CLASSES, Pair, PairLayout, PairSet, open_pairs

SMALLEST_PX = 64
"""Smaller regions are no events: what annotators leave between two outlines, mostly."""
_RANGE = (0.1, 0.9)
_LEAST_RATE = 1e-6
_WIDTH = 118


@dataclass
class Tally:
    """What was seen in pairs of masks.

    Attributes:
        changes: int64 ``[K, K]``, pixels that were of the row's class and became the column's.
        totals: int64 ``[K]``, pixels of a class at the first date, of those known at both.
        changed: Changed share of every pair, of its known pixels.
        sizes_px: Area of every change region of at least 64 px.
        small_px: Changed pixels in smaller ones.
        beside: Change regions that touched their new class before.
    """

    changes: np.ndarray[Any, np.dtype[np.int64]]
    totals: np.ndarray[Any, np.dtype[np.int64]]
    changed: list[float] = field(default_factory=list)
    sizes_px: list[int] = field(default_factory=list)
    small_px: int = 0
    beside: int = 0

    def add(self, pair: Pair, *, only_changes: bool) -> None:
        """Count one pair; ids are 0 to K - 1, or 255."""
        from skimage.measure import label

        count = len(self.totals)
        known = (pair.before != IGNORE) & (pair.after != IGNORE)
        changed = known & (pair.before != pair.after)
        before, after = pair.before[changed].astype(np.int64), pair.after[changed].astype(np.int64)
        self.totals += np.bincount(pair.before[known], minlength=count)
        self.changes += np.bincount(before * count + after, minlength=count * count).reshape(count, count)
        of = known.size if only_changes else int(known.sum())
        if of:
            self.changed.append(before.size / of)
        if not before.size:
            return
        kinds = np.zeros(changed.shape, dtype=np.int32)
        kinds[changed] = 1 + before * count + after
        regions = label(kinds, background=0, connectivity=1)
        areas = np.bincount(regions.ravel())
        areas[0] = 0
        events = areas >= SMALLEST_PX
        self.sizes_px += areas[events].tolist()
        self.small_px += int(areas[~events].sum())
        touching = np.zeros(areas.size, dtype=bool)
        for rows, cols in _NEIGHBOURS:
            here = changed[rows[0], cols[0]] & (pair.after[rows[0], cols[0]] == pair.before[rows[1], cols[1]])
            touching[regions[rows[0], cols[0]][here]] = True
        self.beside += int((touching & events).sum())


_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
_NEIGHBOURS = (
    ((_FIRST, _LAST), (_ALL, _ALL)),
    ((_LAST, _FIRST), (_ALL, _ALL)),
    ((_ALL, _ALL), (_FIRST, _LAST)),
    ((_ALL, _ALL), (_LAST, _FIRST)),
)
"""Rows and columns of pixels, and of their neighbours on each of the four sides."""


@dataclass
class Fit:
    """What was learned.

    Attributes:
        table: The matrix.
        text: The same as YAML, with what it was learned from.
        pairs: Pairs counted.
        regions: Change regions of 64 px and more.
        skipped: Pairs that could not be read.
        changed_share: Mean changed share of a pair.
    """

    table: TransitionTable
    text: str
    pairs: int
    regions: int
    skipped: list[Skip]
    changed_share: float


def fit_transitions(
    root: Path,
    *,
    layout: PairLayout | None = None,
    classes: Sequence[str] | None = None,
    gsd_m: float | None = None,
    limit: int | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Fit:
    """Learn a matrix from a folder of pairs of semantic masks.

    Rates are pixels that became another class over all pixels of the class, per pair. Where classes are known only at
    changed pixels (SECOND), nobody knows how much of a class did not change: then every class is taken to change as
    often as all pixels do, and its row says what its changed pixels became.

    Args:
        root: The folder.
        layout: How it is stored; detected when None.
        classes: Class names in id order; names given twice become one class. From the set itself when None.
        gsd_m: Metres per pixel; sizes are then given in square metres.
        limit: Stop after this many pairs.
        output: Where to write the YAML; nowhere when None.
        overwrite: Replace the file.
        progress: Who wants to know how far it is.

    Raises:
        UsageError: The folder holds no pairs, nothing says what its classes are, or nothing changes in it.
        OutputError: The file exists.
        IncompleteError: No pair could be read.
    """
    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"{output} exists already", "Pass --overwrite to replace it, or another --output")
    progress = progress or Silent()
    pairs = open_pairs(root, layout, classes)
    progress.note(f"{root}: {pairs.count} pairs, {pairs.layout} layout; classes: {', '.join(pairs.classes)}")
    progress.stage("reading")
    progress.total(min(pairs.count, limit or pairs.count))
    names, ids = _merged(pairs.classes)
    tally = Tally(np.zeros((len(names), len(names)), np.int64), np.zeros(len(names), np.int64))
    skipped: list[Skip] = []
    for number, item in enumerate(islice(pairs.read(), limit), start=1):
        if isinstance(item, Skip):
            skipped.append(item)
            progress.note(f"skipped {item.path}: {item.reason}")
        else:
            tally.add(Pair(item.name, ids[item.before], ids[item.after]), only_changes=pairs.only_changes)
        progress.scene(number, len(tally.sizes_px))
    if not tally.changed:
        reasons = "; ".join(f"{skip.path}: {skip.reason}" for skip in skipped[:3])
        raise IncompleteError(f"no pair of {root} could be used ({reasons or 'all of them are unknown ground'})")
    if not tally.changes.any():
        raise UsageError(f"nothing changes in the {len(tally.changed)} pairs of {root}", "Check --classes")
    table = _table(tally, names, root, pairs, gsd_m)
    text = _yaml(table, tally, names, pairs, skipped)
    assert load_transitions(yaml.safe_load(text) | {"name": table.name}) == table
    if output is not None:
        write_text(output, text)
    changed = float(np.mean(tally.changed))
    return Fit(table, text, len(tally.changed), len(tally.sizes_px), skipped, changed)


def _merged(classes: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray[Any, np.dtype[np.uint8]]]:
    """Distinct names, and the id of every mask value among them; classes named unknown are 255."""
    unknown = ClassSchema(classes).unknown_ids
    names = tuple(dict.fromkeys(name for index, name in enumerate(classes) if index not in unknown))
    ids = np.full(256, IGNORE, dtype=np.uint8)
    for index, name in enumerate(classes):
        if index not in unknown:
            ids[index] = names.index(name)
    return names, ids


def _table(tally: Tally, names: tuple[str, ...], root: Path, pairs: PairSet, gsd_m: float | None) -> TransitionTable:
    of = tally.totals
    if pairs.only_changes:
        of = tally.changes.sum(axis=1) / max(float(np.mean(tally.changed)), 1e-9)
    rates = tally.changes / np.maximum(of, 1)[:, None]
    shares = [share for share in tally.changed if share > 0]
    low, high = (min(max(round(float(value), 4), 1e-4), 1.0) for value in np.quantile(shares, _RANGE))
    values: dict[str, Any] = {
        "name": root.resolve().name,
        "description": f"Learned from {len(tally.changed)} pairs of {root.resolve().name}.",
        "rates": {
            # Rounded down: a row that adds up to one must not add up to more.
            name: {names[to]: math.floor(row[to] / _LEAST_RATE) / 1e6 for to in np.flatnonzero(row >= _LEAST_RATE)}
            for name, row in zip(names, rates, strict=True)
            if (row >= _LEAST_RATE).any()
        },
        "change_area": (low, high),
    }
    if tally.sizes_px:
        logs = np.log(tally.sizes_px)
        median = float(np.exp(np.median(logs))) * (gsd_m**2 if gsd_m else 1)
        sizes = PartSizes(median=float(f"{median:.4g}"), spread=round(math.exp(float(logs.std())), 3))
        values["sizes_m2" if gsd_m else "sizes_px"] = sizes
        if not pairs.only_changes:
            values["growth"] = round(tally.beside / len(tally.sizes_px), 3)
    return TransitionTable(**values)


def _yaml(table: TransitionTable, tally: Tally, names: tuple[str, ...], pairs: PairSet, skipped: list[Skip]) -> str:
    """The file as people should read it: what it was learned from first, aligned rows last."""
    text = "".join(
        textwrap.fill(line, _WIDTH, initial_indent="# ", subsequent_indent="#   ") + "\n"
        for line in _remarks(tally, names, pairs, skipped)
    )
    text += f"description: {_scalar(table.description)}\n"
    if "growth" in table.model_fields_set:
        text += f"growth: {_number(table.growth)}  # share of the change regions that touched their new class before\n"
    for key, sizes in (("sizes_px", table.sizes_px), ("sizes_m2", table.sizes_m2)):
        if sizes is not None:
            text += f"{key}: {{median: {_number(sizes.median)}, spread: {_number(sizes.spread)}}}\n"
    low, high = table.change_area or (0.0, 1.0)
    text += f"change_area: [{_number(low)}, {_number(high)}]  # eight of ten pairs that change at all\n"
    text += "rates:  # share of the row's class that becomes the column's in one step\n"
    width = max(len(_scalar(name)) for name in table.rates) + 1
    for name, row in table.rates.items():
        cells = ", ".join(f"{_scalar(target)}: {_number(rate)}" for target, rate in row.items())
        text += f"  {_scalar(name) + ':':<{width}} {{{cells}}}\n"
    return text


def _remarks(tally: Tally, names: tuple[str, ...], pairs: PairSet, skipped: list[Skip]) -> list[str]:
    """What a matrix was learned from, and what could not be learned."""
    count, total = len(tally.changed), int(tally.changes.sum())
    still = sum(share == 0 for share in tally.changed)
    lines = [
        f"Learned by `changen transitions fit` from {count} pairs ({pairs.layout} layout), {len(skipped)} skipped.",
        f"On average {np.mean(tally.changed):.2%} of a pair changes; {still} of {count} show no change at all "
        f"(--negatives {still / count:.1%}).",
        f"{len(tally.sizes_px)} change regions of {SMALLEST_PX} px and more; smaller ones hold "
        f"{tally.small_px / total:.1%} of the change.",
    ]
    if pairs.only_changes:
        shares = tally.changes.sum(axis=1) / total
        began = ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True) if share)
        lines.append(
            "Classes are known only where something changed, so nobody knows how much of a class stayed: every class "
            "is taken to change as often as all pixels do, and its row says what its changed pixels became. "
            f"Those began as {began}."
        )
    if pairs.layout == "second" and pairs.classes == SECOND_CLASSES:
        lines.append("SECOND's ground is written as bareland, low vegetation as rangeland, sports field as developed.")
    return lines


def _number(value: float) -> str:
    """Without an exponent: YAML reads 1e-05 as a word."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _scalar(text: str) -> str:
    """A word of YAML, quoted where it would read as something else."""
    plain = re.fullmatch(r"[A-Za-z][\w .,-]*", text) and "," not in text and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
