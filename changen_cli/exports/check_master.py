"""A dataset in the layout changen writes, re-read as a whole: every file, every pixel, every event."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from changen_cli.core.checksums import FILE_NAME as CHECKSUMS
from changen_cli.core.checksums import read_checksums
from changen_cli.core.errors import OutputError
from changen_cli.core.files import sha256
from changen_cli.core.links import refuse_links
from changen_cli.core.manifest import FILE_NAME as MANIFEST
from changen_cli.core.manifest import Manifest, read_manifest
from changen_cli.core.types import IGNORE
from changen_cli.core.untrusted import inside, read_json
from changen_cli.exports.check_sample import AGAIN, Opened, Rules, SampleCheck, check_row
from changen_cli.exports.check_tables import FOLDERS, Table, open_tables
from changen_cli.exports.findings import Finding, one_line

Tick = Callable[[str, int, int], None]
"""Told what is being checked, how much of it is done, and how much there is."""

_RERUN = "Run the command that made it again, with --overwrite"
_LOGS = {"events": "jsonl", "objects": "json"}
_FILE = re.compile(r"(?P<id>.+?)(_t(?P<date>\d+))?(_t(?P<next>\d+))?\.(?P<suffix>png|tif|jsonl?)")


def check_master(folder: Path, tick: Tick = lambda stage, done, total: None) -> Iterator[Finding]:
    """Check a dataset folder; nothing is changed. Memory grows by the samples' ids only.

    Args:
        folder: What ``changen generate`` or ``changen simulate`` wrote, in either layout.
        tick: Told how far it is.
    """
    try:
        refuse_links(folder)
    except OutputError as error:
        yield Finding(".", one_line(error, folder), "Do not trust this dataset: it was tampered with")
        return
    check = _Check(folder, tick)
    yield from check.head()
    yield from check.samples()
    yield from check.strays()
    yield from check.totals()
    yield from check.checksums()


class _Check:
    """The checks of one dataset, in the order they are run."""

    def __init__(self, folder: Path, tick: Tick) -> None:
        self._folder, self._tick = folder, tick
        self._manifest: Manifest | None = None
        self._names: tuple[str, ...] = ()
        self._tables: list[Table] = []
        self._dates: dict[tuple[str, str], int] = {}
        self._ids: set[str] = set()
        self._seen: dict[bytes, tuple[str, str]] = {}
        self._groups: dict[str, str] = {}
        self._events: Counter[str] = Counter()
        self._all_read = True
        self._missing: set[str] = set()

    def head(self) -> Iterator[Finding]:
        """Manifest, class table, and what an interrupted run leaves."""
        try:
            self._manifest = read_manifest(self._folder)
        except OutputError as error:
            yield Finding(MANIFEST, one_line(error, self._folder), _RERUN)
        if self._manifest and self._manifest.status not in ("complete", "interrupted"):
            yield Finding(MANIFEST, f"the run has the status {self._manifest.status}: files may be missing", _RERUN)
        if self._manifest and self._manifest.status == "interrupted":
            yield Finding(MANIFEST, "the run was interrupted: only what was finished is there", _RERUN, "warning")
        yield from self._classes()
        for path in sorted(self._folder.glob(".staging")) + sorted(self._folder.rglob(".partial-*")):
            name = path.relative_to(self._folder).as_posix()
            yield Finding(name, "half-written: left by a run that was stopped", "Delete it, or run the command again")
        if not (self._folder / "README.md").is_file():
            yield Finding("README.md", "the dataset card is missing", "Write one before sharing", "warning")
        self._tables = open_tables(self._folder)
        if not self._tables:
            yield Finding(".", "no sample: neither */metadata.jsonl nor data/*.parquet", _RERUN)
        elif len({table.layout for table in self._tables}) > 1:
            yield Finding(".", "holds both */metadata.jsonl and data/*.parquet", "Keep one of the two")

    def _classes(self) -> Iterator[Finding]:
        path = self._folder / "classes.json"
        try:
            table = read_json(path)
            rows = [(row["id"], str(row["name"])) for row in table["classes"]]
        except FileNotFoundError:
            yield Finding("classes.json", "missing: nobody knows what the masks hold", AGAIN)
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield Finding("classes.json", f"is no class table: {error!r}", AGAIN)
        else:
            self._names = tuple(name for _, name in rows)
            if table.get("ignore_index") != IGNORE:
                yield Finding("classes.json", f"ignore_index is {table.get('ignore_index')}, masks use {IGNORE}", AGAIN)
            if [index for index, _ in rows] != list(range(len(rows))):
                yield Finding("classes.json", "ids do not run from 0 upwards", AGAIN)
            if self._manifest and list(self._names) != self._manifest.source.get("classes"):
                yield Finding("classes.json", f"names {list(self._names)}, the manifest names others", AGAIN)

    def _rules(self) -> Rules:
        events = self._manifest.recipe.get("events") if self._manifest else None
        events = events if isinstance(events, dict) else {}
        steps = events.get("steps")
        return Rules(
            self._names,
            steps + 1 if isinstance(steps, int) else None,
            tuple(events.get("dates") or ()),
            self._manifest.images if self._manifest else True,
            self._manifest.recipe.get("seed") if self._manifest else None,
        )

    def samples(self) -> Iterator[Finding]:
        """Every row, its pixels and its events."""
        rules, done = self._rules(), 0
        total = self._manifest.counts.get("samples", 0) if self._manifest else 0
        self._tick("samples", 0, total)
        for table in self._tables:
            for item in table.samples(rules):
                if isinstance(item, Finding):
                    yield item
                else:
                    yield from self._sample(item, table, rules)
                done += 1
                self._tick("samples", done, total)

    def _sample(self, sample: Opened, table: Table, rules: Rules) -> Iterator[Finding]:
        row, name = sample.row, str(sample.row.get("image_name"))
        if name in self._ids:
            yield Finding(sample.table, f"{name}: the id is there twice", "Remove one of the two rows")
        self._ids.add(name)
        if not (yield from check_row(row, sample.table, rules)):
            self._all_read = False
            return
        self._dates[table.split, name] = row["dates"]
        split, group = row["split"], row["group"]
        if split != table.split:
            yield Finding(sample.table, f"{name}: split {split!r} lies in {table.split!r}", AGAIN)
        if self._groups.setdefault(group, split) != split:
            yield Finding(
                sample.table,
                f"{name}: place {group} is in {self._groups[group]} and in {split}",
                "Split by group: a model would be tested on places it was trained on",
            )
        parts = (*sample.images, *sample.masks, *sample.numbers, *sample.changes)
        self._missing.update(part.file for part in parts if part.stored is None)
        for file, text in ((sample.log_file, sample.log), (sample.names_file, sample.names)):
            self._missing.update({file} if text is None else ())
        check = SampleCheck(sample, rules)
        yield from check.run()
        self._events.update(check.kinds)
        self._all_read &= check.log_read
        yield from self._duplicates(sample, check)

    def _duplicates(self, sample: Opened, check: SampleCheck) -> Iterator[Finding]:
        """The same date 0 under two scenes; what shows one class only may well repeat."""
        image, mask = check.first_image, check.first_mask
        told = mask is not None and (mask != mask.flat[0]).any()
        for what, array, parts in (("image", image, sample.images), ("mask", mask if told else None, sample.masks)):
            if array is None:
                continue
            digest = hashlib.blake2b(array.tobytes(), digest_size=12, person=what.encode()).digest()
            scene, other = self._seen.setdefault(digest, (sample.row["scene_id"], sample.row["image_name"]))
            if scene != sample.row["scene_id"]:
                yield Finding(
                    parts[0].file,
                    f"{parts[0].label} is that of {other}, another scene",
                    "Remove repeated images from the input folder",
                    "warning",
                )

    def strays(self) -> Iterator[Finding]:
        """Files no row names: readers of image folders take them for data."""
        for table in self._tables:
            yield from table.strays(self._expected)
        tabled = {table.split for table in self._tables if table.layout == "folder"}
        for path in sorted(self._folder.iterdir()):
            if path.is_dir() and path.name not in tabled and any((path / kind).is_dir() for kind in FOLDERS):
                yield Finding(f"{path.name}/metadata.jsonl", f"missing: {path.name}/ holds files of samples", AGAIN)

    def _expected(self, split: str, folder: str, name: str) -> bool:
        """Whether a row asks for a file."""
        match = _FILE.fullmatch(name)
        dates = self._dates.get((split, match["id"])) if match else None
        if match is None or dates is None:
            return False
        date, later = (None if match[key] is None else int(match[key]) for key in ("date", "next"))
        if folder in _LOGS:
            return date is None and match["suffix"] == _LOGS[folder]
        if date is None or match["suffix"] in _LOGS.values():
            return False
        return later == date + 1 < dates if folder == "changes" else later is None and date < dates

    def totals(self) -> Iterator[Finding]:
        """Counts of the manifest."""
        if not self._manifest:
            return
        told, count = self._manifest.counts.get("samples"), len(self._ids)
        if told != count:
            yield Finding(MANIFEST, f"says {told} samples, there are {count}", AGAIN)
        events = self._manifest.statistics.get("events", {})
        # A log that cannot be read is told already.
        if self._all_read and events != dict(self._events):
            yield Finding(MANIFEST, f"says events {events}, there are {dict(sorted(self._events.items()))}", AGAIN)

    def checksums(self) -> Iterator[Finding]:
        """Every file has the bytes it was written with."""
        path = self._folder / CHECKSUMS
        promised = self._manifest.checksums if self._manifest else ""
        if not path.is_file():
            if promised:
                yield Finding(CHECKSUMS, "missing, and the manifest has its hash", AGAIN)
            else:
                yield Finding(
                    CHECKSUMS,
                    "missing: made before changen wrote checksums",
                    "Nothing tells whether bytes changed",
                    "warning",
                )
            return
        if self._manifest and sha256(path) != promised:
            yield Finding(CHECKSUMS, "is not the file whose hash the manifest has", AGAIN)
        try:
            with path.open("rb") as file:
                total = sum(1 for _ in file)
            listed: set[str] = set()
            self._tick("checksums", 0, total)
            for done, (name, digest) in enumerate(read_checksums(path), 1):
                listed.update({name} if "/metadata" in name or name.startswith("data/") else ())
                yield from self._hash(name, digest)
                self._tick("checksums", done, total)
        except OutputError as error:
            yield Finding(CHECKSUMS, str(error), AGAIN)
            return
        for table in self._tables:
            if table.name not in listed:
                yield Finding(table.name, f"{CHECKSUMS} does not list it", AGAIN)

    def _hash(self, name: str, digest: str) -> Iterator[Finding]:
        try:
            path = inside(self._folder, name)
        except ValueError as error:
            yield Finding(CHECKSUMS, f"lists {error}", "Do not trust this dataset: it was tampered with")
            return
        if not path.is_file():
            if name not in self._missing:
                yield Finding(name, f"is missing; {CHECKSUMS} lists it", AGAIN)
        elif sha256(path) != digest:
            yield Finding(name, "its bytes are not those that were written", AGAIN)
