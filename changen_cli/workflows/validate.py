"""The check of a dataset or an export: everything is read again, by the rules of whoever will read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.manifest import FILE_NAME
from changen_cli.core.untrusted import read_json
from changen_cli.exports.check_master import check_master
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import RECORD, find_format
from changen_cli.workflows.progress import Progress, Silent

MASTER = "changen"
"""What the layout is called that changen itself writes."""
KEPT = 10_000
"""So many findings are kept; further ones are only counted."""
_RECORD_BYTES = 1 << 24


@dataclass
class Validation:
    """What a check found.

    Attributes:
        layout: The layout it was checked against.
        findings: What was found, in the order of the files, :data:`KEPT` at most.
        errors: How many of all are errors.
        warnings: How many of all are warnings.
    """

    layout: str
    findings: list[Finding] = field(default_factory=list)
    errors: int = 0
    warnings: int = 0


def validate(folder: Path, *, layout: str | None = None, progress: Progress | None = None) -> Validation:
    """Read a dataset or an export again and say what is wrong with it; nothing is changed.

    Args:
        folder: A dataset that changen made, an export of it, or, with ``layout``, any folder in that layout.
        layout: A name of :data:`changen_cli.exports.formats.FORMATS`, or ``changen``; None finds it out.
        progress: Told how far it is.

    Raises:
        UsageError: There is no such folder, nothing in it says what it is, or the layout is not known.
    """
    progress = progress or Silent()
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", "Name a dataset made by changen, or an export of one")
    layout = layout or find_layout(folder)
    found = Validation(layout)
    progress.stage(f"checking {layout}")
    for finding in _findings(folder, layout, progress):
        found.errors += finding.severity == "error"
        found.warnings += finding.severity == "warning"
        if len(found.findings) < KEPT:
            found.findings.append(finding)
    return found


def find_layout(folder: Path) -> str:
    """Say which layout a folder is in, by the record that changen left there.

    Raises:
        UsageError: It left none.
    """
    try:
        return str(read_json(folder / RECORD, _RECORD_BYTES)["layout"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if (folder / FILE_NAME).exists() or any(folder.glob("*/metadata.jsonl")) or any(folder.glob("data/*.parquet")):
        return MASTER
    raise UsageError(
        f"{folder} holds neither a dataset of changen nor an export of one", "Say what it should be: --as LAYOUT"
    )


def _findings(folder: Path, layout: str, progress: Progress) -> Iterator[Finding]:
    stage = ""

    def tick(name: str, done: int, total: int) -> None:
        nonlocal stage
        if name != stage:
            stage = name
            progress.stage(f"checking {name}")
            progress.total(total)
        progress.scene(done, done)

    if layout == MASTER:
        yield from check_master(folder, tick)
        return
    form = find_format(layout)
    try:
        yield from form.check(folder)
    except OutputError as error:
        yield Finding(".", str(error), "Copy or export it again")
