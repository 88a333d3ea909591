"""SpaceNet 7, read back as torchgeo lists and rasterises it, and with geopandas."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import open_master
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

check = FORMATS["spacenet7"].check


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    known = {}

    def get(name: str):
        if name not in known:
            known[name] = tmp_path_factory.mktemp("spacenet7") / name
            export(made(name), known[name], layout="spacenet7", progress=Silent())
        return known[name]

    return get


def keys(path: str) -> list[int | str]:
    """By what torchgeo sorts and joins files: the numbers and words between the month and the last digit of a path."""
    found = re.search(r"global_monthly_(\d+.*\d+)", path)
    return [int(part) if part.isdigit() else part for part in found.group(1).split("_")]


def listed(root: Path, images: str, labels: str) -> list[tuple[str, str]]:
    """Images and labels as torchgeo's SpaceNet7 joins them: sorted, then matched in turn. [torchgeo spacenet/base.py]"""
    found = sorted((str(p) for p in (root / "train").glob(f"**/{images}/*.tif")), key=keys)
    masks = sorted((str(p) for p in (root / "train").glob(f"**/{labels}/*_Buildings.geojson")), key=keys)
    turn = iter(found)
    matched = [next(image for image in turn if keys(image) == keys(mask)) for mask in masks]
    assert len(matched) == len(found)
    return list(zip(matched, masks, strict=True))


@pytest.mark.parametrize("labels", ["labels", "labels_match"])
@pytest.mark.parametrize("images", ["images", "images_masked"])
def test_as_torchgeo_reads_it(images, labels, made, exported) -> None:
    geopandas = pytest.importorskip("geopandas")
    import rasterio
    from rasterio.features import rasterize

    joined = listed(exported("georeferenced"), images, labels)
    samples = list(open_master(made("georeferenced")).samples())
    assert len(joined) == sum(len(sample.masks) for sample in samples)
    for image, mask in joined:
        with rasterio.open(image) as source:
            frame = geopandas.read_file(mask).to_crs(source.crs)
            filled = rasterize(list(frame.geometry), out_shape=source.shape, transform=source.transform)
            pixels = source.read()
        sample = next(s for s in samples if s.id.replace("_", "-") in image)
        date = ["2018_01", "2020_06", "2023_01"].index(re.search(r"monthly_(\d+_\d+)_", image)[1])
        assert np.array_equal(filled > 0, sample.mask_arrays[date] == 1)
        assert np.array_equal(np.moveaxis(pixels, 0, 2), sample.images[date].array())


@pytest.mark.parametrize("name", ["building", "georeferenced", "pairs"])
def test_ids_last(name, made, exported) -> None:
    """One Id a building, through all dates; filled by pixel centres it is exactly the building. [arXiv:2102.04420]"""
    from rasterio.features import rasterize

    for sample in open_master(made(name)).samples():
        place = exported(name) / "train" / sample.id.replace("_", "-")
        files = sorted((place / "labels_match_pix").iterdir())
        assert len(files) == len(sample.masks) == len(list((place / "images").iterdir()))
        for date, path in enumerate(files):
            features = json.loads(path.read_text())["features"]
            numbers = sample.instance_arrays[date]
            assert [f["properties"]["Id"] for f in features] == np.unique(numbers[numbers > 0]).tolist()
            for feature in features:
                own = rasterize([feature["geometry"]], out_shape=numbers.shape)
                assert np.array_equal(own > 0, numbers == feature["properties"]["Id"])
                assert feature["properties"]["object_id"] == sample.objects[feature["properties"]["Id"]]
                assert feature["properties"]["area_px"] == own.sum()


def test_without_georeference_there_are_pixels_only(exported, made, tmp_path) -> None:
    place = next((exported("building") / "train").iterdir())
    assert {p.name for p in place.iterdir()} == {"images", "images_masked", "labels_match_pix"}
    names = sorted(p.name for p in (place / "images").iterdir())
    assert names[0].startswith("global_monthly_2018_01_") and names[2].startswith("global_monthly_2018_03_")
    sample = next(s for s in open_master(made("building")).samples() if s.id.replace("_", "-") == place.name)
    assert np.array_equal(np.asarray(Image.open(place / "images" / names[1])), sample.images[1].array())
    report = export(made("building"), tmp_path / "out", layout="spacenet7", progress=Silent())
    assert any("2018-01" in note for note in report.notes) and any("labels_match_pix only" in n for n in report.notes)
    assert report.items == {"train": 2}


def test_dates_of_one_month_are_refused(made, tmp_path) -> None:
    copy = shutil.copytree(made("georeferenced"), tmp_path / "copy")
    table = copy / "train" / "metadata.jsonl"
    table.write_text(table.read_text().replace('"2020-06"', '"2018-01-20"'))
    with pytest.raises(UsageError, match="in one month"):
        export(copy, tmp_path / "out", layout="spacenet7", progress=Silent())
    assert not (tmp_path / "out").exists()


def test_a_destroyed_building_has_no_feature(made, exported) -> None:
    for sample in open_master(made("damage")).samples():
        place = exported("damage") / "train" / sample.id.replace("_", "-") / "labels_match_pix"
        for path, numbers, mask in zip(
            sorted(place.iterdir()), sample.instance_arrays, sample.mask_arrays, strict=True
        ):
            ids = {feature["properties"]["Id"] for feature in json.loads(path.read_text())["features"]}
            assert ids == set(np.unique(numbers[np.isin(mask, (1, 2, 3))]))
        assert (sample.mask_arrays == 4).any()


def test_datasets_older_than_instance_masks(made, tmp_path) -> None:
    """Without them an object is a connected region; what stays keeps its Id."""
    copy = shutil.copytree(made("building"), tmp_path / "copy")
    table = copy / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if "instance" not in k and k != "objects_file"} for row in rows]
    table.write_text("".join(json.dumps(row) + "\n" for row in kept))
    report = export(copy, tmp_path / "out", layout="spacenet7", progress=Silent())
    assert any("older than instance masks" in note for note in report.notes)
    assert list(check(tmp_path / "out")) == []
    for sample in open_master(made("building")).samples():
        place = tmp_path / "out" / "train" / sample.id.replace("_", "-") / "labels_match_pix"
        ids = [{f["properties"]["Id"] for f in json.loads(p.read_text())["features"]} for p in sorted(place.iterdir())]
        known = [set(np.unique(n)) - {0} for n in sample.instance_arrays]
        assert [len(one & other) for one, other in pairwise(ids)] == [len(a & b) for a, b in pairwise(known)]
        assert [len(one) for one in ids] == [len(one) for one in known]


@pytest.mark.parametrize("name", ["building", "georeferenced", "pairs", "damage", "parquet"])
def test_the_check_finds_nothing_in_fresh_exports(name, exported) -> None:
    assert list(check(exported(name))) == []


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content["features"])
    path.unlink()
    path.write_text(json.dumps(content))


def rewrite(path: Path, **changes) -> None:
    import rasterio

    with rasterio.open(path) as source:
        profile, pixels = source.profile, source.read()
    path.unlink()
    bands = changes.get("count", 3)
    size = {"driver": "GTiff", "width": pixels.shape[2], "height": pixels.shape[1]}
    profile = {k: profile[k] for k in ("crs", "transform", "dtype")} | size | {"count": bands} | changes
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels[:bands])


def file(folder: Path, kind: str, index: int = 0) -> Path:
    place = sorted((folder / "train").iterdir())[0]
    return sorted((place / kind).iterdir())[index]


def moved():
    from rasterio.transform import from_origin

    return from_origin(0, 0, 2, 2)


def swap(features) -> None:
    a, b = features[0]["properties"], features[-1]["properties"]
    a["Id"], b["Id"] = b["Id"], a["Id"]


DEFECTS = [
    (lambda f: file(f, "images").rename(file(f, "images").with_name("a.tif")), "tells no month"),
    (lambda f: file(f, "images").rename(str(file(f, "images")).replace("2018_01", "2018_13")), "tells no month"),
    (lambda f: rewrite(file(f, "images", 1), transform=moved()), "another grid"),
    (lambda f: rewrite(file(f, "images", 1), count=1), "1 band(s)"),
    (lambda f: (file(f, "images").unlink(), (file(f, "images_masked").write_bytes(b"II*"))), "cannot be read"),
    (lambda f: file(f, "labels_match").unlink(), "is missing"),
    (lambda f: file(f, "labels_match_pix").write_text("{}"), "is no FeatureCollection"),
    (lambda f: edit(file(f, "labels_match_pix"), lambda x: x[0]["properties"].pop("Id")), "has no whole Id"),
    (lambda f: edit(file(f, "labels_match_pix"), lambda x: x.append(x[0])), "again"),
    (lambda f: edit(file(f, "labels_match_pix"), lambda x: x[0]["geometry"]["coordinates"][0].pop()), "closed rings"),
    (lambda f: edit(file(f, "labels_match_pix"), lambda x: x[0]["geometry"].update(type="Point")), "closed rings"),
    (lambda f: edit(file(f, "labels_match_pix", 1), swap), "elsewhere than the date before"),
    (lambda f: edit(file(f, "labels_match"), lambda x: x.pop()), "shows other Ids"),
    (lambda f: edit(file(f, "labels_match"), lambda x: x[0].update(geometry={"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 2]]]})), "leaves the image"),
    (lambda f: shutil.rmtree(f / "train"), "holds no place"),
]  # fmt: skip


@pytest.mark.parametrize(("spoiling", "message"), DEFECTS, ids=[f"{i}-{m}" for i, (_, m) in enumerate(DEFECTS)])
def test_the_check_finds(spoiling, message, exported, tmp_path) -> None:
    folder = shutil.copytree(exported("georeferenced"), tmp_path / "copy")
    assert list(check(folder)) == []
    spoiling(folder)
    findings = list(check(folder))
    assert any(message in finding.message for finding in findings), findings
    assert all(finding.fix for finding in findings)
