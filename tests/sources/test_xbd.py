from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import SceneError
from changen_cli.sources.xbd import read_label, read_target

from .files import SHARED, box, entry, label, rgb, save

SHAPE = (64, 64)


def test_polygons_become_buildings_with_their_uids(tmp_path: Path) -> None:
    found = read_label(
        label(tmp_path / "l.json", [entry(box(2, 3, 6, 9), "a"), entry(box(40, 50, 70, 80), "b")]), SHAPE
    )
    expected = np.zeros(SHAPE, dtype=np.int32)
    expected[2:6, 3:9], expected[40:, 50:] = 1, 2
    assert np.array_equal(found.instances, expected)
    assert np.array_equal(found.mask, (expected > 0).astype(np.uint8))
    assert found.uids == ("a", "b")
    assert found.notes["polygons"]["objects"] == 2
    assert "georeference" not in found.notes


def test_touching_buildings_stay_two(tmp_path: Path) -> None:
    found = read_label(label(tmp_path / "l.json", [entry(box(0, 0, 5, 5), "a"), entry(box(0, 5, 5, 10), "b")]), SHAPE)
    assert found.instances[2, 4:6].tolist() == [1, 2]


@pytest.mark.parametrize("small_first", [True, False])
def test_the_smaller_of_two_overlapping_lies_on_top(tmp_path: Path, small_first: bool) -> None:
    xy = [entry(box(0, 0, 20, 20), "yard"), entry(box(5, 5, 9, 9), "shed")]
    found = read_label(label(tmp_path / "l.json", xy[::-1] if small_first else xy), SHAPE)
    assert {uid: int((found.instances == n).sum()) for n, uid in enumerate(found.uids, 1)} == {"yard": 384, "shed": 16}


def test_hidden_tiny_empty_invalid_and_foreign_entries_are_counted(tmp_path: Path) -> None:
    xy = [
        entry(box(0, 0, 4, 4), "hidden"),
        entry(box(0, 0, 4, 4), "top"),
        entry(box(10.1, 10.1, 10.3, 10.3), "tiny"),
        entry(box(100, 100, 120, 120), "outside"),
        entry("POLYGON EMPTY", "empty"),
        entry("POLYGON ((", "broken"),
        entry(box(30, 30, 34, 34), "last"),
        {"properties": {}},
        "nonsense",
    ]
    found = read_label(label(tmp_path / "l.json", xy), SHAPE)
    assert found.uids == ("top", "last")
    assert found.instances.max() == 2
    assert found.notes["polygons"] == {
        "total": 9,
        "objects": 2,
        "unclassified": 0,
        "without_pixels": 3,
        "invalid": 3,
        "empty": 1,
    }


def test_holes_and_parts(tmp_path: Path) -> None:
    hole = "POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0), (2 2, 8 2, 8 8, 2 8, 2 2))"
    parts = "MULTIPOLYGON (((20 20, 24 20, 24 24, 20 24, 20 20)), ((30 30, 34 30, 34 34, 30 34, 30 30)))"
    found = read_label(label(tmp_path / "l.json", [entry(hole, "h"), entry(parts, "m")]), SHAPE)
    assert int((found.instances == 1).sum()) == 64
    assert found.instances[5, 5] == 0
    assert int((found.instances == 2).sum()) == 32


def test_unclassified_is_unknown_and_no_object(tmp_path: Path) -> None:
    xy = [entry(box(0, 0, 4, 4), "a", "un-classified"), entry(box(8, 8, 12, 12), "b", "no-damage")]
    found = read_label(label(tmp_path / "l.json", xy), SHAPE)
    assert (found.mask[:4, :4] == 255).all()
    assert found.instances[:4, :4].max() == 0
    assert found.uids == ("b",)
    assert found.notes["polygons"]["unclassified"] == 1


def test_the_label_of_the_second_date_tells_what_is_unclassified(tmp_path: Path) -> None:
    boxes = {uid: box(8 * i, 0, 8 * i + 4, 4) for i, uid in enumerate("abc")}
    pre, post = tmp_path / "x_pre_disaster.json", tmp_path / "x_post_disaster.json"
    xy = [entry(boxes["a"], "a"), entry(boxes["b"], "b"), entry(boxes["c"], "c", "no-damage")]
    label(pre, xy)
    label(post, [*(entry(boxes[uid], uid, "un-classified") for uid in "ac"), entry(boxes["b"], "b", "destroyed"), 7])
    found = read_label(pre, SHAPE)
    assert found.uids == ("b", "c")
    assert (found.mask[:4, :4] == 255).all()
    assert found.instances[:4, :4].max() == 0
    polygons = found.notes["polygons"]
    assert (polygons["objects"], polygons["unclassified"], polygons["unclassified_after"]) == (2, 1, 1)
    for content in ("{", "[]", None):
        post.unlink() if content is None else post.write_text(content)
        found = read_label(pre, SHAPE)
        assert found.uids == ("a", "b", "c")
        assert "unclassified_after" not in found.notes["polygons"]


def test_repeated_and_missing_uids_are_told_apart(tmp_path: Path) -> None:
    xy = [entry(box(i * 8, 0, i * 8 + 4, 4), uid) for i, uid in enumerate(["a", "a", "", ""])]
    found = read_label(label(tmp_path / "l.json", xy), SHAPE)
    assert len(set(found.uids)) == 4


def to_degrees(wkt: str) -> str:
    numbers = wkt.removeprefix("POLYGON ((").removesuffix("))").split(", ")
    points = [tuple(map(float, number.split())) for number in numbers]
    return "POLYGON ((" + ", ".join(f"{-95 + 5e-6 * x!r} {29 - 4.5e-6 * y!r}" for x, y in points) + "))"


def georeferenced(tmp_path: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    boxes = {f"u{i}": box(5 * i, (i * 23) % 50, 5 * i + 4, (i * 23) % 50 + 6) for i in range(8)}
    return [entry(b, u) for u, b in boxes.items()], [entry(to_degrees(b), u) for u, b in reversed(boxes.items())]


def test_georeference_is_recovered(tmp_path: Path) -> None:
    xy, lng_lat = georeferenced(tmp_path)
    # One object has other vertices, one is in one list only, one is broken: none of them may spoil the fit.
    lng_lat[0]["wkt"] = "POLYGON ((-95 29, -95.1 29, -95 29.1, -95 29))"
    lng_lat[1]["properties"] = {"uid": "other"}
    lng_lat[2]["wkt"] = "POLYGON (("
    found = read_label(label(tmp_path / "l.json", xy, lng_lat), SHAPE)
    assert found.transform == pytest.approx((5e-6, 0, -95, 0, -4.5e-6, 29), abs=1e-11)
    note = found.notes["georeference"]
    assert note["method"] == "fitted xy↔lng_lat"
    assert note["vertices"] == 20
    assert note["rms_m"] < 1e-3
    json.dumps(found.notes)


def test_a_bad_georeference_is_noted_and_not_used(tmp_path: Path) -> None:
    xy, lng_lat = georeferenced(tmp_path)
    for i, item in enumerate(lng_lat):
        item["wkt"] = to_degrees(box(97 * i % 400, 31 * i % 300, 97 * i % 400 + 9, 31 * i % 300 + 9))
    found = read_label(label(tmp_path / "l.json", xy, lng_lat), SHAPE)
    assert found.transform is None
    assert found.notes["georeference"]["rms_m"] > 5
    assert "exceeds 5 m" in found.notes["georeference"]["not_used"]


@pytest.mark.parametrize(
    ("metadata", "gsd"),
    [({"gsd": 2.1}, 2.1), ({"gsd": 2.1, "pan_resolution": 0.52}, 0.52), ({"gsd": None}, None), ({"gsd": "x"}, None)],
)
def test_pixel_size_from_metadata(tmp_path: Path, metadata: dict[str, object], gsd: float | None) -> None:
    assert read_label(label(tmp_path / "l.json", [], metadata=metadata), SHAPE).gsd_m == gsd


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"features": []}', '{"features": {"xy": {}}}', "[" * 100000])
def test_other_content_is_a_scene_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(SceneError, match=r"l\.json"):
        read_label(tmp_path / "l.json", SHAPE)


def test_label_of_another_size(tmp_path: Path) -> None:
    path = label(tmp_path / "l.json", [], metadata={"width": 128, "height": 32})
    with pytest.raises(SceneError, match="32×128 px, but the image is 64×64"):
        read_label(path, SHAPE)


def test_targets(tmp_path: Path) -> None:
    target = np.zeros(SHAPE, dtype=np.uint8)
    target[0:4, 0:4], target[0:4, 4:8], target[20:24, 20:24], target[40:44, 40:44] = 1, 3, 2, 255
    found = read_target(save(tmp_path / "t.png", target), SHAPE)
    assert sorted(np.unique(found.mask)) == [0, 1, 255]
    assert found.instances.max() == 2
    assert found.uids == ()
    with pytest.raises(SceneError, match="32×32 px"):
        read_target(save(tmp_path / "t.png", rgb(32, 32)[:, :, 0]), SHAPE)


@pytest.mark.skipif(not (SHARED / "xbd-sample").is_dir(), reason="sample not here")
def test_sample_polygons_agree_with_its_raster_target() -> None:
    for path in sorted((SHARED / "xbd-sample" / "labels").glob("*_pre_disaster.json")):
        polygons = read_label(path, (1024, 1024))
        target = read_target(SHARED / "xbd-sample" / "masks" / f"{path.stem}.png", (1024, 1024))
        # The sample's polygons were traced without holes, so they cover all of the target and a little more.
        assert (polygons.mask >= target.mask).all()
        assert (polygons.mask != target.mask).mean() < 0.001
        assert len(polygons.uids) >= target.instances.max() > 10


def test_names_of_objects_can_be_stored_and_tell_them_apart(tmp_path: Path) -> None:
    uids = ["a\ud800\n", "b", "b#2", "b", {"x": 1}, "y" * 1000]
    xy = [entry(box(8 * n, 0, 8 * n + 6, 6), uid) for n, uid in enumerate(uids)]
    found = read_label(label(tmp_path / "l.json", xy), SHAPE)
    assert found.uids == ("a\\ud800_", "b", "b#2", "b#3", "dict", "y" * 200)
    found = read_label(
        label(tmp_path / "l.json", [entry(box(0, 0, 4, 4), uid) for uid in ("b#1", "b#1", "b#1#1")]), SHAPE
    )
    assert len(set(found.uids)) == len(found.uids)


@pytest.mark.parametrize("gsd", ["1" + "0" * 400, "1e308", "1e-300", "NaN", "-1", "true", '"1"'])
def test_pixel_sizes_that_no_image_has_are_unknown(tmp_path: Path, gsd: str) -> None:
    path = label(tmp_path / "l.json", [])
    content = json.loads(path.read_text())
    content["metadata"] = {"gsd": "GSD"}
    path.write_text(json.dumps(content).replace('"GSD"', gsd))
    assert read_label(path, SHAPE).gsd_m is None


def test_labels_that_would_not_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text("[" * 100_000)
    with pytest.raises(SceneError, match=r"label l\.json cannot be read: its JSON is nested too deeply"):
        read_label(path, SHAPE)
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(SceneError, match="is larger than 67 MB"):
        read_label(path, SHAPE)
    ring = ", ".join(["0 0"] * 90_000)
    with pytest.raises(SceneError, match="has 1169987 vertices"):
        read_label(label(path, [entry(f"POLYGON (({ring}))", str(n)) for n in range(13)]), SHAPE)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SceneError, match="is no file but a folder, a pipe"):
        read_label(path, SHAPE)


@pytest.mark.parametrize(
    "wkts",
    [
        ["POLYGON ((0 0, 4000 0, 4000 4000, 0 4000, 0 0))"] * 2000,
        ["POLYGON ((" + ", ".join(f"{i / 25} {i % 2 * 4000}" for i in range(99_000)) + ", 0 0))"],
    ],
    ids=["layers", "zigzag"],
)
def test_polygons_that_take_hours_to_fill_are_refused(tmp_path: Path, wkts: list[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"features": {"xy": [{"wkt": wkt} for wkt in wkts]}}))
    started = time.perf_counter()
    with pytest.raises(SceneError, match="cover the image too many times, or have too many vertices"):
        read_label(path, (4096, 4096))
    assert time.perf_counter() - started < 5
    assert read_label(path, (64, 64)).mask.any()


def test_an_outline_that_is_no_text_is_counted_as_invalid(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"features": {"xy": [{"wkt": wkt} for wkt in ({}, [], 3, None, True)]}}))
    assert read_label(path, (8, 8)).notes["polygons"]["invalid"] == 5
