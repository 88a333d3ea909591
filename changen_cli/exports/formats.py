"""The layouts datasets can be exported to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from changen_cli.core.errors import UsageError
from changen_cli.exports.findings import Finding

if TYPE_CHECKING:
    # The command line lists the layouts in its help, for which it loads no numpy.
    from changen_cli.exports.master import Master, Sample

PairMode = Literal["consecutive", "all", "first-last"]
"""Which pairs of dates of a longer series: neighbours, every two, or the first and the last."""

RECORD = "export.json"
"""What an export is and where it came from, at the root of its folder; no reader of any layout looks at it."""


class Exporter(Protocol):
    """Writes one layout. Classes that implement it are made with ``(target, master, mode)``."""

    def write(self, sample: Sample, split: str) -> int:
        """Add one sample and return how many items (pairs, or series) it became."""
        ...

    def close(self) -> None:
        """Write what needs to know all samples: lists, tables, indexes."""
        ...

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Re-read a folder by the rules of the layout's readers; it need not come from changen."""
        ...


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
        summary: What reads it, in a few words for ``--help``.
        module: Module of this room that implements it.
        exporter: Its class there.
        item: What one entry is: a ``pair`` of dates, or a whole ``series``.
        needs_images: Whether masks without images make no sense in it.
    """

    summary: str
    module: str
    exporter: str
    item: str = "pair"
    needs_images: bool = True

    def _class(self) -> Any:
        return getattr(import_module(f"changen_cli.exports.{self.module}"), self.exporter)

    def open(self, target: Path, master: Master, mode: PairMode) -> Exporter:
        """Begin an export.

        Args:
            target: An empty folder.
            master: The dataset.
            mode: Which pairs of a longer series are written.

        Raises:
            UsageError: The dataset has not what the layout shows, or an optional package is missing.
        """
        if self.needs_images and not master.has_images:
            raise UsageError(
                f"{master.root} holds masks only, and this layout shows images", "Make it with changen generate"
            )
        exporter: Exporter = self._class()(target, master, mode)
        return exporter

    def check(self, folder: Path) -> Iterator[Finding]:
        """Check a folder by the rules of this layout's readers."""
        findings: Iterator[Finding] = self._class().check(folder)
        return findings


FORMATS: dict[str, Format] = {
    "levir-cd": Format("LEVIR-CD: {split}/{A,B,label}, labels 0/255; Open-CD, torchange", "binary", "LevirCD"),
}
"""By the names ``--as`` takes."""


def find_format(name: str) -> Format:
    """The layout of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"--as {name} is not known", f"Known: {', '.join(FORMATS)}")
    return FORMATS[name]
