"""The folder layout, read back from its files and through ``datasets``."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from changen_cli.writers.card import write_card
from changen_cli.writers.folder import FolderWriter


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write_all(root, schema, samples, order=None):
    writer = FolderWriter(root, schema)
    for sample in samples:
        writer.write(sample)
    return writer.close(order)


def test_pixels_events_and_rows_come_back(make, schema, tmp_path):
    sample = make(1, dates=3)
    assert write_all(tmp_path, schema, [sample]) == [tmp_path / "train/metadata.jsonl"]
    train = tmp_path / "train"

    def read(name):
        return np.asarray(Image.open(train / name))

    for t in range(3):
        np.testing.assert_array_equal(read(f"images/scene1_v0_t{t}.png"), sample.images[t])
        np.testing.assert_array_equal(read(f"masks/scene1_v0_t{t}.png"), sample.masks[t])
        numbers = read(f"instances/scene1_v0_t{t}.png")
        assert numbers.dtype == np.uint16
        np.testing.assert_array_equal(numbers, sample.instances[t])
    assert json.loads((train / "objects/scene1_v0.json").read_text()) == {"1": "obj-0", "7": "old"}
    for t in range(2):
        change = read(f"changes/scene1_v0_t{t}_t{t + 1}.png")
        assert set(np.unique(change)) == {0, 255}
        before, after = read(f"masks/scene1_v0_t{t}.png"), read(f"masks/scene1_v0_t{t + 1}.png")
        np.testing.assert_array_equal(change == 255, before != after)
    events = [json.loads(line) for line in (train / "events/scene1_v0.jsonl").read_text().splitlines()]
    assert [(e["kind"], e["step"], e["area_px"]) for e in events] == [("create", 0, 110), ("remove", 1, 110)]
    (row,) = (json.loads(line) for line in (train / "metadata.jsonl").read_text().splitlines())
    assert row["t3_image_file_name"] == "images/scene1_v0_t2.png"
    assert row["change_file_names"] == ["changes/scene1_v0_t0_t1.png", "changes/scene1_v0_t1_t2.png"]
    assert row["event_count"] == 2
    assert row["t3_instances_file_name"] == row["instance_file_names"][2] == "instances/scene1_v0_t2.png"
    expected = 3 + 3 + 3 + 2 + 1 + 1 + 1 + 1
    assert len(files(tmp_path)) == expected


@pytest.mark.parametrize("dates", [2, 3])
def test_samples_without_images(make, schema, tmp_path, dates):
    sample = make(1, dates=dates)
    write_all(tmp_path / "whole", schema, [sample])
    write_all(tmp_path / "masks", schema, [dataclasses.replace(sample, images=None)])
    whole, masks = files(tmp_path / "whole"), files(tmp_path / "masks")
    assert {
        name: data
        for name, data in whole.items()
        if "/images/" not in name and "metadata" not in name and "checksums" not in name
    }.items() <= masks.items()
    assert len(masks) == len(whole) - dates
    row, expected = (json.loads(found["train/metadata.jsonl"]) for found in (masks, whole))
    assert row == {key: value for key, value in expected.items() if "image_file" not in key}
    assert list(row) == [key for key in expected if key in row]


CALENDAR = ("2018", "2020-06", "2023-01-15")


def test_calendar_dates_are_in_rows_events_and_tags(make, schema, tmp_path):
    plain = make(1, dates=3, geo=True)
    sample = dataclasses.replace(plain, calendar=CALENDAR)
    write_all(tmp_path / "plain", schema, [plain])
    write_all(tmp_path / "dated", schema, [sample])
    train = tmp_path / "dated/train"
    row = json.loads((train / "metadata.jsonl").read_text())
    assert row["calendar"] == list(CALENDAR) and row["dates"] == 3
    events = [json.loads(line) for line in (train / "events/scene1_v0.jsonl").read_text().splitlines()]
    assert [(e["step"], e["date_from"], e["date_to"]) for e in events] == [(0, *CALENDAR[:2]), (1, *CALENDAR[1:])]
    tags = ["2018:07:01 00:00:00", "2020:06:16 00:00:00", "2023:01:15 12:00:00"]
    for kind in ("images", "masks"):
        pictures = [Image.open(train / f"{kind}/scene1_v0_t{t}.tif") for t in range(3)]
        assert [picture.tag_v2[306] for picture in pictures] == tags
    assert 306 not in Image.open(train / "changes/scene1_v0_t0_t1.tif").tag_v2
    assert 306 not in Image.open(tmp_path / "plain/train/images/scene1_v0_t0.tif").tag_v2
    assert "calendar" not in (tmp_path / "plain/train/metadata.jsonl").read_text()
    assert "date_from" not in (tmp_path / "plain/train/events/scene1_v0.jsonl").read_text()
    write_all(tmp_path / "again", schema, [sample])
    assert files(tmp_path / "again") == files(tmp_path / "dated")


@pytest.mark.parametrize("layout", ["folder", "parquet"])
@pytest.mark.parametrize("calendar", [("2018", "2020"), ("2018-01", "2020-06"), ("2018-01-31", "2020-06-01")])
@pytest.mark.usefixtures("offline")
def test_calendar_dates_load_as_given(make, schema, tmp_path, layout, calendar):
    from datasets import load_dataset

    from changen_cli.writers import open_writer

    writer = open_writer(layout, tmp_path, schema)
    for number in range(2):
        writer.write(dataclasses.replace(make(number), calendar=calendar))
    writer.close()
    write_card(tmp_path, {"layout": layout, "splits": {"train": 2}, "dates": 2})
    for row in load_dataset(str(tmp_path), split="train"):
        # `datasets` makes times of whole days in JSON; Parquet says what they are.
        whole_days = layout == "folder" and len(calendar[0]) == 10
        assert tuple(map(str, row["calendar"])) == tuple(
            f"{date} 00:00:00" if whole_days else date for date in calendar
        )


def test_two_dates_give_the_pair_columns(make, schema, tmp_path):
    write_all(tmp_path, schema, [make()])
    row = json.loads((tmp_path / "train/metadata.jsonl").read_text())
    assert [k for k in row if "file_name" in k] == [
        "t1_image_file_name", "t2_image_file_name", "t1_mask_file_name", "t2_mask_file_name",
        "t1_instances_file_name", "t2_instances_file_name", "change_mask_file_name",
    ]  # fmt: skip


@pytest.mark.parametrize("geo", [False, True])
def test_neither_order_nor_a_restart_changes_a_byte(make, schema, tmp_path, geo):
    samples = [make(i, geo=geo, info={"k": 1} if i else {"z": 0.5, "k": 2}) for i in range(3)]
    write_all(tmp_path / "a", schema, samples)
    FolderWriter(tmp_path / "b", schema).write(samples[2])
    write_all(tmp_path / "b", schema, [samples[1], samples[0]])
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert a == b and len(a) == 3 * 9 + 2
    names = [json.loads(line)["image_name"] for line in a["train/metadata.jsonl"].decode().splitlines()]
    assert names == ["scene0_v0", "scene1_v0", "scene2_v0"]


def test_order_selects_and_sorts_rows(make, schema, tmp_path):
    write_all(tmp_path, schema, [make(i) for i in range(3)], order=["scene2_v0", "scene0_v0"])
    rows = (tmp_path / "train/metadata.jsonl").read_text().splitlines()
    assert [json.loads(r)["image_name"] for r in rows] == ["scene2_v0", "scene0_v0"]


def test_geotiff_keeps_crs_transform_and_pixels(make, schema, tmp_path):
    import rasterio

    sample = make(1, geo=True, shape=(600, 700))
    write_all(tmp_path, schema, [sample])
    train = tmp_path / "train"
    arrays = {
        "images/scene1_v0_t1": np.moveaxis(sample.images[1], 2, 0),
        "masks/scene1_v0_t1": sample.masks[1][None],
        "instances/scene1_v0_t1": sample.instances[1][None],
        "changes/scene1_v0_t0_t1": sample.change_masks[:1].astype(np.uint8) * 255,
    }
    for name, expected in arrays.items():
        with rasterio.open(train / f"{name}.tif") as source:
            assert source.crs.to_epsg() == 3857
            # Lower-left corner of pixel (600, 700): 700 * 0.5 m east and 600 * 0.5 m south of the origin.
            assert source.xy(600, 700, offset="ul") == (9_519_926.0 + 350.0, 3_202_940.0 - 300.0)
            assert source.nodata == (255 if name.startswith("masks") else None)
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            np.testing.assert_array_equal(source.read(), expected)
            assert source.dtypes == ("uint16" if name.startswith("instances") else "uint8",) * source.count
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".tif", ".jsonl", ".json", ".sha256"}


def test_a_failure_midway_leaves_nothing_of_the_sample(make, schema, tmp_path, monkeypatch):
    writer = FolderWriter(tmp_path, schema)
    writer.write(make(0))
    before = files(tmp_path)

    def fail(path, text, **_):
        raise OSError("disk full")

    monkeypatch.setattr("changen_cli.writers.staging.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        writer.write(make(1))
    assert files(tmp_path) == before and writer.finished() == {"scene0_v0"}


def _same(value, array):
    np.testing.assert_array_equal(np.asarray(value), array)


@pytest.mark.parametrize("geo", [False, True])
@pytest.mark.parametrize("dates", [2, 3])
def test_datasets_opens_the_folder_by_builder_and_by_card(make, schema, tmp_path, offline, dates, geo):
    from datasets import load_dataset

    splits = ["train", "train", "val"]
    samples = [make(i, dates=dates, geo=geo, split=split) for i, split in enumerate(splits)]
    write_all(tmp_path, schema, samples)
    # What else lies in a dataset folder must not become a row.
    Image.new("RGB", (8, 8)).save(tmp_path / "preview.png")
    for name in ("manifest.json", "classes.json"):
        (tmp_path / name).write_text("{}")
    by_builder = load_dataset("imagefolder", data_dir=str(tmp_path))
    write_card(tmp_path, {"layout": "folder", "splits": {"train": 2, "val": 1}, "dates": dates})
    by_card = load_dataset(str(tmp_path))
    for data in (by_builder, by_card):
        assert {len(data["train"]), len(list(data.values())[1])} == {2, 1}
        row, sample = data["train"][1], samples[1]
        assert row["image_name"] == sample.id and row["events_file"] == f"events/{sample.id}.jsonl"
        for t in range(dates):
            _same(row[f"t{t + 1}_image"], sample.images[t])
            _same(row[f"t{t + 1}_mask"], sample.masks[t])
            _same(row[f"t{t + 1}_instances"], sample.instances[t])
        _same(row["change_mask"], sample.change_masks[0] * np.uint8(255))
        if dates > 2:
            assert len(row["image"]) == len(row["mask"]) == dates
            _same(row["image"][2], sample.images[2])
            _same(row["mask"][2], sample.masks[2])
            _same(row["instance"][2], sample.instances[2])
            _same(row["change"][1], sample.change_masks[1] * np.uint8(255))


@pytest.mark.parametrize("geo", [False, True])
@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_numbers_beyond_16_bits_are_kept(make, schema, tmp_path, offline, layout, geo):
    """PNG has no 32-bit samples: the instance masks of such a series are TIFF."""
    from datasets import load_dataset

    from changen_cli.writers import open_writer

    sample = make(1, dates=3, geo=geo)
    instances = np.where(sample.instances == 7, 70_000, sample.instances).astype(np.int32)
    sample = dataclasses.replace(sample, instances=instances, objects={70_000: "old", 1: "obj-0"})
    writer = open_writer(layout, tmp_path, schema)
    writer.write(sample)
    writer.close()
    write_card(tmp_path, {"layout": layout, "splits": {"train": 1}, "dates": 3})
    row = load_dataset(str(tmp_path), split="train").with_format("numpy")[0]
    for t in range(3):
        _same(row[f"t{t + 1}_instances"], instances[t])
    if layout == "folder":
        assert {path.suffix for path in (tmp_path / "train/instances").iterdir()} == {".tif"}
        assert {path.suffix for path in (tmp_path / "train/masks").iterdir()} == {".tif" if geo else ".png"}


def test_splits_with_and_without_georeference_still_load(make, schema, tmp_path, offline):
    from datasets import load_dataset

    write_all(tmp_path, schema, [make(0, geo=True), make(1, split="val")])
    data = load_dataset("imagefolder", data_dir=str(tmp_path))
    assert sorted(len(part) for part in data.values()) == [1, 1]
    assert "crs" not in data["train"].column_names
