"""Samples by number are those that reading in order gives."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from changen_cli.core.errors import OutputError
from changen_cli.exports.lookup import Lookup
from changen_cli.exports.master import open_master
from tests.hub.datasets import write_dataset


@pytest.mark.parametrize("name", ["building", "parquet", "georeferenced", "masks"])
def test_every_number_gives_the_sample_that_order_gives(name, made) -> None:
    master = open_master(made(name))
    lookup, samples = Lookup(master), list(master.samples())
    assert len(lookup) == len(samples) >= 2
    for number in reversed(range(len(samples))):
        found, expected = lookup[number], samples[number]
        assert (found.row, found.events, found.objects) == (expected.row, expected.events, expected.objects)
        assert [image.read() for image in found.images] == [image.read() for image in expected.images]
        assert np.array_equal(found.mask_arrays, expected.mask_arrays)
    for number in (-1, len(samples)):
        with pytest.raises(IndexError):
            lookup[number]


def test_several_row_groups_and_shards(tmp_path) -> None:
    from changen_cli.writers import parquet

    out = write_dataset(tmp_path / "out", parquet.MAX_GROUP_ROWS + 3, "parquet", side=32)
    lookup = Lookup(open_master(out))
    ids = [sample.id for sample in open_master(out).samples()]
    assert [lookup[number].id for number in range(len(lookup))] == ids


def test_a_row_beyond_ascii_does_not_shift_the_next(made, tmp_path) -> None:
    out = shutil.copytree(made("pairs"), tmp_path / "out")
    table = out / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[0]["source_path"] = "überfläche/日本.png"
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    lookup = Lookup(open_master(out))
    assert lookup[1].id == rows[1]["image_name"] and lookup[0].row["source_path"] == rows[0]["source_path"]


def test_a_file_that_leads_out_is_one_clear_error(made, tmp_path) -> None:
    out = shutil.copytree(made("pairs"), tmp_path / "out")
    table = out / "train" / "metadata.jsonl"
    rows = [json.loads(line) | {"t1_image_file_name": "../../../etc/passwd"} for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OutputError, match=r"metadata\.jsonl cannot be read: .* is no path inside"):
        Lookup(open_master(out))[0]
