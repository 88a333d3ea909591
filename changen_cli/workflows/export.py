"""The export: a dataset made by changen → another layout, sample by sample."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from changen_cli import __version__
from changen_cli.core.errors import OutputError
from changen_cli.core.files import write_text
from changen_cli.core.signals import terminable
from changen_cli.exports.formats import RECORD, PairMode, find_format
from changen_cli.exports.master import Master, open_master
from changen_cli.exports.splits import assign_splits, local_name
from changen_cli.workflows.progress import Progress


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        samples: Samples read.
        items: Split → pairs, or series, written.
        places: Split → places it shows.
        notes: What of the dataset the layout does not show, as far as it was met.
    """

    samples: int
    items: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def export(
    source: Path,
    target: Path,
    *,
    layout: str,
    pairs: PairMode = "consecutive",
    shares: tuple[float, ...] | None = None,
    mapping: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress,
) -> ExportReport:
    """Write a dataset in the layout of another reader.

    Everything is written beside ``target`` and gets its name when it is complete; nothing of ``source`` is changed,
    though files that need no conversion are hard links to it.

    Args:
        source: A dataset made by changen.
        target: The folder to make.
        layout: A name of :data:`changen_cli.exports.formats.FORMATS`.
        pairs: Which pairs of dates, in layouts that know only pairs.
        shares: Shares of train, val and test, by place; None leaves every sample in its split.
        mapping: Class of the dataset → class of the layout, for layouts with classes of their own.
        overwrite: Replace an export that is there.
        progress: Told how far it is.

    Raises:
        UsageError: The dataset, the layout or the shares cannot be used.
        OutputError: The folder exists, or a file of the dataset cannot be read.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; nothing is left behind.
    """
    form = find_format(layout)
    master = open_master(source)
    _check_target(target, source, overwrite=overwrite)
    count, splits = _plan(master, shares)
    with _beside(target) as partial:
        report = ExportReport(count, Counter(), Counter())
        places: dict[str, set[str]] = {}
        progress.stage(f"exporting {layout}")
        progress.total(count)
        exporter = form.open(partial, master, pairs, mapping)
        for index, sample in enumerate(master.samples()):
            split = splits.get(sample.group) or local_name(str(sample.row["split"]))
            report.items[split] = report.items.get(split, 0) + exporter.write(sample, split)
            places.setdefault(split, set()).add(sample.group)
            progress.scene(index + 1, sum(report.items.values()))
        exporter.close()
        report.notes.extend(getattr(exporter, "notes", ()))
        report.places.update({split: len(groups) for split, groups in places.items()})
        _leave_record(partial, master, layout, pairs, shares, mapping, report)
    return report


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``target`` when the block ends well, and is removed when it does not."""
    partial, old = (target.with_name(f".{kind}-{os.getpid()}-{target.name}") for kind in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{target} cannot be made: {error.strerror}", "Name another --output folder") from None
    with terminable():
        try:
            yield partial
            if target.exists():
                target.rename(old)
            partial.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    resolved, root = target.resolve(), source.resolve()
    if resolved == root or root.is_relative_to(resolved):
        raise OutputError(f"{target} holds the dataset itself", "Name another --output folder")
    if resolved.is_relative_to(root):
        raise OutputError(f"{target} lies in the dataset, which stays as it is", "Name another --output folder")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{target} exists", "Name another --output folder, or replace it with --overwrite")
    if not (target / RECORD).is_file():
        raise OutputError(f"{target} exists and is no export of changen", "It is not replaced: name another folder")


def _plan(master: Master, shares: tuple[float, ...] | None) -> tuple[int, dict[str, str]]:
    """Count the samples and give every place its split, where splits are asked for."""
    groups = Counter(str(row["group"]) for row in master.rows())
    return sum(groups.values()), {} if shares is None else assign_splits(groups, shares)


def _leave_record(
    folder: Path,
    master: Master,
    layout: str,
    pairs: PairMode,
    shares: tuple[float, ...] | None,
    mapping: Mapping[str, str] | None,
    report: ExportReport,
) -> None:
    """Say in the export what it is: classes always travel with it."""
    if not (folder / "classes.json").exists():
        shutil.copyfile(master.root / "classes.json", folder / "classes.json")
    source = master.manifest.get("source", {})
    record = {
        "layout": layout,
        "pairs": pairs,
        "split": None if shares is None else list(shares),
        "map": dict(mapping or {}),
        "items": dict(sorted(report.items.items())),
        "places": dict(sorted(report.places.items())),
        "dataset": {"name": master.name, "fingerprint": master.manifest.get("fingerprint")},
        "license": master.card.get("license"),
        "source": {key: source[key] for key in ("name", "license", "attribution") if source.get(key)},
        "changen": __version__,
    }
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
