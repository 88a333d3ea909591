"""The shared rows: event logs, metadata, uniform columns, the staging folder."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from changen_cli.core.errors import OutputError
from changen_cli.writers import open_writer
from changen_cli.writers.base import check_sample, crs_name, event_row, metadata_row
from changen_cli.writers.columns import unify
from changen_cli.writers.staging import dump


def test_event_row_names_classes_and_the_exemplar(make, schema):
    created, removed = (event_row(event, schema) for event in make(dates=3).events)
    assert (created["kind"], created["step"], created["from_name"], created["to_name"]) == (
        "create", 0, "background", "building",
    )  # fmt: skip
    assert created["bbox"] == [10, 30, 20, 40] and created["area_px"] == 100
    assert created["from_areas_px"] == {"0": 100}
    assert (created["source_scene"], created["source_object"], created["source_box"]) == (
        "scene-x",
        "b7",
        [1, 2, 13, 14],
    )
    assert (created["rotation_deg"], created["scale"], created["mirrored"]) == (90.0, 1.25, True)
    assert removed["step"] == 1 and "source_scene" not in removed


def test_metadata_row_holds_what_was_asked_and_reached(make):
    row = metadata_row(make(2, geo=True))
    assert row["image_name"] == "scene2_v0" and row["crs"] == "EPSG:3857" and row["gsd_m"] == 0.5
    assert row["changed_fraction"] == [round(120 / (64 * 96), 8)]
    assert (row["asked"], row["reached"], row["met"], row["mean_shift"]) == ([0.05], [0.04], [False], 0.5)


@pytest.mark.parametrize("key", ["seed", "extra_file_name", "my_file_names"])
def test_info_may_not_clash_with_columns(make, key):
    with pytest.raises(ValueError, match=key):
        metadata_row(make(info={key: 1}))


def test_crs_without_code_stays_wkt():
    from rasterio.crs import CRS

    wkt = CRS.from_proj4("+proj=lcc +lat_1=11 +lat_2=12 +lat_0=3 +lon_0=4 +ellps=WGS84").to_wkt()
    assert crs_name(wkt) == wkt
    assert crs_name(None) is None


def test_unify_gives_one_key_set_and_one_type_per_column():
    rows = [{"a": 1, "b": 1, "c": True}, {"a": 2, "b": 0.5, "c": "x", "d": [1]}]
    first, second = unify(rows)
    assert list(first) == list(second) == ["a", "b", "c", "d"]
    assert [type(r["b"]) for r in (first, second)] == [float, float]
    assert [r["c"] for r in (first, second)] == ["true", "x"]
    assert first["d"] is None and rows[0] == {"a": 1, "b": 1, "c": True}
    assert unify(rows[::-1]) == [second, first]


def test_dump_refuses_what_json_does_not_have():
    with pytest.raises(ValueError):
        dump({"x": float("nan")})


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((2, 64, 96, 4), np.uint8)},
        {"images": np.zeros((2, 64, 96, 3), np.float32)},
        {"masks": np.zeros((3, 64, 96), np.uint8)},
        {"masks": np.zeros((2, 64, 96), np.int32)},
        {"images": None, "masks": np.zeros((2, 64, 96), np.int32)},
        {"images": None, "masks": np.zeros((1, 64, 96), np.uint8)},
        {"instances": np.zeros((3, 64, 96), np.int32)},
        {"instances": np.zeros((2, 64, 96), np.uint16)},
        {"instances": np.full((2, 64, 96), -1, np.int32)},
        {"calendar": ("2018", "2019", "2020")},
        {"images": np.zeros((1, 64, 96, 3), np.uint8), "masks": np.zeros((1, 64, 96), np.uint8)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(make, change):
    with pytest.raises(ValueError, match="scene0_v0"):
        check_sample(dataclasses.replace(make(), **change))


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_series_of_another_length_are_refused_even_after_a_restart(make, schema, tmp_path, layout):
    open_writer(layout, tmp_path, schema).write(make(0))
    again = open_writer(layout, tmp_path, schema)
    assert again.finished() == {"scene0_v0"}
    with pytest.raises(OutputError, match="dates"):
        again.write(make(1, dates=3))


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_close_refuses_an_order_with_a_missing_sample(make, schema, tmp_path, layout):
    writer = open_writer(layout, tmp_path, schema)
    writer.write(make(0))
    with pytest.raises(OutputError, match="scene1_v0"):
        writer.close(["scene0_v0", "scene1_v0"])
    assert writer.finished() == {"scene0_v0"}


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_abandon_leaves_no_file(make, schema, tmp_path, layout):
    writer = open_writer(layout, tmp_path, schema)
    writer.write(make(0, dates=3))
    writer.abandon()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert writer.close() == []


def test_importing_the_writers_loads_no_heavy_library():
    modules = "base folder parquet classes card contact_sheet images"
    code = (
        f"import importlib, sys; [importlib.import_module('changen_cli.writers.' + m) for m in '{modules}'.split()];"
        "bad = {'rasterio', 'pyarrow', 'datasets', 'torch', 'pandas'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
