"""torchange's Parquet, loaded by `datasets` as HFBitemporalDataset does."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from changen_cli.exports.master import open_master
from changen_cli.exports.torchange import Torchange

from .readers import torchange_hub
from .tools import assert_images, export_as, findings, the_finding, truth, with_unknown

COLUMNS = ["t1_image", "t2_image", "t1_mask", "t2_mask", "change_mask", "image_name"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rewrite(shard: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Store changed rows under the same name and features."""
    table = pq.read_table(shard)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), shard)


def encode(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def decode(cell: dict[str, Any]) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(cell["bytes"])))


@pytest.mark.parametrize("name", ["building", "pairs", "landcover", "georeferenced", "parquet"])
def test_torchange(name, made, tmp_path) -> None:
    """Masks come as raw arrays of mode L: t1_mask, t2_mask, change; change above 0 is changed. [torchange/data/bitemporal.py]"""
    export_as("torchange", made(name), tmp_path / "out")
    expected = truth(made(name))
    for pair, item in assert_images(torchange_hub(tmp_path / "out", "train"), made(name)).items():
        before, after, change = item.labels
        assert all(label.ndim == 2 and label.dtype == np.uint8 for label in item.labels)
        assert np.array_equal(before, expected[pair].masks[0]) and np.array_equal(after, expected[pair].masks[1])
        assert np.array_equal(change > 0, expected[pair].change) and set(np.unique(change)) <= {0, 255}
    assert findings("torchange", tmp_path / "out") == []


def test_columns_and_card_are_those_of_the_published_sets(made, tmp_path) -> None:
    """Exactly these columns in this order; YAML with dataset_info and configs. [card of EVER-Z/torchange_second]"""
    export_as("torchange", made("building"), tmp_path / "out", shares=(0.5, 0.5))
    shards = sorted((tmp_path / "out" / "data").iterdir())
    assert [shard.name for shard in shards] == ["train-00000-of-00001.parquet", "val-00000-of-00001.parquet"]
    for shard in shards:
        schema = pq.read_schema(shard)
        assert schema.names == COLUMNS
        assert b'"_type": "Image"' in schema.metadata[b"huggingface"]
    text = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(re.match(r"---\n(.*?)---\n", text, re.DOTALL)[1])
    assert [feature["name"] for feature in head["dataset_info"]["features"]] == COLUMNS
    assert head["configs"][0]["data_files"] == [{"split": s, "path": f"data/{s}-*"} for s in ("train", "val")]
    counts = {split["name"]: split["num_examples"] for split in head["dataset_info"]["splits"]}
    assert counts == {s: len(torchange_hub(tmp_path / "out", s)) for s in ("train", "val")}
    assert head["license"] == "other" and "change-detection" in head["tags"]


def test_unknown_pixels_stay_in_the_masks(made, tmp_path) -> None:
    source = with_unknown(made("landcover"), tmp_path / "source")
    export_as("torchange", source, tmp_path / "out")
    for item in torchange_hub(tmp_path / "out", "train"):
        before, after, change = item.labels
        assert (before[:8] == 255).all() and (after[:8] == 255).all() and not change[:8].any()


@pytest.mark.parametrize(("mode", "count"), [("consecutive", 2), ("all", 3), ("first-last", 1)])
def test_pairs_of_a_series(mode, count, made, tmp_path) -> None:
    report = export_as("torchange", made("building"), tmp_path / "out", pairs=mode)
    expected = truth(made("building"), mode)
    items = {item.name: item for item in torchange_hub(tmp_path / "out", "train")}
    assert set(items) == set(expected) and report.items["train"] == count * report.samples
    for name, pair in expected.items():
        assert np.array_equal(items[name].labels[2] > 0, pair.masks[0] != pair.masks[1])


def test_shards_are_cut_by_size(made, tmp_path) -> None:
    """At most the given bytes each, and always at least one row."""
    master = open_master(made("building"))
    exporter = Torchange(tmp_path, master, "consecutive", max_shard_bytes=100_000)
    for sample in master.samples():
        exporter.write(sample, "train")
    exporter.close()
    shards = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert len(shards) > 1 and shards == [f"train-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]
    for name in shards:
        rows = pq.read_table(tmp_path / "data" / name).to_pylist()
        assert len(rows) == 1 or sum(len(row[c]["bytes"]) for row in rows for c in COLUMNS[:-1]) <= 100_000
    assert_images(torchange_hub(tmp_path, "train"), made("building"))
    assert findings("torchange", tmp_path) == []


def test_our_own_parquet_is_read_too(made, tmp_path) -> None:
    """A dataset of pairs that changen writes as Parquet has the columns first. [docs/outputs.md]"""
    assert [f for f in findings("torchange", made("parquet")) if f.severity == "error"] == []


@pytest.fixture
def shard(made, tmp_path) -> Path:
    export_as("torchange", made("landcover"), tmp_path / "out")
    return next((tmp_path / "out" / "data").iterdir())


def spoil(
    column: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def of_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[0][column]["bytes"] = encode(change(decode(rows[0][column])))
        return rows

    return of_first


def broken(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows[1]["t2_image"]["bytes"] = rows[1]["t2_image"]["bytes"][:500]
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil("change_mask", lambda mask: 255 - mask), "disagrees"),
        (spoil("t1_mask", lambda mask: np.dstack([mask] * 3)), "t1_mask has mode RGB"),
        (spoil("t1_image", lambda image: image[..., 0]), "t1_image has mode L"),
        (spoil("t2_image", lambda image: image[:99]), "mixes sizes"),
        (broken, "t2_image cannot be read"),
        (lambda rows: [rows[0] | {"image_name": ""}, *rows[1:]], "no image_name"),
        (lambda rows: [rows[0] | {"image_name": rows[1]["image_name"]}, *rows[1:]], "comes twice"),
        (lambda rows: [rows[0] | {"change_mask": None}, *rows[1:]], "change_mask cannot be read: it is empty"),
        (lambda rows: rows[1:], "states 6 rows in train, its shards hold 5"),
    ],
)
def test_wrong_rows_are_found(change, message, shard) -> None:
    rewrite(shard, change)
    assert message in the_finding("torchange", shard.parents[1]).message


def test_load_dataset_refuses_what_the_card_misstates(shard) -> None:
    """The rule behind the check of the card."""
    rewrite(shard, lambda rows: rows[1:])
    with pytest.raises(Exception, match=r"NonMatchingSplitsSizes|num_examples"):
        torchange_hub(shard.parents[1], "train")


def test_wrong_files_are_found(shard) -> None:
    root = shard.parents[1]
    renamed = shard.rename(shard.with_name("train-00000-of-00003.parquet"))
    assert "lacks the shards 1, 2 of 3" in the_finding("torchange", root).message
    renamed.rename(shard)
    pq.write_table(pq.read_table(shard).drop_columns(["image_name", "t1_mask", "t2_mask", "change_mask"]), shard)
    messages = " ".join(f.message for f in findings("torchange", root))
    assert "no column image_name" in messages and "nothing to learn" in messages
    shard.write_bytes(b"PAR1 and nothing else")
    assert any("cannot be read" in f.message for f in findings("torchange", root))
    shard.unlink()
    assert "no Parquet file" in the_finding("torchange", root).message


def test_a_card_without_yaml_is_a_warning(shard) -> None:
    (shard.parents[1] / "README.md").write_text("# Nothing\n")
    assert the_finding("torchange", shard.parents[1]).severity == "warning"
