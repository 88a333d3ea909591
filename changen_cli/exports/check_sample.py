"""One sample of a dataset in the master layout, checked against what docs/outputs.md promises."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from changen_cli.core.calendar import tiff_datetime
from changen_cli.core.errors import OutputError
from changen_cli.core.types import IGNORE, UInt8Array
from changen_cli.exports.check_events import check_step
from changen_cli.exports.check_objects import check_instances, nameless
from changen_cli.exports.findings import Finding, one_line
from changen_cli.exports.master import Stored
from changen_cli.exports.reading import MAX_DATES, Pixels, Row, decode, parse_log, parse_objects

_ROUNDED = 1e-8
_MODES = {"8-bit RGB": ("RGB",), "one band of 8 bits": ("L",), "one band of 16 or 32 bits": ("I;16", "I")}
_RGB, _BAND, _NUMBERS = _MODES
AGAIN = "Restore the file from a copy, or make the dataset again"
_COLUMNS: dict[str, type | tuple[type, ...]] = {
    "image_name": str, "scene_id": str, "group": str, "variant": int, "split": str, "dates": int, "height": int,
    "width": int, "event_count": int, "changed_fraction": list,
}  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """What holds for every sample of a dataset.

    Attributes:
        names: Class names in id order; empty where they are not known.
        dates: Dates of a series; None where the manifest does not say.
        calendar: Its calendar dates, if it has any.
        images: Whether there are images.
        seed: Seed of the run; None where the manifest does not say.
    """

    names: tuple[str, ...]
    dates: int | None
    calendar: tuple[str, ...]
    images: bool
    seed: int | None = None


@dataclass(frozen=True)
class Part:
    """One stored image, semantic mask or change mask.

    Attributes:
        file: What a finding about it names.
        label: What to call it; with the sample and the column where the file holds more than it.
        stored: Its bytes; None where there are none to check.
        problem: Why not.
    """

    file: str
    label: str
    stored: Stored | None
    problem: str = "is missing"


@dataclass(frozen=True)
class Opened:
    """One row of a table and everything it names.

    Attributes:
        table: The table, as a finding names it.
        row: The row as it stands there.
        images: One per date; empty where the dataset has none.
        masks: One per date.
        changes: One per step.
        log_file: The event log, as a finding names it.
        log: The event log; None where it is missing.
        numbers: Instance masks, one per date; empty in datasets older than these.
        names_file: The table of its objects, as a finding names it.
        names: The table of its objects; None where it is missing.
        where: Put before messages about the row or the log: the sample, where the file holds others too.
    """

    table: str
    row: Row
    images: Sequence[Part]
    masks: Sequence[Part]
    changes: Sequence[Part]
    log_file: str
    log: str | None
    numbers: Sequence[Part] = ()
    names_file: str = ""
    names: str | None = None
    where: str = ""


def check_row(row: Row, table: str, rules: Rules) -> Generator[Finding, None, bool]:
    """Check that a row has the columns everything else relies on, and that they agree with each other.

    Returns:
        Whether the sample can be checked any further.
    """
    name = row.get("image_name") or "a row without image_name"
    for column, kind in _COLUMNS.items():
        if not isinstance(row.get(column), kind):
            yield Finding(table, f"{name}: column {column} is {row.get(column)!r}", AGAIN)
            return False
    dates = row["dates"]
    if not 1 < dates <= MAX_DATES or rules.dates not in (None, dates):
        yield Finding(table, f"{name}: {dates} dates, the manifest says {rules.dates}", AGAIN)
        return False
    for wrong, message in (
        (
            name != f"{row['scene_id']}_v{row['variant']:02d}",
            f"not named after scene {row['scene_id']} and variant {row['variant']}",
        ),
        (
            tuple(row.get("calendar") or ()) != rules.calendar,
            f"calendar {row.get('calendar')} is not that of the recipe, {list(rules.calendar)}",
        ),
        (
            (row.get("crs") is None) != (row.get("transform") is None),
            "crs and transform belong together, one is missing",
        ),
        (rules.seed not in (None, row.get("seed")), f"seed {row.get('seed')}, the manifest says {rules.seed}"),
        (row.get("negative") is True and row["event_count"] > 0, "nothing was to change, but there are events"),
    ):
        if wrong:
            yield Finding(table, f"{name}: {message}", AGAIN)
    if not _is_georeference(row.get("crs"), row.get("transform")):
        where = f"crs {row.get('crs')!r} and transform {row.get('transform')!r}"
        yield Finding(table, f"{name}: {where} mean nothing", AGAIN)
        return False
    if len(row["changed_fraction"]) != dates - 1:
        shares = len(row["changed_fraction"])
        yield Finding(table, f"{name}: changed_fraction has {shares} values for {dates} dates", AGAIN)
        return False
    return True


def _is_georeference(crs: Any, transform: Any) -> bool:
    """Whether both are well-formed, each of them where it is given."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if crs is not None:
        try:
            CRS.from_user_input(crs)
        except CRSError:
            return False
    if transform is None:
        return True
    return isinstance(transform, list) and len(transform) == 6 and all(type(v) in (int, float) for v in transform)


class SampleCheck:
    """Checks pixels and events of one sample whose row is sound.

    Args:
        opened: The sample.
        rules: What holds for all of them.

    Attributes:
        first_image: The image of date 0, once checked; None where there is none.
        first_mask: The semantic mask of date 0, likewise.
        log_read: Whether the event log could be read.
        kinds: Kind of every event.
    """

    def __init__(self, opened: Opened, rules: Rules) -> None:
        self._opened, self._rules, self._row = opened, rules, opened.row
        self.first_image: Pixels | None = None
        self.first_mask: UInt8Array | None = None
        self.log_read = False
        self.kinds: list[str] = []

    def run(self) -> Iterator[Finding]:
        """Check it."""
        sample, dates = self._opened, self._row["dates"]
        for t, part in enumerate(sample.images):
            image = yield from self._open(part, _RGB, t)
            if t == 0:
                self.first_image = image
        masks = []
        for t, part in enumerate(sample.masks):
            mask = yield from self._open(part, _BAND, t)
            if mask is not None:
                yield from self._mask_values(part, mask)
            masks.append(mask)
        self.first_mask = masks[0]
        numbers, objects = yield from self._numbers()
        events = yield from self._events()
        for t in range(dates - 1):
            change = yield from self._open(sample.changes[t], _BAND, None)
            before, after = masks[t], masks[t + 1]
            here = [(line, event) for line, event in events or () if event["step"] == t]
            messages: list[str] = []
            if before is not None and after is not None:
                yield from self._step(t, before, after, change)
                if events is not None:
                    dates_here = self._rules.calendar[t : t + 2]
                    messages += check_step(here, before, after, self._rules.names, dates_here)
            earlier, later = numbers[t : t + 2] or (None, None)
            if objects is not None and earlier is not None and later is not None:
                messages += check_instances(here, earlier, later, objects)
            for message in messages:
                yield Finding(sample.log_file, f"{sample.where}step {t}, {message}", AGAIN)

    def _open(self, part: Part, mode: str, date: int | None) -> Generator[Finding, None, Pixels | None]:
        """Decode one file; yields what is wrong with it, returns its pixels or None."""
        if part.stored is None:
            yield Finding(part.file, f"{part.label} {part.problem}", AGAIN)
            return None
        try:
            found, array = decode(part.stored.read())
        except (OutputError, ValueError) as error:
            yield Finding(part.file, f"{part.label} cannot be read: {error}", AGAIN)
            return None
        if found not in _MODES[mode]:
            yield Finding(part.file, f"{part.label} has mode {found}, not {mode}", AGAIN)
            return None
        size = (self._row["height"], self._row["width"])
        if array.shape[:2] != size:
            is_px = f"{array.shape[1]} x {array.shape[0]}"
            yield Finding(part.file, f"{part.label} has {is_px} px, the row says {size[1]} x {size[0]}", AGAIN)
            return None
        if part.stored.suffix == ".tif" and (self._row["crs"] or mode != _NUMBERS):
            yield from self._georeference(part, part.stored, date)
        return array

    def _georeference(self, part: Part, stored: Stored, date: int | None) -> Iterator[Finding]:
        """CRS, transform and date of a GeoTIFF are those of the row."""
        from rasterio.crs import CRS
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.io import MemoryFile

        row, calendar = self._row, self._rules.calendar
        try:
            with warnings.catch_warnings(), MemoryFile(stored.read()) as memory:
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with memory.open(driver="GTiff") as source:
                    crs, transform, tags = source.crs, source.transform, source.tags()
        except (RasterioError, OSError) as error:
            yield Finding(part.file, f"{part.label} is no readable GeoTIFF: {one_line(error)}", AGAIN)
            return
        if crs is None or row["crs"] is None or crs != CRS.from_user_input(row["crs"]):
            yield Finding(part.file, f"{part.label} has CRS {crs}, the row says {row['crs']}", AGAIN)
        if row["transform"] is None or not np.allclose(transform[:6], row["transform"], rtol=1e-9, atol=1e-9):
            yield Finding(
                part.file, f"{part.label} has transform {list(transform[:6])}, the row says {row['transform']}", AGAIN
            )
        wanted = tiff_datetime(calendar[date]) if calendar and date is not None else None
        if tags.get("TIFFTAG_DATETIME") != wanted:
            told = tags.get("TIFFTAG_DATETIME")
            yield Finding(
                part.file, f"{part.label} has the tag DateTime {told}, its calendar date gives {wanted}", AGAIN
            )

    def _mask_values(self, part: Part, mask: UInt8Array) -> Iterator[Finding]:
        values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        strange = [int(v) for v in values if v >= len(self._rules.names) and v != IGNORE]
        if strange and self._rules.names:
            yield Finding(part.file, f"{part.label} holds {strange[:5]}, which classes.json does not name", AGAIN)

    def _step(self, t: int, before: UInt8Array, after: UInt8Array, change: UInt8Array | None) -> Iterator[Finding]:
        """The change mask is where the two semantic masks differ, and the row says how much that is."""
        part, truth = self._opened.changes[t], before != after
        turned = int(((before == IGNORE) != (after == IGNORE)).sum())
        if turned:
            file = self._opened.masks[t + 1]
            yield Finding(file.file, f"{file.label}: {turned} px become known or unknown; 255 never changes", AGAIN)
        told = self._row["changed_fraction"][t]
        if not isinstance(told, float | int) or abs(told - truth.mean()) > _ROUNDED:
            yield Finding(
                self._opened.table,
                f"{self._row['image_name']}: changed_fraction of step {t} is {told}, the masks give {truth.mean():.8f}",
                AGAIN,
            )
        if change is None:
            return
        strange = sorted(set(np.unique(change).tolist()) - {0, 255})
        if strange:
            yield Finding(part.file, f"{part.label} holds {strange[:5]}; only 0 and 255 have a meaning", AGAIN)
        wrong = int(((change > 0) != truth).sum())
        if wrong:
            masks = " and ".join(self._opened.masks[s].file.rpartition("/")[2] for s in (t, t + 1))
            yield Finding(part.file, f"{part.label}: {wrong} px are not where {masks} differ", AGAIN)

    def _numbers(self) -> Generator[Finding, None, tuple[list[Pixels | None], dict[int, str] | None]]:
        """Open the instance masks and the table of objects; returns both, None for what cannot be used."""
        sample = self._opened
        if not sample.numbers:
            return [], None
        objects = None
        try:
            objects = None if sample.names is None else parse_objects(sample.names)
            if objects is None:
                yield Finding(sample.names_file, f"{sample.where}the table of objects is missing", AGAIN)
        except OutputError as error:
            yield Finding(sample.names_file, f"{sample.where}{error}", AGAIN)
        numbers = []
        for t, part in enumerate(sample.numbers):
            array = yield from self._open(part, _NUMBERS, t)
            strange = [] if array is None or objects is None else nameless(array, objects)
            if strange:
                yield Finding(part.file, f"{part.label} holds {strange[:5]}, which have no id in its objects", AGAIN)
            numbers.append(array)
        return numbers, objects

    def _events(self) -> Generator[Finding, None, list[tuple[int, Row]] | None]:
        """Parse the log; yields what is wrong, returns (line number, event) of all, or None where there is none."""
        sample, count = self._opened, self._row["event_count"]
        if sample.log is None:
            yield Finding(sample.log_file, f"{sample.where}the event log is missing", AGAIN)
            return None
        try:
            events = list(enumerate(parse_log(sample.log), 1))
        except OutputError as error:
            yield Finding(sample.log_file, f"{sample.where}{error}", AGAIN)
            return None
        self.log_read = True
        self.kinds = [str(event.get("kind")) for _, event in events]
        if len(events) != count:
            yield Finding(sample.log_file, f"{sample.where}{len(events)} events, the row says {count}", AGAIN)
        steps = range(self._row["dates"] - 1)
        for line, event in events:
            if event.get("step") not in steps:
                message = f"{sample.where}event {line}: there is no step {event.get('step')}"
                yield Finding(sample.log_file, message, AGAIN)
        return [(line, event) for line, event in events if event.get("step") in steps]
