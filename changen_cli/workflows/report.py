"""The report: one file that shows what a dataset holds, to anyone with a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from changen_cli.core.errors import UsageError
from changen_cli.core.files import atomic_path
from changen_cli.core.types import ClassSchema
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import Master, open_master
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.report_index import Entry, Index, choose
from changen_cli.workflows.report_page import overview, page, script_json
from changen_cli.workflows.report_sample import Look, embedded

FILE_NAME = "report.html"
MAX_BYTES = 20_000_000
LOOKS = (
    Look(1024, 82), Look(896, 80), Look(768, 78), Look(640, 75), Look(512, 72), Look(448, 70), Look(384, 68),
    Look(320, 64), Look(256, 60), Look(192, 50),
)  # fmt: skip
"""How pictures may look, best first: the best one is taken with which all samples fit."""
_PROBES = 3


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        path: The page.
        shown: Samples in it.
        total: Samples of the dataset.
        size: Of the page, in bytes.
        side_px: Longer side of its pictures, at most.
    """

    path: Path
    shown: int
    total: int
    size: int
    side_px: int


def make_report(
    out: Path,
    *,
    output: Path | None = None,
    samples: int = 60,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Report:
    """Write the report of a dataset: one file without any address to load from; the same bytes every time.

    Args:
        out: The dataset, in either layout.
        output: Where to write; ``report.html`` in the dataset if not given.
        samples: Most samples to show, see :func:`~changen_cli.workflows.report_index.choose`. Figures are of all.
        max_bytes: The page is no larger: pictures become smaller first, then there are fewer samples.
        progress: Told how far it is.

    Raises:
        UsageError: There is no dataset, its run has not ended, or the report would lie among its files.
        OutputError: A file of the dataset cannot be read.
    """
    progress = progress or Silent()
    master = open_master(out)
    target = checked_target(master, output or out / FILE_NAME, ".html")
    progress.stage("reading")
    index = Index(master.logs())
    wanted = choose(index.entries, samples)
    head = sum(len(piece.encode("utf-8")) for piece in page(overview(master, index, wanted), ()))
    texts, look = _fit(Lookup(master), master.schema, wanted, max_bytes - head, progress)
    shown = [entry for entry in index.entries if entry.number in texts]
    pieces = page(overview(master, index, shown), ((entry.number, texts[entry.number]) for entry in shown))
    with atomic_path(target) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)
    return Report(target, len(shown), len(index.entries), target.stat().st_size, look.side_px)


def _fit(
    lookup: Lookup, schema: ClassSchema, wanted: Sequence[Entry], room: int, progress: Progress
) -> tuple[dict[int, str], Look]:
    """Number → JSON of the samples, with the best pictures that fit; where none do, of the first samples that fit."""
    progress.stage("drawing")
    progress.total(len(wanted))
    for look in LOOKS[_first_look(lookup, schema, wanted, room) :]:
        texts: dict[int, str] = {}
        left = room
        for done, entry in enumerate(wanted, 1):
            text = script_json(embedded(lookup[entry.number], schema, look))
            left -= len(text) + len(f'<script type="application/json" id="sample-{entry.number}"></script>\n')
            if left < 0:
                break
            texts[entry.number] = text
            progress.scene(done, done)
        if left >= 0 or look == LOOKS[-1]:
            break
    return texts, look


def _first_look(lookup: Lookup, schema: ClassSchema, wanted: Sequence[Entry], room: int) -> int:
    """The place of the best look that the first few samples let one hope for."""
    probes = [lookup[entry.number] for entry in wanted[:_PROBES]]
    for place, look in enumerate(LOOKS):
        size = sum(len(script_json(embedded(sample, schema, look))) for sample in probes)
        if size * len(wanted) <= room * max(1, len(probes)):
            return place
    return len(LOOKS) - 1


def checked_target(master: Master, path: Path, *suffixes: str) -> Path:
    """Return the path of something to write beside a dataset, or in its folder, but not among its files.

    Raises:
        UsageError: It would lie among them, its name has another ending, or it is a folder.
    """
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise UsageError(f"--output {path} is no {' or '.join(suffixes)} file", f"Let its name end in {suffixes[0]}")
    place = path.resolve()
    if any(place.is_relative_to(table.parent.resolve()) for table in master.tables):
        raise UsageError(f"{path} would lie among the files of the dataset's samples", "Give another --output")
    return path
