"""STAC, read back with pystac; GeoParquet with geopandas."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import open_master
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

pystac = pytest.importorskip("pystac")
check = FORMATS["stac"].check
LABEL = "https://stac-extensions.github.io/label/v1.0.0/schema.json"


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    known = {}

    def get(name: str):
        if name not in known:
            known[name] = tmp_path_factory.mktemp("stac") / name
            export(made(name), known[name], layout="stac", progress=Silent())
        return known[name]

    return get


def items(folder):
    return {item.id: item for item in pystac.Catalog.from_file(str(folder / "catalog.json")).get_items(recursive=True)}


@pytest.mark.parametrize("name", ["building", "georeferenced", "pairs", "parquet"])
def test_pystac_reads_the_catalogue(name, made, exported) -> None:
    found = items(exported(name))
    samples = list(open_master(made(name)).samples())
    assert len(found) == 2 * sum(len(sample.masks) for sample in samples)
    for sample in samples:
        for t in range(len(sample.masks)):
            image, labels = found[f"{sample.id}_t{t}"], found[f"{sample.id}_t{t}_labels"]
            shown = {
                key: np.asarray(Image.open(item.assets[key].get_absolute_href()))
                for item in (image, labels)
                for key in item.assets
                if key != "labels"
            }
            assert np.array_equal(shown["image"], sample.images[t].array())
            assert np.array_equal(shown["mask"], sample.mask_arrays[t])
            assert np.array_equal(shown["instances"], sample.instance_arrays[t])
            assert ("change" in shown) == (t > 0)
            if t:
                changed = sample.mask_arrays[t] != sample.mask_arrays[t - 1]
                assert np.array_equal(shown["change"] > 0, changed)
            assert image.properties["changen:synthetic"] == (t > 0)
            assert image.get_collection().id == labels.get_collection().id == f"{made(name).name}-train"


@pytest.mark.parametrize("name", ["building", "georeferenced"])
def test_every_object_is_valid_stac(name, exported) -> None:
    """Against the core schemas pystac brings along; those of extensions are on the network, see the next test."""
    pytest.importorskip("jsonschema")
    from pystac.validation.local_validator import get_local_schema_cache
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    schemas = get_local_schema_cache()
    registry = Registry().with_resources(
        (uri, Resource.from_contents(schema, default_specification=DRAFT7)) for uri, schema in schemas.items()
    )
    from jsonschema import Draft7Validator

    kinds = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}
    paths = [path for path in exported(name).rglob("*.json") if path.name not in ("classes.json", "export.json")]
    assert len(paths) > 8
    for path in paths:
        content = json.loads(path.read_text())
        kind = kinds[content["type"]]
        schema = next(schema for uri, schema in schemas.items() if uri.endswith(f"/{kind}.json"))
        errors = list(Draft7Validator(schema, registry=registry).iter_errors(content))
        assert not errors, (path, errors[0].message)


@pytest.mark.parametrize("name", ["building", "landcover"])
def test_labels_have_what_the_label_extension_requires(name, made, exported) -> None:
    """Required fields, class objects and the link source. [stac-extensions/label v1.0.0, README and schema]"""
    classes = [row["name"] for row in json.loads((made(name) / "classes.json").read_text())["classes"]]
    found = items(exported(name))
    raw = [json.loads(path.read_text()) for path in exported(name).rglob("*_labels.json")]
    labels = [found[item["id"]] for item in raw if LABEL in item["stac_extensions"]]
    assert len(labels) == len(found) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from pystac.extensions.label import LabelExtension
    for item in labels:
        extension = LabelExtension.ext(item)
        assert (extension.label_type, extension.label_properties) == ("raster", None)
        assert extension.label_description and [c.classes for c in extension.label_classes] == [classes]
        assert item.properties["label:classes"][0]["name"] is None
        content = json.loads(Path(item.assets["labels"].get_absolute_href()).read_text())
        assert content["type"] == "FeatureCollection" and len(content["features"]) == 1
        assert sum(content["features"][0]["properties"]["pixels"].values()) == 128 * 128
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            sources = [source.id for source in extension.get_sources()]
        own = item.id.removesuffix("_labels")
        assert sources[0] == own and len(sources) == (1 if own.endswith("_t0") else 2)
        for link in item.get_links("source"):
            assert set(link.extra_fields["label:assets"]) <= set(found[own].assets)


def test_places_and_times(made, exported) -> None:
    from rasterio.warp import transform_bounds

    sample = next(open_master(made("georeferenced")).samples())
    item = items(exported("georeferenced"))[f"{sample.id}_t1"]
    a, _, c, _, e, f = sample.row["transform"]
    expected = transform_bounds(sample.row["crs"], "EPSG:4326", c, f + 128 * e, c + 128 * a, f)
    assert item.bbox == pytest.approx(expected, abs=1e-8)
    assert item.datetime.isoformat() == "2020-06-16T00:00:00+00:00"
    assert item.properties["proj:code"] == "EPSG:32640" and item.properties["proj:transform"] == sample.row["transform"]
    assert item.properties["gsd"] == pytest.approx(0.5)
    collection = item.get_collection()
    assert collection.extent.temporal.intervals[0][0].year == 2018
    assert collection.extent.spatial.bboxes[0][0] <= item.bbox[0]


def test_without_georeference_nothing_lies_anywhere(made, exported, tmp_path) -> None:
    found = items(exported("building"))
    assert all(item.geometry is None and item.bbox is None for item in found.values())
    assert not (exported("building") / "index.parquet").exists()
    report = export(made("building"), tmp_path / "out", layout="stac", progress=Silent())
    assert any("2018-01" in note for note in report.notes)


def test_the_index_is_geoparquet(made, exported) -> None:
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.read_parquet(exported("georeferenced") / "index.parquet")
    found = items(exported("georeferenced"))
    assert list(frame["id"]) == [sample.id for sample in open_master(made("georeferenced")).samples()]
    assert frame.crs is not None and frame.crs.to_epsg() in (4326, None)
    for row in frame.itertuples():
        assert row.geometry.is_valid and row.geometry.exterior.is_ccw
        assert list(row.geometry.bounds) == pytest.approx(found[f"{row.id}_t0"].bbox)
        assert all((exported("georeferenced") / href).is_file() for href in row.items)
        assert len(row.datetimes) == 3 and row.crs == "EPSG:32640" and len(row.changed_fraction) == 2


def test_the_folder_can_be_moved_and_split(made, tmp_path) -> None:
    export(made("georeferenced"), tmp_path / "out", layout="stac", shares=(0.5, 0.5), progress=Silent())
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(str(tmp_path / "elsewhere" / "catalog.json"))
    assert sorted(child.id for child in catalog.get_children()) == ["georeferenced-train", "georeferenced-val"]
    assert len(list(catalog.get_items(recursive=True))) == 12
    assert list(check(tmp_path / "elsewhere")) == []


@pytest.mark.parametrize("name", ["building", "georeferenced", "pairs", "landcover", "parquet"])
def test_the_check_finds_nothing_in_fresh_exports(name, exported) -> None:
    assert list(check(exported(name))) == []


def edit(ending: str, change):
    def spoil(folder) -> None:
        path = sorted(folder.rglob(f"*{ending}"))[0]
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def told(ending: str, **values):
    return edit(ending, lambda c: c["properties"].update(values))


def shrink(folder) -> None:
    path = sorted(folder.rglob("*_t1_mask.tif"))[0]
    image = Image.open(path).crop((0, 0, 9, 9))
    path.unlink()
    image.save(path)


DEFECTS = [
    (lambda f: (f / "catalog.json").unlink(), "neither catalog.json"),
    (lambda f: (f / "train" / "collection.json").write_text("{}"), "is no STAC object"),
    (lambda f: (f / "train" / "collection.json").unlink(), "links as child"),
    (edit("collection.json", lambda c: c.pop("license")), "lacks license"),
    (edit("collection.json", lambda c: c["extent"].pop("spatial")), "in its extent"),
    (edit("_t0.json", lambda c: c.pop("bbox")), "geometry without a bbox"),
    (edit("_t0.json", lambda c: c.update(geometry=None)), "bbox without a geometry"),
    (edit("_t0.json", lambda c: c.update(bbox=[0, 0, 1, 1])), "not that of its geometry"),
    (edit("_t0.json", lambda c: c["geometry"].update(coordinates=[[[3e5, 2e6], [3e5, 3e6], [4e5, 2e6], [3e5, 2e6]]])), "not in degrees"),
    (edit("_t0.json", lambda c: c["geometry"].update(type="Point", coordinates=[1, 2])), "no polygon"),
    (edit("_t0.json", lambda c: c["properties"].pop("datetime")), "lacks the property datetime"),
    (told("_t0.json", datetime="2018"), "is no time"),
    (told("_t0.json", datetime=None), "start_datetime None"),
    (edit("_t1.json", lambda c: c.update(id=c["id"].replace("_t1", "_t0"))), "has the id"),
    (edit("_t1.json", lambda c: c.pop("collection")), "field collection"),
    (lambda f: sorted(f.rglob("*_t0_image.tif"))[0].unlink(), "asset image"),
    (lambda f: (p := sorted(f.rglob("*_t0_mask.tif"))[0]).unlink() or p.write_bytes(b"II"), "cannot be read"),
    (shrink, "several sizes"),
    (told("_t0_labels.json", **{"label:type": "pixels"}), "label:type 'pixels'"),
    (told("_t0_labels.json", **{"label:description": ""}), "no label:description"),
    (told("_t0_labels.json", **{"label:properties": []}), "no label:properties"),
    (told("_t0_labels.json", **{"label:classes": [{"name": "a", "classes": []}]}), "with a wrong name"),
    (told("_t0_labels.json", **{"label:classes": [1]}), "without name and classes"),
    (edit("_t0_labels.json", lambda c: c["assets"].pop("labels")), "no asset labels"),
    (edit("_t0_labels.geojson", lambda c: c.update(type="Feature")), "no FeatureCollection"),
    (edit("_t0_labels.json", lambda c: c["links"].pop(0)), "no link source"),
    (edit("_t0_labels.json", lambda c: c["links"][0].update({"label:assets": ["rgb"]})), "names the asset rgb"),
    (edit("_t0_labels.json", lambda c: c["links"][0].update(href="./gone.json")), "links as source"),
]  # fmt: skip


@pytest.mark.parametrize(("spoiling", "message"), DEFECTS, ids=[f"{i}-{m}" for i, (_, m) in enumerate(DEFECTS)])
def test_the_check_finds(spoiling, message, exported, tmp_path) -> None:
    folder = shutil.copytree(exported("georeferenced"), tmp_path / "copy")
    spoiling(folder)
    findings = list(check(folder))
    assert any(message in finding.message for finding in findings), findings
    assert all(finding.fix for finding in findings)
