"""Make the bundled sample: georeferenced scenes and GeoJSON buildings to an xBD tree.

Usage: python tools/make_sample.py IMAGES_DIR BUILDINGS.geojson OUTPUT STEM [STEM ...]

Images are copied byte for byte. Every building becomes one polygon in ``xy`` (pixels) and ``lng_lat`` (degrees) under
one uid, derived from its OpenStreetMap id. Polygons that leave the scene are kept whole: readers clip them when they
rasterise.
"""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import rasterio
from rasterio.warp import transform as warp

Ring = list[tuple[float, float]]


def wkt(rings: list[Ring], digits: int) -> str:
    """Format rings as a WKT polygon."""
    return "POLYGON (" + ", ".join(
        "(" + ", ".join(f"{x:.{digits}f} {y:.{digits}f}" for x, y in ring) + ")" for ring in rings
    ) + ")"  # fmt: skip


def to_pixels(ring: Ring, dataset: Any) -> Ring:
    """Project a ring of degrees into pixels of ``dataset``."""
    xs, ys = warp("EPSG:4326", dataset.crs, *zip(*ring, strict=True))
    return [~dataset.transform * point for point in zip(xs, ys, strict=True)]


def label(image: Path, features: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the xBD label of one image."""
    xy, lng_lat = [], []
    with rasterio.open(image) as dataset:
        for feature in features:
            degrees = [[tuple(point[:2]) for point in ring] for ring in feature["geometry"]["coordinates"]]
            pixels = [to_pixels(ring, dataset) for ring in degrees]
            cols, rows = zip(*pixels[0], strict=True)
            if max(cols) <= 0 or max(rows) <= 0 or min(cols) >= dataset.width or min(rows) >= dataset.height:
                continue
            uid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"osm:{feature['properties']['osm_id']}"))
            properties = {"feature_type": "building", "uid": uid}
            xy.append({"properties": properties, "wkt": wkt(pixels, 2)})
            lng_lat.append({"properties": properties, "wkt": wkt(degrees, 7)})
        size = {"original_width": dataset.width, "original_height": dataset.height}
    size |= {"width": size["original_width"], "height": size["original_height"]}
    metadata = {"sensor": "UAV", "disaster": "none", "disaster_type": "none", "img_name": image.name, **size}
    return {"features": {"lng_lat": lng_lat, "xy": xy}, "metadata": metadata}


def main(images: Path, buildings: Path, output: Path, stems: list[str]) -> None:
    """Write the tree."""
    features = json.loads(buildings.read_text(encoding="utf-8"))["features"]
    (output / "images").mkdir(parents=True, exist_ok=True)
    (output / "labels").mkdir(exist_ok=True)
    for index, stem in enumerate(stems):
        name = f"banepa_{index:08d}_pre_disaster"
        target = output / "images" / f"{name}.tif"
        shutil.copyfile(images / f"{stem}.tif", target)
        text = json.dumps(label(target, features), separators=(",", ":"))
        (output / "labels" / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
