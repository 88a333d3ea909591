"""Parquet shards, read back with pyarrow, through ``datasets`` and the way torchange does."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from changen_cli.writers import parquet as parquet_module
from changen_cli.writers.card import write_card
from changen_cli.writers.parquet import ParquetWriter, read_events

PAIR = ["t1_image", "t2_image", "t1_mask", "t2_mask", "change_mask", "image_name"]


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write_all(root, schema, samples, **options):
    writer = ParquetWriter(root, schema, **options)
    for sample in samples:
        writer.write(sample)
    return writer.close()


def test_pair_columns_come_first_and_masks_are_single_band_png(make, schema, tmp_path):
    (path,) = write_all(tmp_path, schema, [make(1)])
    assert path == tmp_path / "data/train-00000-of-00001.parquet"
    table = pq.read_table(path)
    assert table.column_names[:6] == PAIR and table.column_names[-1] == "events"
    cell = table["t1_mask"][0].as_py()
    image = Image.open(io.BytesIO(cell["bytes"]))
    assert (image.format, image.mode, cell["path"]) == ("PNG", "L", "scene1_v0_t0_mask.png")
    assert list(files(tmp_path)) == ["checksums.sha256", "data/train-00000-of-00001.parquet"]


@pytest.mark.parametrize("dates", [2, 4])
def test_samples_without_images_leave_their_columns_out(make, schema, tmp_path, dates):
    samples = [make(i, dates=dates) for i in range(2)]
    (whole,) = write_all(tmp_path / "whole", schema, samples)
    (masks,) = write_all(tmp_path / "masks", schema, [dataclasses.replace(sample, images=None) for sample in samples])
    expected, table = pq.read_table(whole), pq.read_table(masks)
    assert table.column_names == [name for name in expected.column_names if not name.endswith("_image")]
    assert table.to_pylist() == expected.select(table.column_names).to_pylist()


def test_readable_as_torchange_reads_it(make, schema, tmp_path, offline):
    from datasets import load_dataset

    samples = [make(i, geo=bool(i % 2)) for i in range(3)]
    write_all(tmp_path, schema, samples)
    write_card(tmp_path, {"layout": "parquet", "splits": {"train": 3}, "dates": 2})
    data = load_dataset(str(tmp_path), split="train").with_format("numpy")
    assert len(data) == 3
    for example, sample in zip(data, samples, strict=True):
        assert example["image_name"] == sample.id
        assert example["t1_mask"].ndim == 2 and example["t1_mask"].dtype == np.uint8
        np.testing.assert_array_equal(example["t1_image"], sample.images[0])
        np.testing.assert_array_equal(example["t2_image"], sample.images[1])
        np.testing.assert_array_equal(example["t1_mask"], sample.masks[0])
        np.testing.assert_array_equal(example["t2_mask"], sample.masks[1])
        assert set(np.unique(example["change_mask"])) == {0, 255}
        np.testing.assert_array_equal(example["change_mask"] > 0, example["t1_mask"] != example["t2_mask"])
        np.testing.assert_array_equal(example["t2_instances"], sample.instances[1])
    plain = load_dataset(str(tmp_path), split="train")
    assert [row["crs"] for row in plain] == [None, "EPSG:3857", None]
    assert plain[1]["transform"] == [0.5, 0.0, 9_519_926.0, 0.0, -0.5, 3_202_940.0]
    (event,) = read_events(plain[1]["events"])
    assert event["kind"] == "create" and event["area_px"] == 110


def test_longer_series_add_dates_and_a_list_of_change_masks(make, schema, tmp_path, offline):
    from datasets import Image as ImageFeature
    from datasets import List, load_dataset

    sample = make(1, dates=4)
    paths = write_all(tmp_path, schema, [sample])
    data = load_dataset("parquet", data_files=[str(p) for p in paths], split="train")
    assert data.column_names[:6] == PAIR
    assert data.features["t4_mask"] == ImageFeature() and data.features["change_masks"] == List(ImageFeature())
    row = data[0]
    np.testing.assert_array_equal(np.asarray(row["t4_image"]), sample.images[3])
    np.testing.assert_array_equal(np.asarray(row["t3_mask"]), sample.masks[2])
    np.testing.assert_array_equal(np.asarray(row["t4_instances"]), sample.instances[3])
    assert json.loads(row["objects"]) == {"1": "obj-0", "3": "obj-2", "7": "old"}
    np.testing.assert_array_equal(np.asarray(row["change_mask"]) > 0, sample.change_masks[0])
    np.testing.assert_array_equal(np.stack([np.asarray(c) for c in row["change_masks"]]) > 0, sample.change_masks)


def test_shards_are_cut_by_size_and_named_by_their_number(make, schema, tmp_path, offline):
    from datasets import load_dataset

    samples = [make(i, split="val" if i == 4 else "train") for i in range(5)]
    paths = write_all(tmp_path, schema, samples, max_shard_bytes=100_000)
    assert [p.name for p in paths] == [
        "train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "val-00000-of-00001.parquet",
    ]  # fmt: skip
    assert all(p.stat().st_size < 130_000 for p in paths)
    write_card(tmp_path, {"layout": "parquet", "splits": {"train": 4, "val": 1}, "dates": 2})
    data = load_dataset(str(tmp_path))
    assert list(data["train"]["image_name"]) == [f"scene{i}_v0" for i in range(4)]
    assert list(data["val"]["image_name"]) == ["scene4_v0"]


def test_neither_order_nor_a_restart_changes_a_byte(make, schema, tmp_path):
    samples = [make(i, info={"k": 1} if i else {"z": 0.5, "k": 2}) for i in range(4)]
    write_all(tmp_path / "a", schema, samples, max_shard_bytes=100_000)
    ParquetWriter(tmp_path / "b", schema).write(samples[3])
    write_all(tmp_path / "b", schema, [samples[2], samples[0], samples[1]], max_shard_bytes=100_000)
    a = files(tmp_path / "a")
    assert a == files(tmp_path / "b") and len(a) == 3


def test_row_groups_are_bounded(make, schema, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_module, "MAX_GROUP_ROWS", 2)
    (path,) = write_all(tmp_path, schema, [make(i) for i in range(5)])
    meta = pq.ParquetFile(path).metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [2, 2, 1]


def test_a_failure_while_closing_leaves_no_shard_and_can_be_repeated(make, schema, tmp_path, monkeypatch):
    writer = ParquetWriter(tmp_path, schema, max_shard_bytes=40_000)
    for i in range(2):
        writer.write(make(i))
    real, calls = parquet_module.write_shard, []

    def fail_second(path, rows, features):
        calls.append(path)
        real(path, rows, features)
        if len(calls) == 2:
            raise OSError("disk full")

    monkeypatch.setattr(parquet_module, "write_shard", fail_second)
    with pytest.raises(OSError, match="disk full"):
        writer.close()
    assert not (tmp_path / "data").exists() and len(writer.finished()) == 2
    monkeypatch.setattr(parquet_module, "write_shard", real)
    assert len(ParquetWriter(tmp_path, schema, max_shard_bytes=40_000).close()) == 2
    assert len(files(tmp_path)) == 3


def test_lists_of_records_are_columns(make, schema, tmp_path, offline):
    """As generation writes them: the acquisition of every date."""
    from datasets import load_dataset

    drawn = [{"blur_px": 0.4, "noise": 1.5}, {"blur_px": 0.5, "noise": 2.25}]
    write_all(tmp_path, schema, [make(1, info={"acquisition": drawn}), make(2, info={"acquisition": drawn[::-1]})])
    write_card(tmp_path, {"layout": "parquet", "splits": {"train": 2}, "dates": 2})
    data = load_dataset(str(tmp_path), split="train")
    assert data[0]["acquisition"] == drawn
    assert data[1]["acquisition"] == drawn[::-1]
