"""The layouts datasets can be exported to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """Writes one layout.

    Classes that implement it are made with ``(target, master, mode)``; those of a layout with classes of its own also
    take ``mapping``, from class names of the dataset to the layout's. One that cannot show everything may have, after
    :meth:`close`, an attribute ``notes``: lines that tell the user what is left out.
    """

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
        own_classes: Whether it has classes of its own, to which those of the dataset are mapped.
    """

    summary: str
    module: str
    exporter: str
    item: str = "pair"
    needs_images: bool = True
    own_classes: bool = False

    def _class(self) -> Any:
        return getattr(import_module(f"changen_cli.exports.{self.module}"), self.exporter)

    def open(self, target: Path, master: Master, mode: PairMode, mapping: Mapping[str, str] | None = None) -> Exporter:
        """Begin an export.

        Args:
            target: An empty folder.
            master: The dataset.
            mode: Which pairs of a longer series are written.
            mapping: Class of the dataset → class of the layout, where the names do not say it.

        Raises:
            UsageError: The dataset has not what the layout shows, or an optional package is missing.
        """
        if self.needs_images and not master.has_images:
            raise UsageError(
                f"{master.root} holds masks only, and this layout shows images", "Make it with changen generate"
            )
        if self.item == "series" and mode != "consecutive":
            known = ", ".join(name for name, form in FORMATS.items() if form.item == "pair")
            raise UsageError("--pairs: this layout takes whole series", f"It is for {known}")
        if mapping and not self.own_classes:
            known = ", ".join(name for name, form in FORMATS.items() if form.own_classes)
            raise UsageError("--map: this layout keeps the classes as they are", f"It is for {known}")
        more = {"mapping": mapping or {}} if self.own_classes else {}
        exporter: Exporter = self._class()(target, master, mode, **more)
        return exporter

    def check(self, folder: Path) -> Iterator[Finding]:
        """Check a folder by the rules of this layout's readers."""
        findings: Iterator[Finding] = self._class().check(folder)
        return findings


FORMATS: dict[str, Format] = {
    "torchange": Format("Parquet with one pair per row; torchange, datasets, the Hub", "torchange", "Torchange"),
    "levir-cd": Format("LEVIR-CD: {split}/{A,B,label}, labels 0/255; Open-CD, torchange", "binary", "LevirCD"),
    "levir-cd-flat": Format(
        "{A,B,label} with the split in the file names, labels 0/255; torchgeo", "binary", "LevirCDFlat"
    ),
    "whu-cd": Format(
        "WHU-CD: {A,B,label} and list/{split}.txt, labels 0/255; Open-CD, ChangeFormer", "binary", "WhuCD"
    ),
    "open-cd": Format(
        "{split}/{A,B,label,label_from,label_to}, 255 ignored; Open-CD's generic datasets", "open_cd", "OpenCD"
    ),
    "s2looking": Format(
        "S2Looking: {split}/{Image1,Image2,label,label1,label2}, built and demolished", "s2looking", "S2Looking"
    ),
    "second": Format("SECOND: {split}/{im1,im2,label1,label2,…}, six classes", "second", "Second", own_classes=True),
    "changen2": Format("The published Changen2 sets: {t1,t2}_{images,masks}/*.tif; HySCDG", "changen2", "Changen2"),
    "xbd": Format(
        "xBD, xView2: {split}/{images,labels,targets}, uids link both dates, damage 1-4; torchgeo", "xbd", "Xbd"
    ),
    "spacenet7": Format(
        "SpaceNet 7: <aoi>/{images,labels_match,labels_match_pix}, Ids that last; torchgeo",
        "spacenet7",
        "SpaceNet7",
        "series",
    ),
    "coco": Format(
        "COCO: {split}/{images,annotations.json}, an instance per object and date, tracks", "coco", "Coco", "series"
    ),
    "webdataset": Format(
        "tar shards, everything of a sample side by side; webdataset",
        "webdataset",
        "WebDataset",
        "series",
        needs_images=False,
    ),
    "stac": Format(
        "STAC: catalogue, items, label extension; GeoParquet index of georeferenced sets", "stac", "Stac", "series"
    ),
}
"""By the names ``--as`` takes."""


def parse_mapping(text: str) -> dict[str, str]:
    """``"road=ground,land=ground"`` to a mapping of class names.

    Raises:
        UsageError: A part is no ``name=name``, or a name comes twice.
    """
    parts = [[name.strip() for name in part.split("=")] for part in text.split(",")]
    if any(len(part) != 2 or not all(part) for part in parts) or len({part[0] for part in parts}) < len(parts):
        raise UsageError(f"--map {text}: parts like road=ground are needed, each class once", "Separate them by commas")
    return {ours: theirs for ours, theirs in parts}


def find_format(name: str) -> Format:
    """The layout of a name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"--as {name} is not known", f"Known: {', '.join(FORMATS)}")
    return FORMATS[name]
