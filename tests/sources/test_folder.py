from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.types import Scene, Skip
from changen_cli.sources import readers
from changen_cli.sources.folder import detect_layout, open_source

from .files import SHARED, UTM_TRANSFORM, bomb, box, entry, pair, read, rgb, save, save_tif, xbd_scene

MASK = np.zeros((64, 64), dtype=np.uint8)
MASK[8:20, 8:20] = 1


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_layouts_are_detected(tmp_path: Path) -> None:
    xbd_scene(tmp_path / "x" / "xView2" / "train")
    xbd_scene(tmp_path / "old" / "xBD" / "flood")
    pair(tmp_path / "p" / "region", "a", MASK)
    save(tmp_path / "i" / "deep" / "a.png", rgb())
    assert [detect_layout(tmp_path / name) for name in ("x", "old", "p", "i")] == ["xbd", "xbd", "pairs", "images"]
    assert detect_layout(tmp_path / "old" / "xBD" / "flood") == "xbd"


def test_describe_is_one_line(tmp_path: Path) -> None:
    for part in ("train", "tier3"):
        xbd_scene(tmp_path / "x" / part)
    assert (
        open_source(tmp_path / "x").describe()
        == "xBD layout: pre-disaster images under tier3/, train/ with labels/*.json"
    )
    pair(tmp_path / "p", "a", MASK)
    assert (
        open_source(tmp_path / "p").describe()
        == "pairs layout: images under images/ with masks of the same name in masks/, where 255 is unknown"
    )
    for i in range(7):
        save(tmp_path / "i" / str(i) / "a.png", rgb())
    assert open_source(tmp_path / "i").describe() == "images layout: unlabelled images under 0/, 1/, 2/, 3/, …"


def test_unusable_folders_name_path_and_fix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        open_source(tmp_path / "file")
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    save(tmp_path / "empty" / ".hidden" / "a.png", rgb())
    for layout in (None, "images", "xbd"):
        with pytest.raises(UsageError, match="no images in"):
            open_source(tmp_path / "empty", layout=layout)  # type: ignore[arg-type]
    save(tmp_path / "out" / "a.png", rgb())
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"recipe": {}, "fingerprint": ""}))
    with pytest.raises(UsageError, match="made by changen"):
        open_source(tmp_path / "out")


def test_masks_that_fit_no_image_are_not_ignored_silently(tmp_path: Path) -> None:
    save(tmp_path / "a" / "images" / "1.png", rgb())
    save(tmp_path / "a" / "masks" / "2.png", MASK)
    save(tmp_path / "b" / "1.png", rgb())
    save(tmp_path / "b" / "masks" / "1.png", MASK)
    for name in ("a", "b"):
        with pytest.raises(UsageError, match=r"masks/.*--layout images"):
            open_source(tmp_path / name)
        scenes, skips = read(tmp_path / name, layout="images")
        assert [scene.id for scene in scenes] == ["1"]
        assert scenes[0].mask is None
        assert not skips


@pytest.mark.parametrize("layout", ["xbd", "pairs"])
def test_a_forced_layout_that_is_absent(tmp_path: Path, layout: str) -> None:
    save(tmp_path / "images" / "a.png", rgb())
    with pytest.raises(UsageError, match=str(tmp_path)):
        open_source(tmp_path, layout=layout)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no layout 'coco'"):
        open_source(tmp_path, layout="coco")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"res": 0}, "--res 0"),
        ({"bands": (0, 1, 2)}, "--bands 0,1,2"),
        ({"bands": (1, 2)}, "--bands 1,2"),
        ({"bands": (4, 3, 2)}, "has 3 bands, but band 4"),
        ({"classes": ("background", "building", "building")}, "repeated"),
        ({"classes": ()}, "1 to 255"),
    ],
)
def test_unusable_options_fail_at_once(tmp_path: Path, options: dict[str, object], message: str) -> None:
    pair(tmp_path, "a", MASK)
    with pytest.raises(UsageError, match=message):
        open_source(tmp_path, **options)  # type: ignore[arg-type]


def test_finding_and_describing_loads_no_raster_library(tmp_path: Path) -> None:
    save(tmp_path / "a.png", rgb())
    code = (
        "import sys; from pathlib import Path; from changen_cli.sources.folder import open_source\n"
        "s = open_source(Path(sys.argv[1])); s.describe(); assert s.count_images() == 1\n"
        "assert not {'rasterio', 'PIL', 'scipy', 'skimage', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])


# --- xBD -------------------------------------------------------------------------------------------------------------


def test_xview2_tree(tmp_path: Path) -> None:
    for part, name in (("train", "b_00000001"), ("train", "a_00000002"), ("tier3", "c_00000001")):
        xbd_scene(tmp_path / part, name)
    save(tmp_path / "test" / "images" / "d_00000001_pre_disaster.png", rgb())
    source = open_source(tmp_path)
    items = list(source)
    assert [item.id for item in items if isinstance(item, Scene)] == [
        "tier3--c_00000001",
        "train--a_00000002",
        "train--b_00000001",
    ]
    assert [item.group for item in items if isinstance(item, Scene)] == ["c_00000001", "a_00000002", "b_00000001"]
    (skip,) = (item for item in items if isinstance(item, Skip))
    assert (skip.path, skip.failed) == ("test/images/d_00000001_pre_disaster.png", False)
    assert "no label" in skip.reason
    assert source.count_images() == 4
    scene = next(item for item in items if isinstance(item, Scene))
    assert scene.source_path == "tier3/images/c_00000001_pre_disaster.png"
    assert scene.uids == ("u1",)


def test_xbd_targets_stand_in_for_labels_but_broken_labels_fail(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        xbd_scene(tmp_path, name)
        save(tmp_path / "targets" / f"{name}_pre_disaster_target.png", MASK)
    (tmp_path / "labels" / "a_pre_disaster.json").unlink()
    (tmp_path / "labels" / "b_pre_disaster.json").write_text('{"features": ')
    scenes, (skip,) = read(tmp_path)
    assert [(scene.id, len(scene.uids), scene.notes["labels"]) for scene in scenes] == [
        ("a", 0, "raster target"),
        ("c", 1, "polygons"),
    ]
    assert (skip.path, skip.failed) == ("images/b_pre_disaster.png", True)
    assert "b_pre_disaster.json" in skip.reason


def test_xbd_scene_gets_the_fitted_reference_and_tiles_shift_it(tmp_path: Path) -> None:
    boxes = [(4, 4, 12, 14), (40, 30, 50, 44), (20, 50, 30, 60)]
    xy = [entry(box(*b), f"u{i}") for i, b in enumerate(boxes)]
    lng_lat = [
        entry(box(50 - 5e-6 * r0, 10 + 8e-6 * c0, 50 - 5e-6 * r1, 10 + 8e-6 * c1), f"u{i}")
        for i, (r0, c0, r1, c1) in enumerate(boxes)
    ]
    xbd_scene(tmp_path, xy=xy, lng_lat=lng_lat, metadata={"gsd": 2.0})
    (scene,), _ = read(tmp_path)
    assert scene.crs is not None
    assert '"EPSG","4326"' in scene.crs
    assert scene.transform == pytest.approx((8e-6, 0, 10, 0, -5e-6, 50), abs=1e-11)
    assert scene.gsd_m == pytest.approx(0.565, abs=0.01)  # measured by the fit, not the sensor's 2 m
    tiles, _ = read(tmp_path, res=32)
    assert tiles[3].transform == pytest.approx((8e-6, 0, 10 + 32 * 8e-6, 0, -5e-6, 50 - 32 * 5e-6), abs=1e-11)
    assert [tile.uids for tile in tiles] == [("u0",), ("u2",), ("u1",), ("u1",)]


def test_an_xbd_image_with_its_own_reference_keeps_it(tmp_path: Path) -> None:
    bands = np.moveaxis(rgb(), 2, 0).copy()
    bands[:, :8] = 0
    save_tif(tmp_path / "images" / "a_pre_disaster.tif", bands, nodata=0)
    lng_lat = [entry(box(50 - 5e-6 * 4, 10 + 8e-6 * 4, 50 - 5e-6 * 12, 10 + 8e-6 * 14), "u1")]
    xbd_scene(tmp_path, "z", lng_lat=lng_lat)
    os.replace(tmp_path / "labels" / "z_pre_disaster.json", tmp_path / "labels" / "a_pre_disaster.json")
    scene = read(tmp_path)[0][0]
    assert scene.transform == tuple(UTM_TRANSFORM)[:6]
    assert scene.mask is not None
    assert scene.instances is not None
    assert (scene.mask[:8] == 255).all()
    assert "georeference" not in scene.notes
    assert int((scene.instances == 1).sum()) == 4 * 10  # the part of the building on valid ground


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_openearthmap_loveda_and_nested_trees(tmp_path: Path) -> None:
    for place in ("aachen", "tokyo"):
        save_tif(tmp_path / "oem" / place / "images" / f"{place}_1.tif", np.moveaxis(rgb(), 2, 0))
        save_tif(tmp_path / "oem" / place / "labels" / f"{place}_1.tif", MASK[None])
    save(tmp_path / "love" / "Train" / "Rural" / "images_png" / "1.png", rgb())
    save(tmp_path / "love" / "Train" / "Rural" / "masks_png" / "1.png", MASK)
    save(tmp_path / "nested" / "images" / "a" / "1.jpg", rgb())
    save(tmp_path / "nested" / "masks" / "a" / "1.png", MASK)
    ids = {name: [scene.id for scene in read(tmp_path / name)[0]] for name in ("oem", "love", "nested")}
    assert ids == {
        "oem": ["aachen--aachen_1", "tokyo--tokyo_1"],
        "love": ["Train--Rural--1"],
        "nested": ["images--a--1"],
    }
    scene = read(tmp_path / "oem")[0][0]
    assert scene.crs is not None
    assert scene.gsd_m == pytest.approx(0.5)
    assert scene.instances is not None
    assert (scene.instances.max(), scene.uids) == (1, ())


def test_the_same_stem_in_two_folders_makes_two_ids(tmp_path: Path) -> None:
    for place in ("a", "b"):
        pair(tmp_path / place, "1", MASK)
    assert [scene.id for scene in read(tmp_path)[0]] == ["a--1", "b--1"]


def test_the_same_stem_twice_in_one_folder_is_used_once(tmp_path: Path) -> None:
    pair(tmp_path, "1", MASK)
    save(tmp_path / "images" / "1.jpg", rgb())
    scenes, (skip,) = read(tmp_path)
    assert [scene.source_path for scene in scenes] == ["images/1.jpg"]
    assert (skip.path, skip.failed) == ("images/1.png", False)


def test_every_bad_pair_is_exactly_one_skip(tmp_path: Path) -> None:
    for name in "abcdefghijk":
        pair(tmp_path, name, MASK)
    images, masks = tmp_path / "images", tmp_path / "masks"
    (masks / "b.png").unlink()
    save(masks / "c.png", np.zeros((32, 48), dtype=np.uint8))
    save(masks / "d.png", np.stack([MASK] * 3, axis=2))
    (masks / "e.png").write_bytes((masks / "e.png").read_bytes()[:60])
    (images / "f.png").write_bytes((images / "f.png").read_bytes()[:-6])
    (images / "g.png").write_bytes(b"")
    bomb(images / "h.png")
    save(masks / "i.png", MASK * 7)
    (images / "j.png").unlink()
    (images / "j.png").symlink_to(tmp_path / "gone.png")
    source = open_source(tmp_path)
    items = list(source)
    assert [item.id for item in items if isinstance(item, Scene)] == ["a", "k"]
    reasons = {item.path[7]: (item.failed, item.reason) for item in items if isinstance(item, Skip)}
    assert len(items) == source.count_images() == 11
    expected = {
        "b": (False, "no mask"),
        "c": (True, "64×64 px, its mask 32×48"),
        "d": (True, "colour picture"),
        "e": (True, "e.png"),
        "f": (True, "cannot be read"),
        "g": (True, "0 bytes"),
        "h": (True, "too large"),
        "i": (True, "holds 7"),
        "j": (True, "does not exist"),
    }
    assert reasons.keys() == expected.keys()
    for name, (failed, text) in expected.items():
        assert reasons[name][0] is failed
        assert text in reasons[name][1]
        assert "\n" not in reasons[name][1]


def test_values_of_the_first_mask_without_classes(tmp_path: Path) -> None:
    pair(tmp_path, "a", MASK * 6)
    pair(tmp_path, "b", MASK)
    with pytest.raises(UsageError, match=r"a\.png: the mask holds 6.*--classes"):
        open_source(tmp_path)
    scenes, (skip,) = read(tmp_path, classes=("background", "building"))
    assert [scene.id for scene in scenes] == ["b"]
    assert "holds 6; --classes names ids 0 to 1" in skip.reason


def test_a_broken_first_mask_does_not_hide_the_check(tmp_path: Path) -> None:
    pair(tmp_path, "a", MASK)
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    pair(tmp_path, "b", MASK * 6)
    with pytest.raises(UsageError, match="holds 6"):
        open_source(tmp_path)


def test_classes_in_id_order(tmp_path: Path) -> None:
    mask = MASK.copy()
    mask[40:50, 40:50], mask[60:, 60:] = 2, 3
    pair(tmp_path, "a", mask)
    names = ("unlabelled", "road", "building", "water")
    source = open_source(tmp_path, classes=names)
    (scene,) = source
    assert isinstance(scene, Scene)
    assert source.schema.names == names
    assert scene.mask is not None
    assert scene.instances is not None
    assert (scene.mask[0, 0], scene.mask[10, 10], scene.mask[45, 45]) == (255, 1, 2)
    assert np.array_equal(scene.instances > 0, mask == 2)


def test_nodata_of_the_image_is_unknown_in_the_mask(tmp_path: Path) -> None:
    bands = np.full((3, 64, 64), 900, dtype=np.uint16)
    bands[:, :, :16] = 0
    save_tif(tmp_path / "images" / "a.tif", bands)
    save(tmp_path / "masks" / "a.png", MASK)
    (scene,), _ = read(tmp_path)
    assert scene.mask is not None
    assert scene.instances is not None
    assert (scene.mask[:, :16] == 255).all()
    assert int((scene.instances == 1).sum()) == 12 * 4
    assert scene.notes["nodata_share"] == 0.25


# --- images and streaming --------------------------------------------------------------------------------------------


def test_images_are_tiled_without_masks(tmp_path: Path) -> None:
    save(tmp_path / "a b" / "1.png", rgb(96, 64))
    save(tmp_path / "2.png", rgb(32, 32))
    save(tmp_path / "c_post_disaster.png", rgb())
    scenes, skips = read(tmp_path, res=64)
    assert [skip.path for skip in skips] == ["2.png"]
    assert "is 32×32, smaller than --res 64" in skips[0].reason
    assert len(scenes) == 2
    assert all(scene.mask is None and scene.instances is None for scene in scenes)
    assert scenes[0].id.startswith("a_b--1.")
    assert scenes[0].id.endswith("_r00000_c00000")
    scenes, skips = read(tmp_path, res=64, upsample=True)
    assert [scene.image.shape for scene in scenes] == [(64, 64, 3)] * 3
    assert not skips


def test_two_passes_give_the_same(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        pair(tmp_path, name, MASK)
    source = open_source(tmp_path, res=32)
    first, second = [item.id for item in source], [item.id for item in source]  # type: ignore[union-attr]
    assert first == second
    assert len(set(first)) == 12


def test_reading_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(20):
        save(tmp_path / f"{i:02}.png", rgb(8, 8))
    opened: list[str] = []
    whole = readers.read_image
    monkeypatch.setattr(readers, "read_image", lambda path, bands: opened.append(path.name) or whole(path, bands))
    assert [item.id for item in islice(open_source(tmp_path), 3)] == ["00", "01", "02"]  # type: ignore[union-attr]
    assert opened == ["00.png", "01.png", "02.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs permissions that hold")
def test_a_folder_that_cannot_be_listed_is_a_skip(tmp_path: Path) -> None:
    save(tmp_path / "a.png", rgb())
    (tmp_path / "locked").mkdir(mode=0)
    scenes, (skip,) = read(tmp_path)
    assert len(scenes) == 1
    assert skip.path == "locked"


@pytest.mark.skipif(not (SHARED / "geotiff-ingest").is_dir(), reason="sample not here")
def test_real_geotiffs_all_keep_their_reference() -> None:
    scenes, skips = read(SHARED / "geotiff-ingest")
    assert (len(scenes), skips) == (20, [])
    assert all(scene.crs and scene.transform for scene in scenes)
    size = {scene.id: round(scene.gsd_m or 0, 2) for scene in scenes}
    assert size["naip4_chico_2020_3"] == 0.6
    assert size["oam_banepa_386697-220243-19"] == 0.13
    assert size["spacenet_vegas_uint16_3band"] == 0.27
