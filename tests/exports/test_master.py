"""Reading datasets back: both layouts give the same samples."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.exports.master import open_master, pairs


@pytest.mark.parametrize(("name", "suffix"), [("building", ".png"), ("georeferenced", ".tif"), ("pairs", ".png")])
def test_a_folder_is_read_as_it_was_written(name, suffix, made) -> None:
    master = open_master(made(name))
    samples = list(master.samples())
    assert master.layout == "folder" and len(samples) >= 2
    assert [s.row["image_name"] for s in samples] == [row["image_name"] for row in master.rows()]
    for sample in samples:
        dates = sample.row["dates"]
        assert (len(sample.images), len(sample.masks), len(sample.changes)) == (dates, dates, dates - 1)
        assert {stored.suffix for stored in (*sample.images, *sample.masks, *sample.changes)} == {suffix}
        changes = np.stack([change.array() for change in sample.changes]) > 0
        assert changes.any()
        assert np.array_equal(changes, sample.mask_arrays[1:] != sample.mask_arrays[:-1])
        assert sum(event["area_px"] for event in sample.events) == changes.sum()
        assert sample.images[0].array().shape == (128, 128, 3)
        assert {stored.suffix for stored in sample.instances} == {suffix} and len(sample.instances) == dates
        assert set(np.unique(sample.instance_arrays)) - {0} == set(sample.objects)
        assert np.array_equal(sample.instance_arrays > 0, sample.mask_arrays == 1)
        for event in sample.events:
            assert sample.objects[event["instance"]] == event["object_id"]


def test_parquet_gives_what_the_folder_gives(made) -> None:
    folder, parquet = open_master(made("building")), open_master(made("parquet"))
    assert parquet.layout == "parquet" and folder.schema == parquet.schema
    for ours, theirs in zip(folder.samples(), parquet.samples(), strict=True):
        assert {k: v for k, v in ours.row.items() if v is not None} == {
            k: v for k, v in theirs.row.items() if v is not None
        }
        assert ours.events == theirs.events and ours.objects == theirs.objects != {}
        pixels = [(*s.images, *s.masks, *s.instances, *s.changes) for s in (ours, theirs)]
        for a, b in zip(*pixels, strict=True):
            assert np.array_equal(a.array(), b.array())
    assert [row["image_name"] for row in parquet.rows()] == [row["image_name"] for row in folder.rows()]


@pytest.mark.parametrize("name", ["building", "parquet"])
def test_datasets_older_than_instance_masks_are_read(name, made, tmp_path) -> None:
    import pyarrow.parquet as pq

    copy = shutil.copytree(made(name), tmp_path / "copy")
    for table in copy.glob("data/*.parquet"):
        rows = pq.read_table(table)
        pq.write_table(rows.drop_columns([c for c in rows.column_names if "instances" in c or c == "objects"]), table)
    for table in copy.glob("train/metadata.jsonl"):
        rows = [json.loads(line) for line in table.read_text().splitlines()]
        kept = [{k: v for k, v in row.items() if "instance" not in k and k != "objects_file"} for row in rows]
        table.write_text("".join(json.dumps(row) + "\n" for row in kept))
    for old, new in zip(open_master(copy).samples(), open_master(made(name)).samples(), strict=True):
        assert (old.instances, old.objects) == ((), {})
        assert old.row == new.row and old.events == new.events


def test_a_run_without_images_has_none(made) -> None:
    master = open_master(made("masks"))
    assert not master.has_images
    assert all(sample.images == () and len(sample.masks) == 3 for sample in master.samples())


def test_pairs_of_a_series(made) -> None:
    sample = next(open_master(made("building")).samples())
    names = {mode: [pair.name for pair in pairs(sample, mode)] for mode in ("consecutive", "all", "first-last")}
    assert names["consecutive"] == [f"{sample.id}_t0_t1", f"{sample.id}_t1_t2"]
    assert names["all"] == [f"{sample.id}_t0_t1", f"{sample.id}_t0_t2", f"{sample.id}_t1_t2"]
    assert names["first-last"] == [f"{sample.id}_t0_t2"]
    far = pairs(sample, "first-last")[0]
    assert np.array_equal(far.change, sample.mask_arrays[0] != sample.mask_arrays[2])
    two = next(open_master(made("pairs")).samples())
    assert [pair.name for pair in pairs(two)] == [two.id]


def test_a_file_is_linked_or_copied(made, tmp_path) -> None:
    folder, parquet = (next(open_master(made(name)).samples()) for name in ("building", "parquet"))
    for sample, linked in ((folder, True), (parquet, False)):
        target = tmp_path / f"{linked}.png"
        sample.images[0].put(target)
        assert np.array_equal(np.asarray(Image.open(target)), sample.images[0].array())
        assert (target.stat().st_nlink > 1) == linked


def test_what_is_no_finished_dataset_is_refused(made, tmp_path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        open_master(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        open_master(tmp_path)
    copy = shutil.copytree(made("building"), tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    with pytest.raises(UsageError, match="'running'"):
        open_master(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be read"):
        open_master(copy)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    image = next((copy / "train" / "images").iterdir())
    image.write_bytes(image.read_bytes()[:200])
    broken = [stored for sample in open_master(copy).samples() for stored in sample.images if stored.path == image]
    with pytest.raises(OutputError, match=image.name):
        broken[0].array()


def test_a_shard_is_not_held_in_memory(made, tmp_path) -> None:
    """Row group by row group, in small batches, whatever the size of the shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    copy = shutil.copytree(made("parquet"), tmp_path / "copy")
    shard = next((copy / "data").iterdir())
    table = pq.read_table(shard)
    pq.write_table(pa.concat_tables([table] * 100), shard, row_group_size=4)
    del table
    before, most, count = pa.total_allocated_bytes(), 0, 0
    for _ in open_master(copy).samples():
        most, count = max(most, pa.total_allocated_bytes() - before), count + 1
    assert count >= 200
    assert most < shard.stat().st_size / 4
