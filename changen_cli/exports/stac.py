"""STAC: a catalogue of images and of their labels, which GIS tools and data cubes read.

``catalog.json`` → ``{split}/collection.json`` → ``{split}/<sample>/<sample>_t<date>.json``, an item for the image of a
date and one, ``…_labels.json``, for its labels, with the label extension v1.0.0: rasters (``mask``, ``instances``, and
``change`` since the date before), the asset ``labels`` with their extent, and links ``source`` to the images' items.
Paths are relative: the folder can be moved. [radiantearth/stac-spec 1.1.0, stac-extensions/label, …/projection]

Samples without georeference have ``geometry`` null and no ``bbox``, as the specification wants, and their collection
claims the whole earth, because it must claim something. Georeferenced ones are also listed in ``index.parquet``
(GeoParquet), one row per sample with its footprint.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from changen_cli.core.licences import to_spdx
from changen_cli.exports.dates import INVENTED, date_names, moment
from changen_cli.exports.findings import Finding
from changen_cli.exports.formats import PairMode
from changen_cli.exports.master import Master, Sample, Stored
from changen_cli.exports.names import SafeNames
from changen_cli.exports.objects import Ground, Ring
from changen_cli.exports.reading import Row

VERSION = "1.1.0"
LABEL = "https://stac-extensions.github.io/label/v1.0.0/schema.json"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
INDEX = "index.parquet"
_MEDIA = {".png": "image/png", ".tif": "image/tiff; application=geotiff"}
_GEOJSON, _JSON = "application/geo+json", "application/json"
_DESCRIPTION = (
    "Semantic mask, object numbers and change mask of one date of a series made by changen; classes in the order of "
    "their ids in the mask"
)
_WHOLE_EARTH = [-180.0, -90.0, 180.0, 90.0]


class Stac:
    """Writes the catalogue; implements :class:`changen_cli.exports.formats.Exporter`."""

    def __init__(self, target: Path, master: Master, mode: PairMode) -> None:
        self._target, self._master = target, master
        self._names = SafeNames()
        self._items: dict[str, list[str]] = {}
        self._boxes: dict[str, list[list[float]]] = {}
        self._moments: dict[str, set[str]] = {}
        self._index: list[Row] = []
        self.notes: list[str] = []

    def write(self, sample: Sample, split: str) -> int:
        """Add the items of a sample."""
        if not sample.calendar and INVENTED not in self.notes:
            self.notes.append(INVENTED)
        stem, ground = self._names(sample.id), Ground(sample.row)
        root = self._target / split / stem
        shape = sample.mask_arrays.shape[1:]
        ring = ground.footprint((shape[0], shape[1]))[0] if ground else None
        moments = [moment(date) for date in date_names(sample)]
        ids: list[str] = []
        for date, when in enumerate(moments):
            image, labels = self._image(sample, date, stem, root), self._labels(sample, date, stem, root, ring)
            for item in (image, labels):
                item = _item(item, when, ring, self._collection(split)) | {"links": [*item["links"], *_LINKS]}
                _save(root / f"{item['id']}.json", item)
                ids.append(f"{stem}/{item['id']}.json")
        self._items.setdefault(split, []).extend(ids)
        self._moments.setdefault(split, set()).update(moments)
        if ring:
            self._boxes.setdefault(split, []).append(_box(ring))
        self._index.append(_index_row(sample, split, moments, [f"{split}/{name}" for name in ids], ring))
        return 1

    def _image(self, sample: Sample, date: int, stem: str, root: Path) -> Row:
        """What is special of the item of an image."""
        asset = _asset(sample.images[date], root, f"{stem}_t{date}_image", "Image", "visual")
        told = {"changen:synthetic": date > 0, **_told(sample, date)}
        return {"id": f"{stem}_t{date}", "properties": told, "assets": {"image": asset}, "links": []}

    def _labels(self, sample: Sample, date: int, stem: str, root: Path, ring: Ring | None) -> Row:
        """What is special of the item of the labels of an image."""
        name, classes = f"{stem}_t{date}", list(self._master.schema.names)
        counts = np.bincount(sample.mask_arrays[date].ravel(), minlength=256)
        pixels = {label: int(counts[index]) for index, label in enumerate(classes)} | {"unknown": int(counts[255])}
        extent = {"type": "Feature", "geometry": _polygon(ring), "properties": {"pixels": pixels}}
        _save(root / f"{name}_labels.geojson", {"type": "FeatureCollection", "features": [extent]})
        labels = {
            "href": f"./{name}_labels.geojson",
            "type": _GEOJSON,
            "title": "Extent of the labels",
            "roles": ["labels"],
        }
        assets = {
            "labels": labels,
            "mask": _asset(sample.masks[date], root, f"{name}_mask", "Class ids, 255 unknown", "labels"),
        }
        if sample.instances:
            assets["instances"] = _asset(
                sample.instances[date], root, f"{name}_instances", "Object numbers, 0 none", "labels"
            )
        if date:
            stored, title = sample.changes[date - 1], f"Change since {stem}_t{date - 1}: 0 no, 255 yes"
            assets["change"] = _asset(stored, root, f"{name}_change", title, "labels")
        sources = [name, *([f"{stem}_t{date - 1}"] if date else [])]
        told = _told(sample, date) | {
            "label:type": "raster",
            "label:properties": None,
            "label:classes": [{"name": None, "classes": classes}],
            "label:description": _DESCRIPTION,
            "label:tasks": ["segmentation"],
            "label:methods": ["automated"],
        }
        links = [
            {"rel": "source", "href": f"./{source}.json", "type": _GEOJSON, "label:assets": ["image"]}
            for source in sources
        ]
        return {
            "id": f"{name}_labels",
            "properties": told,
            "assets": assets,
            "links": links,
            "stac_extensions": [LABEL],
        }

    def _collection(self, split: str) -> str:
        return f"{self._master.name}-{split}"

    def close(self) -> None:
        """Write the collections, the catalogue, and the index where anything lies somewhere."""
        if any(row["geometry"] for row in self._index):
            _write_index(self._index, self._target / INDEX)
        children = []
        for split, items in sorted(self._items.items()):
            boxes = np.array(self._boxes.get(split) or [_WHOLE_EARTH])
            times = sorted(self._moments[split])
            links = [{"rel": "item", "href": f"./{item}", "type": _GEOJSON} for item in items]
            _save(self._target / split / "collection.json", {
                "type": "Collection",
                "stac_version": VERSION,
                "id": self._collection(split),
                "title": f"{self._master.name}: {split}",
                "description": "Image time series with masks, made by changen"
                + ("" if split in self._boxes else "; without georeference, so that the extent means nothing"),
                "license": to_spdx(str(self._master.card.get("license"))),
                "extent": {
                    "spatial": {"bbox": [[*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]]},
                    "temporal": {"interval": [[times[0], times[-1]]]},
                },
                "links": [_link("root", "../catalog.json"), _link("parent", "../catalog.json"), *links],
            })  # fmt: skip
            children.append(_link("child", f"./{split}/collection.json"))
        _save(self._target / "catalog.json", {
            "type": "Catalog",
            "stac_version": VERSION,
            "id": self._master.name,
            "description": "Image time series with exact change labels, made by changen",
            "links": [_link("root", "./catalog.json"), *children],
        })  # fmt: skip

    @staticmethod
    def check(folder: Path) -> Iterator[Finding]:
        """Check the catalogue and everything it links to."""
        from changen_cli.exports.stac_check import check_stac

        yield from check_stac(folder)


def _link(rel: str, href: str) -> Row:
    return {"rel": rel, "href": href, "type": _JSON}


_LINKS = (
    _link("root", "../../catalog.json"),
    _link("parent", "../collection.json"),
    _link("collection", "../collection.json"),
)


def _item(special: Row, when: str, ring: Ring | None, collection: str) -> Row:
    projected = any(key.startswith("proj:") for key in special["properties"])
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": special.get("stac_extensions", []) + ([PROJECTION] if projected else []),
        "id": special["id"],
        "geometry": _polygon(ring),
        **({"bbox": _box(ring)} if ring else {}),
        "properties": {"datetime": when, **special["properties"]},
        "assets": special["assets"],
        "collection": collection,
    }


def _told(sample: Sample, date: int) -> Row:
    """Properties of every item of a date."""
    row = sample.row
    told: Row = {"changen:sample": sample.id, "changen:scene": row["scene_id"], "changen:time_index": date}
    if row.get("gsd_m"):
        told["gsd"] = row["gsd_m"]
    if row.get("crs") and row.get("transform"):
        is_code = str(row["crs"]).startswith("EPSG:")
        told |= {"proj:code": row["crs"]} if is_code else {"proj:code": None, "proj:wkt2": row["crs"]}
        told |= {"proj:shape": [row["height"], row["width"]], "proj:transform": row["transform"]}
    return told


def _asset(stored: Stored, root: Path, stem: str, title: str, *roles: str) -> Row:
    """Put a file beside its item, and describe it."""
    stored.put(root / f"{stem}{stored.suffix}")
    return {
        "href": f"./{stem}{stored.suffix}",
        "type": _MEDIA[stored.suffix],
        "title": title,
        "roles": ["data", *roles],
    }


def _polygon(ring: Ring | None) -> Row | None:
    return None if ring is None else {"type": "Polygon", "coordinates": [ring]}


def _box(ring: Ring) -> list[float]:
    corners = np.array(ring)
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def _index_row(sample: Sample, split: str, moments: list[str], items: list[str], ring: Ring | None) -> Row:
    row = sample.row
    return {
        "id": sample.id,
        "split": split,
        **{key: row.get(key) for key in ("scene_id", "group", "crs", "transform", "gsd_m", "height", "width")},
        "datetimes": moments,
        "event_count": row.get("event_count"),
        "changed_fraction": row.get("changed_fraction"),
        "items": items,
        "geometry": None if ring is None else _well_known_binary(ring),
    }


def _well_known_binary(ring: Ring) -> bytes:
    """A polygon of one ring as little-endian WKB."""
    points = b"".join(struct.pack("<2d", *point) for point in ring)
    return struct.pack("<BIII", 1, 3, 1, len(ring)) + points


def _write_index(rows: list[Row], path: Path) -> None:
    """Write GeoParquet 1.1.0; without a CRS its geometries are longitude and latitude, WGS 84."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = {"encoding": "WKB", "geometry_types": ["Polygon"], "orientation": "counterclockwise"}
    told = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(told)}), path)


def _save(path: Path, content: Row) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
