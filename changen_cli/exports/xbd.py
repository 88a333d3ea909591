"""xBD, the set of the xView2 challenge: pairs of images, buildings as polygons with uids, damage, raster targets.

``{split}/images/<disaster>_<8 digits>_{pre,post}_disaster.png``, ``labels/*.json`` of the same names, and
``targets/*_disaster_target.png``: 0 background, 1 to 4 xBD's joint damage scale. A uid links the polygons of a building
in both labels; only those of the second date have a ``subtype``. [DIUx-xView/xView2_baseline]

What xBD has no word for:

- A building that is gone is ``destroyed`` where it stood, as xBD defines it.
- A building that is new has no counterpart before. It is in the second label only, ``un-classified``, and not in the
  targets: they describe the buildings of the first date.
- One that was destroyed before the first date is no building of this pair; rebuilt, it is new.
- Unknown pixels of a dataset made from xBD are its un-classified polygons; so they are again, with target 1 as in the
  baseline's own targets. Other unknown pixels become background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.damage import DAMAGE_STATES
from changen_cli.core.types import IGNORE, ClassSchema, Int32Array, UInt8Array
from changen_cli.exports.dates import moment
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.images import put_rgb_png, save_json, save_png
from changen_cli.exports.master import Master, Pair, Sample, pairs
from changen_cli.exports.notes import Notes
from changen_cli.exports.objects import (
    OLD_DATASET,
    Ground,
    Outline,
    Polygon,
    need_buildings,
    object_numbers,
    outlines,
    trace,
)
from changen_cli.exports.wkt import to_wkt

UNCLASSIFIED = "un-classified"
_RIMS = (
    "xBD has no unknown ground: rims where the image moved away from its labels are shown as background, and so are "
    "un-classified buildings of the source, which cannot be told from them; --nuisance mild makes none"
)
_TYPES = {"flood": "flooding"}
_UNTOLD = ("off_nadir_angle", "sun_azimuth", "sun_elevation", "target_azimuth", "catalog_id")


class Xbd:
    """Writes xBD; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        need_buildings(master, "xbd")
        self._target, self._master, self._mode = target, master, mode
        source = master.manifest.get("source", {})
        disaster = source.get("damage", {}).get("disaster")
        self._disaster = f"changen-{disaster or 'change'}"
        self._type = _TYPES.get(disaster, disaster or "none")
        self._from_xbd = source.get("layout") == "xbd"
        self._count = 0
        self.notes = Notes()

    def write(self, sample: Sample, split: str) -> int:
        """Add the pairs of a sample."""
        numbers, names = object_numbers(sample, self._master.schema)
        self.notes.add(OLD_DATASET, holds=not sample.instances)
        chosen = pairs(sample, self._mode)
        for pair in chosen:
            name = f"{self._disaster}_{self._count:08d}"
            self._count += 1
            self._put(pair, _Buildings(pair, numbers, self._master.schema), names, self._target / split, name)
        return len(chosen)

    def _put(self, pair: Pair, buildings: _Buildings, names: Mapping[int, str], root: Path, name: str) -> None:
        ground = Ground(pair.sample.row)
        rims = bool(pair.sample.row.get("rim_px"))
        self.notes.add(_RIMS, holds=rims)
        unknown = _unknown(pair.masks[0]) if self._from_xbd and not rims else {}
        features: dict[str, list[tuple[str, str | None, list[Polygon]]]] = {
            "pre": [(names[number], None, outline) for number, outline in buildings.before.items()],
            "post": [(names[number], state, outline) for number, (state, outline) in buildings.after.items()],
        }
        targets = {"pre": (buildings.numbers[0] > 0).astype(np.uint8), "post": buildings.target}
        for which, image in zip(("pre", "post"), pair.images, strict=True):
            stem = f"{name}_{which}_disaster"
            subtype = UNCLASSIFIED if which == "post" else None
            found = features[which] + [(uid, subtype, polygons) for uid, polygons in unknown.items()]
            label = {
                "features": {
                    "lng_lat": [_feature(uid, state, ground.lon_lat(p)) for uid, state, p in found] if ground else [],
                    "xy": [_feature(uid, state, p) for uid, state, p in found],
                },
                "metadata": self._metadata(pair, which, f"{stem}.png"),
            }
            target = targets[which]
            if unknown:
                target = np.where(pair.masks[0] == IGNORE, np.uint8(1), target)
            put_rgb_png(image, root / "images" / f"{stem}.png")
            save_json(label, root / "labels" / f"{stem}.json")
            save_png(target, root / "targets" / f"{stem}_target.png")

    def _metadata(self, pair: Pair, which: str, file: str) -> dict[str, Any]:
        row, date = pair.sample.row, pair.first if which == "pre" else pair.second
        height, width = pair.masks[0].shape
        calendar = pair.sample.calendar
        return {
            "sensor": "changen",
            "provider_asset_type": "synthetic" if date else "source image",
            "gsd": row.get("gsd_m"),
            "pan_resolution": row.get("gsd_m"),
            "capture_date": moment(calendar[date]) if calendar else None,
            **dict.fromkeys(_UNTOLD),
            "disaster": self._disaster,
            "disaster_type": self._type,
            "original_width": width,
            "original_height": height,
            "width": width,
            "height": height,
            "id": f"{pair.sample.id}_t{date}",
            "img_name": file,
            "scene_id": row["scene_id"],
            "time_index": date,
        }

    def close(self) -> None:
        """Nothing is left to write."""

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check images, labels and targets of every split."""
        from changen_cli.exports.xbd_check import check_xbd

        yield from check_xbd(folder)


class _Buildings:
    """The buildings of two dates, as xBD sees them: those of the first, and what became of them.

    What is a building at both dates belongs to the building of the first, also where it was torn apart or joined to
    another.

    Attributes:
        numbers: Int32 ``[2, H, W]``, whose pixels they are.
        before: Number → polygons, at the first date.
        after: Number → subtype and polygons, at the second date.
        target: Uint8 ``[H, W]``, the raster target of the second date.
    """

    def __init__(self, pair: Pair, series: Int32Array, schema: ClassSchema) -> None:
        ruins = [np.isin(mask, schema.damage_ids[-1:]) for mask in pair.masks]
        first = np.where(ruins[0], 0, series[pair.first])
        second = np.where(ruins[0] & ruins[1], 0, series[pair.second])
        second = np.where((first > 0) & (second > 0), first, second)
        self.numbers = np.stack([first, second])
        self.before = trace(first)
        self.after: dict[int, tuple[str, list[Polygon]]] = {}
        values = np.zeros(int(series.max(initial=0)) + 1, dtype=np.uint8)
        for outline in outlines(second, pair.masks[1]):
            known = outline.number in self.before
            state = _state(outline, schema) if known else UNCLASSIFIED
            self.after[outline.number] = state, outline.polygons
            values[outline.number] = DAMAGE_STATES.index(state) + 1 if known else 0
        gone = set(self.before) - set(self.after)
        self.after |= {number: (DAMAGE_STATES[-1], self.before[number]) for number in gone}
        self.after = dict(sorted(self.after.items()))
        self.target: UInt8Array = values[second]
        self.target[np.isin(first, sorted(gone)) & (second == 0)] = len(DAMAGE_STATES)


def _state(outline: Outline, schema: ClassSchema) -> str:
    ids = schema.damage_ids
    return DAMAGE_STATES[ids.index(outline.class_id)] if outline.class_id in ids else DAMAGE_STATES[0]


def _unknown(mask: UInt8Array) -> dict[str, list[Polygon]]:
    """Uid → polygons of the connected regions where nothing is known."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask == IGNORE)
    return {f"unknown-{number:05d}": polygons for number, polygons in trace(labels.astype(np.int32)).items()}


def _feature(uid: str, subtype: str | None, polygons: list[Polygon]) -> dict[str, Any]:
    told = {} if subtype is None else {"subtype": subtype}
    return {"properties": {"feature_type": "building", **told, "uid": uid}, "wkt": to_wkt(polygons)}
