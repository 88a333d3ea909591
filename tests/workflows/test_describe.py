"""The card of a real run: every figure is computed anew from the files, in both layouts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard

from changen_cli.core.errors import UsageError
from changen_cli.exports.master import open_master
from changen_cli.workflows.describe import describe
from changen_cli.workflows.generate import generate
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.writers.card import render_card
from changen_cli.writers.card_tables import AREA_EDGES_PX

from .conftest import manifest, rows

RUN: dict[str, Any] = {
    "events": {"kinds": ("create", "remove", "transition"), "steps": 2, "change_area": "4-8%", "negatives": 0.5},
    "synthesis": {"strength": 0.0},
    "variants": 2,
    "source": {"license": ("cc-by-4.0",)},
    "seed": 3,
}
RATES = {"background": {"road": 0.2}, "road": {"background": 0.2}}


def make(tree: Path, out: Path, make_recipe: Any, layout: str = "folder", **more: Any) -> Path:
    sections = RUN | {"events": RUN["events"] | {"transitions": {"name": "t", "rates": RATES}}} | more
    generate(make_recipe(tree, output={"path": str(out), "format": layout}, **sections))
    return out


def tables(text: str) -> dict[str, list[list[str]]]:
    """Every table of a card by the name of its first column's head and the section it is in."""
    found: dict[str, list[list[str]]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:]
        if line.startswith("| ") and not set(line) <= set("|-: "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(section, []).append(cells)
    return found


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_every_figure_is_that_of_the_files(pairs_tree, tmp_path, make_recipe) -> None:
    out = make(pairs_tree, tmp_path / "out", make_recipe)
    text = (out / "README.md").read_text()
    found, listed = tables(text), rows(out)
    events = [json.loads(line) for path in (out / "train/events").iterdir() for line in path.open()]

    figures = dict(found["How it was made"][1:])
    changing = [share for row in listed if not row["negative"] for share in row["changed_fraction"]]
    counts = Counter(event["kind"] for event in events)
    negatives = sum(row["negative"] for row in listed)
    assert 0 < negatives < len(listed) == 6 and len(counts) == 3, "the run shows everything the card counts"
    assert figures == {
        "samples": "6",
        "samples without change": str(negatives),
        "places (`group`)": "3",
        "tile size": "128 × 128 px",
        "events": ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())),
        "mean changed share of a step": f"{np.mean(changing):.2%}",
    }
    assert f"6 in `train`, {listed[0]['dates']} dates each" in text

    by_kind = {re.search(r"`(.+)`", row[0])[1]: row for row in found["Changes"] if "(`" in row[0]}
    assert set(by_kind) == set(counts)
    for kind, row in by_kind.items():
        areas = np.array([event["area_px"] for event in events if event["kind"] == kind])
        assert [number(cell) for cell in (*row[1:3], *row[4:6])] == [
            len(areas), areas.sum(), areas.min(), areas.max(),
        ]  # fmt: skip
        assert row[3] == f"{areas.mean():,.0f}"
        bins = np.histogram(areas, bins=[*AREA_EDGES_PX, np.inf])[0]
        assert [number(cell) for cell in row[7:]] == bins.tolist()
        assert [bar == "·" for bar in row[6]] == (bins == 0).tolist()

    pairs = {tuple(row[:3]): tuple(map(number, row[3:])) for row in found["Changes"] if row[0].startswith("`")}
    expected: dict[tuple[str, ...], tuple[int, int]] = {}
    for event in events:
        key = (f"`{event['kind']}`", event["from_name"], event["to_name"])
        count, area = expected.get(key, (0, 0))
        expected[key] = (count + 1, area + event["area_px"])
    assert pairs == expected

    classes = json.loads((out / "classes.json").read_text())["classes"]
    assert [row for row in found["Values"] if row[0].isdigit()] == [
        *([str(c["id"]), c["name"], "`#" + bytes(c["color"]).hex() + "`"] for c in classes),
        ["255", "ignore", ""],
    ]
    done = manifest(out)
    assert f"python {done['versions']['python']}" in text and "**Seed**: 3" in text
    recipe = yaml.safe_load(re.search(r"```yaml\n(.+?)```", text, re.DOTALL)[1])
    assert recipe["events"] == done["recipe"]["events"] and recipe["synthesis"]["strength"] == 0
    assert str(tmp_path) not in text, "no paths of this machine"


def test_both_layouts_tell_the_same(pairs_tree, tmp_path, make_recipe) -> None:
    folder = describe(make(pairs_tree, tmp_path / "a" / "set", make_recipe))
    parquet = describe(make(pairs_tree, tmp_path / "b" / "set", make_recipe, "parquet"))
    for key in ("figures", "changes", "splits", "classes", "colors", "license", "license_reason", "sources", "dates"):
        assert folder[key] == parquet[key], key
    shard = next((tmp_path / "b" / "set" / "data").iterdir())
    info, footer = parquet["dataset_info"], pq.read_metadata(shard)
    assert info["splits"] == [
        {"name": "train", "num_bytes": footer.row_group(0).total_byte_size, "num_examples": footer.num_rows}
    ]
    assert info["download_size"] == shard.stat().st_size and info["dataset_size"] == info["splits"][0]["num_bytes"]
    names = footer.schema.to_arrow_schema().names
    assert [name for name, _ in parquet["columns"]] == [feature["name"] for feature in info["features"]] == names
    assert ("t1_image", "image") in parquet["columns"] and ("change_masks", "list of image") in parquet["columns"]
    # As `datasets` names the columns of an image folder.
    assert {"t1_image", "t3_mask", "image", "mask", "change", "change_mask"} <= {name for name, _ in folder["columns"]}


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_the_hub_reads_the_card_and_datasets_what_it_describes(
    pairs_tree, tmp_path, make_recipe, offline, layout
) -> None:
    from datasets import load_dataset

    out = make(pairs_tree, tmp_path / "out", make_recipe, layout)
    data = DatasetCard.load(out / "README.md").data.to_dict()
    assert data["license"] == "cc-by-4.0" and data["annotations_creators"] == ["machine-generated"]
    loaded = load_dataset(str(out), split="train")
    assert len(loaded) == 6
    described = {name for name, _ in describe(out)["columns"]}
    assert described == set(loaded.column_names)
    if layout == "parquet":
        assert data["dataset_info"]["splits"][0]["num_examples"] == 6
        wrong = (out / "README.md").read_text().replace("num_examples: 6", "num_examples: 7")
        (out / "README.md").write_text(wrong)
        with pytest.raises(Exception, match=r"NonMatchingSplitsSizes|expected"):
            load_dataset(str(out), split="train")


def test_licence_model_and_evaluation(pairs_tree, tmp_path, make_recipe) -> None:
    out = make(pairs_tree, tmp_path / "out", make_recipe, synthesis={"strength": 0.4}, limit=1, variants=1)
    facts = describe(out)
    assert (facts["license"], facts["license_known"]) == ("cc-by-4.0", True)
    assert facts["license_reason"] == (
        "The most restrictive licence of source pairs (cc-by-4.0), model tiny.safetensors (cc0-1.0)."
    )
    text = render_card(facts)
    digest = manifest(out)["model"]["sha256"]
    assert f"`tiny.safetensors`, licence: CC0-1.0, SHA-256 `{digest}`" in text
    assert "## Evaluation" not in text
    (out / "evaluation.json").write_text(json.dumps({"FID": 12.345678, "pairs": 40, "per_class": {"a": 1}}))
    text = render_card(describe(out))
    assert "## Evaluation\n\n| figure | value |\n| --- | --- |\n| FID | 12.35 |\n| pairs | 40 |\n" in text
    assert "per_class" not in text
    stated = describe(out, licence="odbl", repo_id="me/city", layout="parquet", splits={"train": 1, "val": 3})
    assert (stated["license"], stated["name"], stated["splits"]) == ("odbl", "city", {"train": 1, "val": 3})
    assert "dataset_info" not in stated
    with pytest.raises(UsageError, match="--license"):
        describe(out, licence="whatever")


def test_what_nobody_states_is_unknown(xbd_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    (xbd_tree / "LICENSE").write_text("MIT License")
    simulate_dataset(make_recipe(xbd_tree, output={"path": str(out)}))
    facts = describe(out)
    assert (facts["license"], facts["license_known"], facts["images"]) == ("other", False, False)
    assert "source xbd: not stated" in facts["license_reason"]
    (xbd_tree / "changen-source.yaml").write_text("name: Flood\nlicense: [cc0-1.0]\nattribution: (c) me")
    simulate_dataset(make_recipe(xbd_tree, output={"path": str(out), "mode": "overwrite"}))
    text = (out / "README.md").read_text()
    assert "license: cc0-1.0\n" in text and "| source: Flood | cc0-1.0 | (c) me |" in text
    assert manifest(out)["source"]["license"] == ["cc0-1.0"]


def test_proposals_are_called_so_also_later(photos, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    simulate_dataset(make_recipe(photos, output={"path": str(out)}))
    assert open_master(out).schema.class_agnostic
    facts = describe(out)
    assert facts["proposals"] == "class-agnostic object proposals (graph segmentation), not ground truth"
    assert render_card(facts) == (out / "README.md").read_text(), "the card of a run is that of its dataset"


def test_a_bad_statement_stops_before_anything_is_written(xbd_tree, tmp_path, make_recipe) -> None:
    (xbd_tree / "changen-source.yaml").write_text("license: mine")
    with pytest.raises(UsageError, match="'mine' is no licence"):
        simulate_dataset(make_recipe(xbd_tree, output={"path": str(tmp_path / "out")}))
    assert not (tmp_path / "out").exists()
