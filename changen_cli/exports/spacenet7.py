"""SpaceNet 7 (MUDS): monthly mosaics of places, buildings as GeoJSON whose ``Id`` lasts through the months.

``{split}/<aoi>/images/global_monthly_YYYY_MM_mosaic_<aoi>.tif``, and for every image, with ``_Buildings.geojson`` after
its stem, ``labels_match`` (degrees, as GeoJSON has them) and ``labels_match_pix`` (pixels, column and row). ``labels``
is the same as ``labels_match``, and ``images_masked`` as ``images``: some readers look there by default. A destroyed
building has no feature. Samples without georeference have no degrees, and of the labels only ``labels_match_pix``.
[torchgeo; arXiv:2102.04420]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from changen_cli.core.calendar import tiff_datetime
from changen_cli.core.errors import UsageError
from changen_cli.exports.dates import INVENTED, date_names
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import save_tiff
from changen_cli.exports.master import Master, Sample
from changen_cli.exports.names import SafeNames
from changen_cli.exports.objects import OLD_DATASET, Ground, geometry, need_buildings, object_numbers, outlines

NOT_PLACED = (
    "samples without georeference: their labels are in labels_match_pix only, and readers that want a CRS (torchgeo) "
    "do not take them"
)


class SpaceNet7:
    """Writes the layout; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        need_buildings(master, "spacenet7")
        self._target, self._schema = target, master.schema
        self._names = SafeNames()
        self.notes: list[str] = []

    def write(self, sample: Sample, split: str) -> int:
        """Add the series of a sample, one place."""
        aoi = self._place(sample.id)
        root, ground = self._target / split / aoi, Ground(sample.row)
        numbers, names = object_numbers(sample, self._schema)
        for note, holds in (
            (INVENTED, not sample.calendar),
            (OLD_DATASET, not sample.instances),
            (NOT_PLACED, not ground),
        ):
            self.notes += [note] if holds and note not in self.notes else []
        for date, month in enumerate(_months(sample)):
            stem = f"global_monthly_{month}_mosaic_{aoi}"
            stored, image = sample.images[date], root / "images" / f"{stem}.tif"
            if stored.suffix == ".tif":
                stored.put(image)
            else:
                save_tiff(stored.array(), image, ground.crs, ground.transform)
            _link(image, root / "images_masked")
            found = [
                (
                    outline.polygons,
                    {"Id": outline.number, "object_id": names[outline.number], "area_px": outline.area_px},
                )
                for outline in outlines(numbers[date], sample.mask_arrays[date])
                if outline.class_id in self._schema.standing_ids
            ]
            name = f"{stem}_Buildings.geojson"
            _save(root / "labels_match_pix" / name, [(geometry(polygons), told) for polygons, told in found])
            if ground:
                matched = root / "labels_match" / name
                _save(matched, [(geometry(ground.lon_lat(polygons)), told) for polygons, told in found])
                _link(matched, root / "labels")
        return 1

    def _place(self, name: str) -> str:
        """The name of a place; readers cut file names at underscores, and compare the parts."""
        return self._names(name.replace("_", "-").replace(".", "-")).replace(".", "-")

    def close(self) -> None:
        """Nothing is left to write."""

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check images and labels of every place."""
        from changen_cli.exports.spacenet7_check import check_spacenet7

        yield from check_spacenet7(folder)


def _months(sample: Sample) -> list[str]:
    """``YYYY_MM`` of every date.

    Raises:
        UsageError: Two dates are in one month.
    """
    months = [tiff_datetime(date)[:7].replace(":", "_") for date in date_names(sample)]
    if len(set(months)) < len(months):
        given = ", ".join(sample.calendar)
        raise UsageError(
            f"two dates of {sample.id} are in one month ({given}), and spacenet7 has one image a month",
            "Make the dataset with --dates a month or more apart, or choose another layout",
        )
    return months


def _link(path: Path, folder: Path) -> None:
    """The same file in another folder of the place."""
    folder.mkdir(exist_ok=True)
    try:
        (folder / path.name).hardlink_to(path)
    except OSError:
        (folder / path.name).write_bytes(path.read_bytes())


def _save(path: Path, found: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    features = [{"type": "Feature", "properties": told, "geometry": shape} for shape, told in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
