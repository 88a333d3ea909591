"""xBD, read back by its own rules, and by the reader of this package.

File names, uids, subtypes and target values are those of DIUx-xView/xView2_baseline; polygons are filled here by rasterio
from shapely's reading of the text, independently of the code under test.
"""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.exports.formats import FORMATS
from changen_cli.exports.master import open_master, pairs
from changen_cli.sources.xbd import read_label
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

STATES = {"no-damage": 1, "minor-damage": 2, "major-damage": 3, "destroyed": 4}
NAME = re.compile(r"(.+)_(\d{8})_(pre|post)_disaster")


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """Return ``get(name, **options)``: the export of a dataset, made once."""
    known = {}

    def get(name: str, **options):
        key = name, tuple(options.items())
        if key not in known:
            known[key] = tmp_path_factory.mktemp("xbd") / name
            export(made(name), known[key], layout="xbd", progress=Silent(), **options)
        return known[key]

    return get


def read(path):
    return json.loads(path.read_text())


def filled(wkt: str, shape) -> np.ndarray:
    shapely = pytest.importorskip("shapely")
    from rasterio.features import rasterize

    outline = shapely.from_wkt(wkt)
    assert outline.is_valid
    return rasterize([outline], out_shape=shape).astype(bool)


def labels(folder, which):
    """Label of every pair, in the order of their numbers."""
    return [read(path) for path in sorted((folder / "train" / "labels").glob(f"*_{which}_disaster.json"))]


@pytest.mark.parametrize("name", ["building", "pairs", "damage", "georeferenced", "parquet"])
def test_every_file_has_its_name_and_its_partners(name, made, exported) -> None:
    folder = exported(name)
    stems = [path.stem for path in (folder / "train" / "images").iterdir()]
    scenes = {NAME.fullmatch(stem).group(1, 2) for stem in stems}
    steps = sum(len(sample.changes) for sample in open_master(made(name)).samples())
    assert len(stems) == 2 * len(scenes) == 2 * steps
    for stem in stems:
        image = Image.open(folder / "train" / "images" / f"{stem}.png")
        target = Image.open(folder / "train" / "targets" / f"{stem}_target.png")
        metadata = read(folder / "train" / "labels" / f"{stem}.json")["metadata"]
        assert (image.mode, target.mode) == ("RGB", "L") and image.size == target.size
        assert (metadata["width"], metadata["height"]) == image.size
        assert metadata["img_name"] == f"{stem}.png"
        assert metadata["disaster"] == NAME.fullmatch(stem).group(1)


@pytest.mark.parametrize("name", ["building", "damage", "georeferenced"])
def test_polygons_uids_and_targets_say_what_the_masks_say(name, made, exported) -> None:
    folder = exported(name)
    found = [pair for sample in open_master(made(name)).samples() for pair in pairs(sample)]
    for pair, pre, post in zip(found, labels(folder, "pre"), labels(folder, "post"), strict=True):
        first, second = pair.masks
        ruins = first == 4  # no building of this pair, if it was destroyed before
        old = np.where(ruins, 0, pair.sample.instance_arrays[pair.first])
        new = np.where(ruins & (second == 4), 0, pair.sample.instance_arrays[pair.second])
        before = {e["properties"]["uid"]: e for e in pre["features"]["xy"]}
        after = {e["properties"]["uid"]: e for e in post["features"]["xy"]}
        assert len(before) == len(pre["features"]["xy"]) and set(before) <= set(after)
        assert all("subtype" not in e["properties"] for e in before.values())
        target = np.zeros(first.shape, np.uint8)
        for number, uid in pair.sample.objects.items():
            if (old == number).any():
                assert np.array_equal(filled(before[uid]["wkt"], first.shape), old == number)
                state = int(second[old == number][0]) if (new == number).any() else 4
                assert STATES[after[uid]["properties"]["subtype"]] == state
                target[old == number] = state
            elif (new == number).any():
                assert after[uid]["properties"]["subtype"] == "un-classified" and uid not in before
                assert np.array_equal(filled(after[uid]["wkt"], first.shape), new == number)
        stem = pre["metadata"]["img_name"].removesuffix("_pre_disaster.png")
        for which, expected in (("pre", old > 0), ("post", target)):
            path = folder / "train" / "targets" / f"{stem}_{which}_disaster_target.png"
            assert np.array_equal(np.asarray(Image.open(path)), expected)
    states = {e["properties"]["subtype"] for label in labels(folder, "post") for e in label["features"]["xy"]}
    assert states == {
        "building": {"no-damage", "destroyed", "un-classified"},
        "georeferenced": {"no-damage", "destroyed", "un-classified"},
        "damage": {"no-damage", "destroyed"},
    }[name]  # fmt: skip


def test_all_states_of_damage(made, tmp_path) -> None:
    copy = shutil.copytree(made("damage"), tmp_path / "copy")
    sample = next(open_master(copy).samples())
    repaint(
        sample.masks[1].path,
        lambda a: np.where(sample.instance_arrays[1] % 4 == 0, a, sample.instance_arrays[1] % 4 + 1).astype(np.uint8),
    )
    expected = {sample.objects[n]: n % 4 + 1 for n in np.unique(sample.instance_arrays[1]).tolist() if n % 4}
    export(copy, tmp_path / "steps", layout="xbd", progress=Silent())
    found = {
        e["properties"]["uid"]: STATES[e["properties"]["subtype"]]
        for e in labels(tmp_path / "steps", "post")[0]["features"]["xy"]
    }
    assert expected.items() <= found.items() and {2, 3, 4} <= set(expected.values())
    assert list(FORMATS["xbd"].check(tmp_path / "steps")) == []


def test_a_building_destroyed_before_the_first_date(made, tmp_path) -> None:
    """It is no building of the pair, and a new one if it was rebuilt; the images show no more."""
    copy = shutil.copytree(made("damage"), tmp_path / "copy")
    sample = next(open_master(copy).samples())
    numbers = sample.instance_arrays[1]
    kept, rebuilt = (int(number) for number in np.unique(numbers[numbers > 0])[:2])
    ruins = np.isin(numbers, (kept, rebuilt))
    for stored, ruin in zip(sample.masks[1:], (ruins, numbers == kept), strict=True):
        repaint(stored.path, lambda a, ruin=ruin: np.where(ruin, 4, np.where(ruins, 1, a)).astype(np.uint8))
    export(copy, tmp_path / "xbd", layout="xbd", progress=Silent())
    pre, post = (
        {
            e["properties"]["uid"]: e["properties"].get("subtype")
            for e in labels(tmp_path / "xbd", which)[1]["features"]["xy"]
        }
        for which in ("pre", "post")
    )
    names = sample.objects[kept], sample.objects[rebuilt]
    assert not {*names} & {*pre} and names[0] not in post and post[names[1]] == "un-classified"
    targets = sorted((tmp_path / "xbd" / "train" / "targets").iterdir())[2:4]  # those of the second pair
    assert not any(np.asarray(Image.open(target))[ruins].any() for target in targets)
    assert list(FORMATS["xbd"].check(tmp_path / "xbd")) == []


def test_our_own_reader_gets_back_what_was_written(made, exported) -> None:
    folder = exported("building")
    paths = sorted((folder / "train" / "labels").glob("*_pre_disaster.json"))
    found = [pair for sample in open_master(made("building")).samples() for pair in pairs(sample)]
    for pair, path in zip(found, paths, strict=True):
        label = read_label(path, pair.masks[0].shape)
        assert np.array_equal(label.mask, pair.masks[0])
        numbers = pair.sample.instance_arrays[pair.first]
        assert set(label.uids) == {pair.sample.objects[n] for n in np.unique(numbers[numbers > 0])}
        for index, uid in enumerate(label.uids, start=1):
            number = next(n for n, name in pair.sample.objects.items() if name == uid)
            assert np.array_equal(label.instances == index, numbers == number)


def test_a_dataset_can_be_made_of_an_export(exported, tmp_path, make_recipe) -> None:
    from changen_cli.workflows.simulate import simulate_dataset

    result = simulate_dataset(make_recipe(exported("building") / "train", output={"path": str(tmp_path / "out")}))
    assert result.samples == 4 and not result.skipped


def test_degrees_lead_back_to_the_place(made, exported) -> None:
    from rasterio.warp import transform

    folder = exported("georeferenced")
    sample = next(open_master(made("georeferenced")).samples())
    label = labels(folder, "post")[0]
    a, b, c, d, e, f = sample.row["transform"]
    for degrees, pixels in zip(label["features"]["lng_lat"], label["features"]["xy"], strict=True):
        assert degrees["properties"] == pixels["properties"]
        lon, lat = (float(v) for v in re.search(r"\(\((\S+) ([^,]+),", degrees["wkt"]).groups())
        col, row = (float(v) for v in re.search(r"\(\((\S+) ([^,]+),", pixels["wkt"]).groups())
        x, y = transform("EPSG:4326", sample.row["crs"], [lon], [lat])
        assert (x[0], y[0]) == pytest.approx((a * col + b * row + c, d * col + e * row + f), abs=1e-3)
    assert label["metadata"]["capture_date"] == "2020-06-16T00:00:00Z"
    fit = read_label(sorted((folder / "train" / "labels").iterdir())[0], sample.mask_arrays.shape[1:])
    assert fit.transform is not None and fit.notes["georeference"]["rms_m"] < 1e-3
    assert not labels(exported("building"), "post")[0]["features"]["lng_lat"]


def test_what_was_torn_apart_or_moved_is_one_building(made, tmp_path) -> None:
    """Ids are one building each; what stays a building belongs to that of the first date."""
    altered = shutil.copytree(made("building"), tmp_path / "copy")
    sample = next(open_master(altered).samples())
    numbers = sample.instance_arrays[1].copy()
    old, new = np.unique(numbers[numbers > 0])[:2]
    numbers[numbers == old] = new  # joined to its neighbour
    from changen_cli.writers.images import encode_plain, numbers_image

    path = sample.instances[1].path
    path.unlink()
    path.write_bytes(encode_plain(numbers_image(numbers))[1])
    export(altered, tmp_path / "xbd", layout="xbd", progress=Silent())
    after = {
        e["properties"]["uid"]: e["properties"]["subtype"]
        for e in labels(tmp_path / "xbd", "post")[0]["features"]["xy"]
    }
    assert after[sample.objects[int(old)]] == after[sample.objects[int(new)]] == "no-damage"


def test_un_classified_buildings_of_xbd_stay_what_they_are(tmp_path, make_recipe, xbd_tree) -> None:
    """A source polygon whose second label calls it un-classified is unknown ground, and becomes such a polygon again."""
    from changen_cli.workflows.generate import generate

    for path in (xbd_tree / "labels").iterdir():
        content = read(path)
        content["features"]["xy"][0]["properties"]["subtype"] = "un-classified"
        path.write_text(json.dumps(content))
    synthesis = {"strength": 0, "nuisance": "mild"}
    generate(make_recipe(xbd_tree, synthesis=synthesis, output={"path": str(tmp_path / "out")}))
    export(tmp_path / "out", tmp_path / "export", layout="xbd", progress=Silent())
    assert list(FORMATS["xbd"].check(tmp_path / "export")) == []
    for sample in open_master(tmp_path / "out").samples():
        assert (sample.mask_arrays == 255).any()
    for path in sorted((tmp_path / "export" / "train" / "labels").glob("*_pre_disaster.json")):
        label = read_label(path, (128, 128))
        assert (label.mask == 255).any() and label.notes["polygons"]["unclassified_after"] == 1


def test_rims_of_images_that_moved_are_no_un_classified_buildings(made, tmp_path) -> None:
    assert all((sample.mask_arrays == 255).any() for sample in open_master(made("leaning")).samples())
    told = export(made("leaning"), tmp_path / "xbd", layout="xbd", progress=Silent())
    assert any("rims" in note for note in told.notes)
    assert list(FORMATS["xbd"].check(tmp_path / "xbd")) == []
    found = [e["properties"] for label in labels(tmp_path / "xbd", "post") for e in label["features"]["xy"]]
    assert found and not any(properties["uid"].startswith("unknown-") for properties in found)


def test_pairs_and_splits(made, tmp_path) -> None:
    export(made("building"), tmp_path / "all", layout="xbd", pairs="all", shares=(0.5, 0.5), progress=Silent())
    names = {split: sorted((tmp_path / "all" / split / "images").iterdir()) for split in ("train", "val")}
    numbers = [NAME.fullmatch(path.stem)[2] for paths in names.values() for path in paths]
    assert len(set(numbers)) == 2 * 3 and len(numbers) == 2 * len(set(numbers))
    assert list(FORMATS["xbd"].check(tmp_path / "all")) == []


def test_what_shows_no_buildings_is_refused(made, tmp_path) -> None:
    copy = shutil.copytree(made("pairs"), tmp_path / "copy")
    classes = read(copy / "classes.json")
    for row in classes["classes"]:
        row["name"] = f"ground {row['id']}"
    (copy / "classes.json").write_text(json.dumps(classes))
    for layout in ("xbd",):
        with pytest.raises(UsageError, match="no class that is a building"):
            export(copy, tmp_path / "out", layout=layout, progress=Silent())
    manifest = read(copy / "manifest.json")
    manifest["source"]["labels"] = "class-agnostic object proposals (regions), not ground truth"
    (copy / "classes.json").write_text((made("building") / "classes.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="proposed objects"):
        export(copy, tmp_path / "out", layout="xbd", progress=Silent())
    assert not (tmp_path / "out").exists()


def edit(path, change) -> None:
    content = read(path)
    change(content)
    path.unlink()
    path.write_text(json.dumps(content))


def repaint(path, change) -> None:
    array = np.asarray(Image.open(path)).copy()
    array = change(array)
    path.unlink()
    Image.fromarray(array).save(path)


def first(folder, ending):
    return sorted((folder / "train").glob(f"*/*{ending}"))[0]


def drop_uid(content) -> None:
    content["features"]["xy"].pop(0)
    content["features"]["lng_lat"] = []


def spoil(key, value):
    def change(content) -> None:
        content["features"]["xy"][0]["properties"][key] = value

    return change


def square(array):
    array = array.copy()
    array[60:80, 60:80] = 7
    return array


DEFECTS = [
    (lambda f: first(f, "post_disaster.png").unlink(), "is missing: the pair is not complete"),
    (lambda f: first(f, "post_disaster.json").unlink(), "is missing"),
    (lambda f: first(f, "post_disaster.json").write_text("[]"), "is no label"),
    (lambda f: first(f, "pre_disaster.png").rename(f / "train" / "images" / "before.png"), "tells no scene"),
    (lambda f: repaint(first(f, "pre_disaster.png"), lambda a: a[:, :, 0]), "has mode L"),
    (lambda f: repaint(first(f, "post_disaster.png"), lambda a: a[:100]), "has another size than _pre_"),
    (lambda f: edit(first(f, "post_disaster.json"), drop_uid), "lacks the uids of 1 building"),
    (lambda f: edit(first(f, "post_disaster.json"), spoil("subtype", "broken")), "has the subtype 'broken'"),
    (lambda f: edit(first(f, "post_disaster.json"), spoil("subtype", None)), "has no subtype"),
    (lambda f: edit(first(f, "pre_disaster.json"), lambda c: c["features"]["xy"].append(c["features"]["xy"][0])), "again"),
    (lambda f: edit(first(f, "pre_disaster.json"), lambda c: c["features"]["xy"][0].update(wkt="POLYGON ((1 2, 3))")), "is no building"),
    (lambda f: edit(first(f, "pre_disaster.json"), lambda c: c["features"]["xy"][0].update(wkt="POLYGON ((1 2, 300 2, 3 4, 1 2))")), "leaves the image"),
    (lambda f: edit(first(f, "pre_disaster.json"), lambda c: c["features"]["lng_lat"].pop()), "other buildings in lng_lat"),
    (lambda f: edit(first(f, "pre_disaster.json"), lambda c: c["metadata"].update(width=5)), "the image has"),
    (lambda f: repaint(first(f, "pre_disaster_target.png"), square), "holds the values 7"),
    (lambda f: repaint(first(f, "post_disaster_target.png"), lambda a: np.where(a == 4, 1, a).astype(np.uint8)), "differs from the polygons"),
    (lambda f: first(f, "post_disaster_target.png").unlink(), "is missing"),
    (lambda f: shutil.rmtree(f / "train" / "targets"), "is missing, as in tier3"),
    (lambda f: shutil.rmtree(f / "train"), "is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("spoiling", "message"), DEFECTS, ids=[message for _, message in DEFECTS])
def test_the_check_finds(spoiling, message, exported, tmp_path) -> None:
    folder = shutil.copytree(exported("georeferenced"), tmp_path / "copy")
    check = FORMATS["xbd"].check
    assert list(check(folder)) == []
    spoiling(folder)
    findings = list(check(folder))
    assert any(message in finding.message for finding in findings), findings
    assert all(finding.fix and (folder / finding.file).parent.is_relative_to(folder) for finding in findings)


@pytest.mark.parametrize("name", ["building", "pairs", "damage", "parquet"])
def test_the_check_finds_nothing_in_fresh_exports(name, exported) -> None:
    assert list(FORMATS["xbd"].check(exported(name))) == []
