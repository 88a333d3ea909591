"""Evaluation of a whole dataset: the file, the card, checksums that stay right, and the same figures every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.manifest import read_manifest
from changen_cli.core.recipe import build_recipe
from changen_cli.exports.master import open_master
from changen_cli.workflows.describe import describe
from changen_cli.workflows.evaluate import evaluate
from changen_cli.workflows.evaluation import read_evaluation, update_evaluation
from changen_cli.workflows.report_index import Index
from changen_cli.workflows.report_page import overview
from changen_cli.workflows.setup import clear_output
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.workflows.validate import validate
from changen_cli.writers.card import render_card
from tests.hub.datasets import write_dataset

from .planted import planted_sample


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("planted")
    return {
        name: write_dataset(root / name, 16, layout, make=planted_sample, kind=kind)
        for name, layout, kind in (("same", "folder", "identical"), ("soft", "parquet", "blurred"))
    }  # fmt: skip


def shortcuts(found: dict[str, Any], kind: str) -> dict[str, str]:
    return {name: row["verdict"] for name, row in found["shortcuts"][kind].items()}


def test_planted_shortcuts_are_found_in_either_layout(planted) -> None:
    same = evaluate(planted["same"], likeness=False)
    row = same["shortcuts"]["change"]["difference"]
    assert row["auc"] > 0.98 and row["verdict"] == "over" and row["bar"] == 0.65 and row["advice"]
    assert same["shortcuts"]["identical_share"] == 1 and set(shortcuts(same, "date").values()) == {"ok"}
    assert same["exactness"] == {"verdict": "ok", "errors": 0, "warnings": 0, "first": []}
    assert same["looked_at"] == {"samples": 16, "pairs": 16, "places": 8} and same["real"] is None
    assert same["statistics"]["objects_per_pair"] == {"made": 1} and same["likeness"] == {}
    assert same["transitions"][0]["from"] == "background" and same["transitions"][0]["events"] == 16
    soft = evaluate(planted["soft"], real=planted["same"], likeness=False)
    assert shortcuts(soft, "date")["sharpness"] == shortcuts(soft, "balance")["sharpness"] == "over"
    assert soft["shortcuts"]["verdict"] == "over" and "real_auc" in soft["shortcuts"]["date"]["sharpness"]
    assert soft["real"] == {"name": "same", "layout": "changen", "pairs": 16, "places": 8, "skipped": 0}
    assert soft["statistics"]["changed_share"].keys() == {"made", "asked", "real"}


def test_the_card_tells_it_and_nothing_else_changes(planted) -> None:
    out = planted["same"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    first = evaluate(out, samples=10, likeness=False)
    text = (out / "evaluation.json").read_bytes()
    assert json.loads(text) == first and evaluate(out, samples=10, likeness=False) == first
    assert (out / "evaluation.json").read_bytes() == text, "the same dataset gives the same figures"
    card = (out / "README.md").read_text()
    assert card == render_card(describe(out)), "whoever writes the card anew writes the same"
    assert "| colour difference tells what changed, ROC AUC | 1.000 ±" in card and "**over**" in card
    changed = {path.name for path in out.rglob("*") if path.is_file() and before.get(path) != path.read_bytes()}
    assert changed <= {"evaluation.json", "README.md"}
    assert validate(out).findings == []
    (out / "README.md").write_text(card.replace("## Limits", "## Mine\n\nwords of the owner\n\n## Limits"))
    evaluate(out, samples=9, likeness=False)
    mine = (out / "README.md").read_text()
    assert "words of the owner" in mine and mine.count("## Evaluation\n") == 1 and "9 pairs" in mine


def test_others_keep_their_sections_until_the_dataset_changes(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    update_evaluation(out, {"usefulness": {"f1": 0.5}})
    found = evaluate(out, likeness=False)
    assert found["usefulness"] == {"f1": 0.5} and "| usefulness: f1 | 0.5 |" in (out / "README.md").read_text()
    manifest = read_manifest(out)
    assert read_evaluation(out, manifest.checksums) == found
    master = open_master(out)
    names = dict(overview(master, Index(master.logs()), [])["audit"])
    assert names["shortcuts.change.difference.bar"] == 0.65 and names["usefulness.f1"] == 0.5
    manifest.checksums = "another"
    manifest.save(out)
    assert read_evaluation(out, "another") == {} and "evaluation" not in "".join(map(str, describe(out)["evaluation"]))
    assert "usefulness" not in update_evaluation(out, {"samples": 6})
    (out / "evaluation.json").write_text('{"format": 1, "shortcuts": {"change": [3]}, "looked_at": {}}')
    assert describe(out)["evaluation"] == {}
    clear_output(out)
    assert not out.exists(), "its figures go with a dataset"


def test_damage_is_told_and_masks_alone_are_refused(tmp_path: Path, pairs_tree) -> None:
    out = write_dataset(tmp_path / "out")
    content = json.loads((out / "manifest.json").read_text())
    content["statistics"]["transitions_px"] = [{"from_class": 0, "to_class": 9, "asked": 4}, 5, {}]
    (out / "manifest.json").write_text(json.dumps(content))
    image = next((out / "train" / "images").iterdir())
    other = next(path for path in (out / "train" / "images").iterdir() if path != image)
    image.write_bytes(other.read_bytes())
    found = evaluate(out, likeness=False)
    assert found["exactness"]["errors"] == 1 and image.name in found["exactness"]["first"][0]
    masks = tmp_path / "masks"
    source = {"input": str(pairs_tree), "classes": ("background", "building", "road")}
    simulate_dataset(build_recipe({"source": source, "output": {"path": str(masks)}}))
    with pytest.raises(UsageError, match="masks only"):
        evaluate(masks)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no pairs"):
        evaluate(out, real=tmp_path / "empty")


def test_likeness_tells_drawn_from_real(planted) -> None:
    found = evaluate(planted["soft"], real=planted["same"], samples=8)["likeness"]
    assert found["windows"] == 512 and found["kernel_changed"] > found["real_kernel_unchanged"]
    assert found["kernel_unchanged"] > found["real_kernel_unchanged"], "blur of the later date shows everywhere"
