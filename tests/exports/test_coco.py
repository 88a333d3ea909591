"""COCO, read back with pycocotools."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from changen_cli.core.errors import UsageError
from changen_cli.exports.coco import run_lengths, segmentation
from changen_cli.exports.coco_check import decode_counts
from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import open_master
from changen_cli.exports.objects import outlines
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

pycocotools = pytest.importorskip("pycocotools")
check = FORMATS["coco"].check


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    known = {}

    def get(name: str):
        if name not in known:
            known[name] = tmp_path_factory.mktemp("coco") / name
            export(made(name), known[name], layout="coco", progress=Silent())
        return known[name]

    return get


def load(path):
    from pycocotools.coco import COCO

    return COCO(str(path))


@pytest.mark.parametrize("name", ["building", "pairs", "damage", "georeferenced", "parquet", "landcover"])
def test_pycocotools_gives_back_every_pixel(name, made, exported) -> None:
    coco = load(exported(name) / "train" / "annotations.json")
    samples = {sample.id: sample for sample in open_master(made(name)).samples()}
    names = json.loads((made(name) / "classes.json").read_text())["classes"]
    tracks = defaultdict(set)
    assert len(coco.imgs) == sum(len(sample.masks) for sample in samples.values())
    for image in coco.imgs.values():
        sample, date = samples[image["sample"]], image["time_index"]
        shown = np.asarray(Image.open(exported(name) / "train" / "images" / image["file_name"]))
        assert np.array_equal(shown, sample.images[date].array())
        numbers = np.zeros((image["height"], image["width"]), int)
        for note in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            mask = coco.annToMask(note).astype(bool)
            assert not numbers[mask].any()
            number = next(n for n, object_id in sample.objects.items() if object_id == note["object_id"])
            numbers[mask] = number
            rows, cols = np.nonzero(mask)
            assert note["area"] == mask.sum()
            assert note["bbox"] == [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
            assert note["iscrowd"] == 0
            category = coco.loadCats(note["category_id"])[0]
            assert set(np.unique(sample.mask_arrays[date][mask])) == {note["category_id"]}
            assert category["name"] == names[note["category_id"]]["name"]
            tracks[note["track_id"]].add((sample.id, number))
        assert np.array_equal(numbers, sample.instance_arrays[date])
    assert tracks and all(len(owners) == 1 for owners in tracks.values())
    assert len({owner for owners in tracks.values() for owner in owners}) == len(tracks)


def test_proposals_are_objects(made, tmp_path) -> None:
    copy = shutil.copytree(made("building"), tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["source"]["labels"] = "class-agnostic object proposals (regions), not ground truth"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    export(copy, tmp_path / "coco", layout="coco", progress=Silent())
    (category,) = load(tmp_path / "coco" / "train" / "annotations.json").cats.values()
    assert category == {"id": 1, "name": "building", "supercategory": "object"}


def test_classes_without_objects_are_refused(made, tmp_path) -> None:
    copy = shutil.copytree(made("pairs"), tmp_path / "copy")
    (copy / "classes.json").write_text((copy / "classes.json").read_text().replace('"building"', '"bare"'))
    with pytest.raises(UsageError, match="no class that is a building"):
        export(copy, tmp_path / "coco", layout="coco", progress=Silent())


def test_splits_have_annotations_of_their_own(made, tmp_path) -> None:
    report = export(made("pairs"), tmp_path / "coco", layout="coco", shares=(0.4, 0.3, 0.3), progress=Silent())
    assert report.items == {"train": 1, "val": 1, "test": 1}
    for split in ("train", "val", "test"):
        coco = load(tmp_path / "coco" / split / "annotations.json")
        assert sorted(coco.imgs) == [1, 2] and min(coco.anns) == 1
        assert {p.name for p in (tmp_path / "coco" / split).iterdir()} == {"images", "annotations.json"}
    assert list(check(tmp_path / "coco")) == []


def test_the_same_dataset_twice_gives_the_same_bytes(made, exported, tmp_path) -> None:
    export(made("building"), tmp_path / "again", layout="coco", progress=Silent())
    for name in ("train/annotations.json", "export.json", "classes.json"):
        assert (tmp_path / "again" / name).read_bytes() == (exported("building") / name).read_bytes()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(2, 40), width=st.integers(2, 40), smooth=st.floats(0.2, 2))
def test_any_shape_is_decoded_exactly(seed: int, height: int, width: int, smooth: float) -> None:
    """Polygons along pixel edges where no piece has a hole, RLE where one has: pycocotools decodes both to the pixels."""
    from pycocotools import mask as cocomask

    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), smooth)
    numbers = np.where(noise > 0, rng.integers(1, 3), 0).astype(np.int32)
    for outline in outlines(numbers, (numbers > 0).astype(np.uint8)):
        pixels = numbers == outline.number
        shape = segmentation(outline, pixels)
        rle = cocomask.frPyObjects(shape, height, width)
        decoded = cocomask.decode(cocomask.merge(rle) if isinstance(shape, list) else rle)
        assert np.array_equal(decoded, pixels)
        assert isinstance(shape, list) == all(len(polygon) == 1 for polygon in outline.polygons)
        rows, cols = np.nonzero(pixels)
        assert outline.box == (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
        assert outline.area_px == pixels.sum()
        compressed = cocomask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
        assert decode_counts(compressed).tolist() == run_lengths(pixels)


def edit(folder, change) -> None:
    path = folder / "train" / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def note(**values):
    return lambda f: edit(f, lambda c: c["annotations"][3].update(values))


def shrink(folder) -> None:
    path = sorted((folder / "train" / "images").iterdir())[0]
    image = Image.open(path).crop((0, 0, 64, 64))
    path.unlink()
    image.save(path)


DEFECTS = [
    (lambda f: (f / "train" / "annotations.json").unlink(), "holds no annotations.json"),
    (lambda f: (f / "train" / "annotations.json").write_text("{"), "is no COCO file"),
    (lambda f: edit(f, lambda c: c.pop("categories")), "is no COCO file"),
    (lambda f: sorted((f / "train" / "images").iterdir())[0].unlink(), "is missing"),
    (lambda f: (f / "train" / "images" / "stray.png").write_bytes(b""), "is not listed"),
    (shrink, "64 × 64 px"),
    (lambda f: edit(f, lambda c: c["images"][0].update(file_name=c["images"][1]["file_name"])), "more than once"),
    (lambda f: edit(f, lambda c: c["images"][0].pop("width")), "without file_name, width and height"),
    (lambda f: edit(f, lambda c: c["annotations"].append(c["annotations"][0])), "uses 1 id(s) of annotations"),
    (note(image_id=999), "image 999, which is not listed"),
    (note(category_id=9), "category 9, which is not listed"),
    (note(iscrowd=None), "iscrowd None"),
    (note(area=5000), "has the area 5000"),
    (note(bbox=[0, 0, 3, 3]), "has the bbox"),
    (note(bbox=[1, 2]), "no bbox of four numbers"),
    (note(segmentation=[[1, 1, 500, 1, 5, 5]]), "leaves the image"),
    (note(segmentation=[[1, 1, 5, 5]]), "fewer than three corners"),
    (note(segmentation={"size": [128, 128], "counts": [5, 5]}), "RLE of [128, 128]"),
    (note(segmentation={"size": [128, 128], "counts": [128 * 128]}), "has no pixels"),
    (lambda f: edit(f, lambda c: c["annotations"][1].update(track_id=c["annotations"][0]["track_id"])), "A track is one object"),
]  # fmt: skip


@pytest.mark.parametrize(("spoiling", "message"), DEFECTS, ids=[f"{i}-{m}" for i, (_, m) in enumerate(DEFECTS)])
def test_the_check_finds(spoiling, message, exported, tmp_path) -> None:
    folder = shutil.copytree(exported("building"), tmp_path / "copy")
    assert list(check(folder)) == []
    spoiling(folder)
    findings = list(check(folder))
    assert any(message in f"{finding.message}; {finding.fix}" for finding in findings), findings
    assert all(finding.fix for finding in findings)


@pytest.mark.parametrize("name", ["building", "pairs", "damage", "georeferenced", "landcover", "parquet"])
def test_the_check_finds_nothing_in_fresh_exports(name, exported) -> None:
    assert list(check(exported(name))) == []


def test_foreign_folders(exported, tmp_path) -> None:
    """The tree of COCO itself: annotations/*.json beside the images, compressed RLE."""
    from pycocotools import mask as cocomask

    target = tmp_path / "coco"
    (target / "annotations").mkdir(parents=True)
    shutil.copytree(exported("building") / "train" / "images", target / "train2017")
    content = json.loads((exported("building") / "train" / "annotations.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for image in content["images"]:
        image["file_name"] = f"train2017/{image['file_name']}"
    for entry in content["annotations"]:
        rle = cocomask.merge(cocomask.frPyObjects(entry["segmentation"], *sizes[entry["image_id"]]))
        entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        entry.pop("track_id")
    (target / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert list(check(target)) == []
