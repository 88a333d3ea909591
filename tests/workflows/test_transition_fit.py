"""A matrix learned from pairs is the one they were made with, whatever layout they come in."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from changen_cli.core.errors import IncompleteError, OutputError, UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.transitions import load_transitions
from changen_cli.core.types import ClassSchema, Scene
from changen_cli.events import EventRules, resolve_transitions, simulate_series
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.transition_fit import Fit, fit_transitions

COUNTRY = ClassSchema(("unknown", "bareland", "rangeland", "tree", "water"))
NAMES = ("unknown", "bareland", "rangeland", "tree", "water")
RATES = {
    "bareland": {"rangeland": 0.2, "water": 0.1},
    "rangeland": {"bareland": 0.1, "tree": 0.3},
    "tree": {"bareland": 0.2, "rangeland": 0.05},
}
COLOURS = np.array(
    [(255, 255, 255), (0, 0, 255), (128, 128, 128), (0, 128, 0), (0, 255, 0), (128, 0, 0), (255, 0, 0)], np.uint8
)
"""SECOND: unchanged, water, ground, low vegetation, tree, building, sports field."""


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def country(seed: int) -> np.ndarray:
    """Four by four squares of the four classes, and an unknown corner."""
    mask = derive_rng(seed, "country").permutation(np.arange(16) % 4 + 1).reshape(4, 4).repeat(60, 0).repeat(60, 1)
    mask[:9, :30] = 255
    return mask.astype(np.uint8)


def square(value: int, at: int, side: int = 20, ground: int = 2, size: int = 64) -> np.ndarray:
    mask = np.full((size, size), ground, np.uint8)
    mask[at : at + side, at : at + side] = value
    return mask


def plant(root: Path, **masks: tuple[np.ndarray, np.ndarray]) -> Path:
    for name, (before, after) in masks.items():
        save(before, root / "t1_masks" / f"{name}.png")
        save(after, root / "t2_masks" / f"{name}.png")
    return root


def test_a_known_matrix_is_found_again(tmp_path: Path) -> None:
    """Our own simulator follows a matrix; what is learned from its masks is that matrix, up to one factor."""
    told = {"rates": RATES, "growth": 0, "sizes_px": {"median": 300, "spread": 1.8}}
    rules = EventRules(
        COUNTRY,
        ("transition",),
        (0.04, 0.2),
        transitions=resolve_transitions(load_transitions(told), COUNTRY),
        drawable=frozenset(range(1, 5)),
    )
    for number in range(24):
        mask = country(number)
        scene = Scene(f"s{number}", "g", np.zeros((*mask.shape, 3), np.uint8), mask)
        series = simulate_series(
            scene, rules, steps=2, library=[], rng_for_step=lambda t, name=scene.id: derive_rng(0, name, t)
        )
        for date, dated in enumerate(series.masks):
            save(dated, tmp_path / "set" / "train" / "masks" / f"{scene.id}_v00_t{date}.png")
    rows = [{"id": index, "name": name} for index, name in enumerate(NAMES)]
    (tmp_path / "set" / "classes.json").write_text(json.dumps({"classes": rows}))
    found = fit_transitions(tmp_path / "set", output=tmp_path / "learned.yaml")
    assert (found.pairs, found.skipped) == (48, [])
    table = load_transitions(str(tmp_path / "learned.yaml"))
    assert {source: set(row) for source, row in table.rates.items()} == {s: set(row) for s, row in RATES.items()}
    learned = np.array([table.rates[source][target] for source, row in RATES.items() for target in row])
    wanted = np.array([rate for row in RATES.values() for rate in row.values()])
    assert learned / learned.sum() == pytest.approx(wanted / wanted.sum(), abs=0.02)
    assert found.changed_share == pytest.approx(0.12, abs=0.02)
    low, high = table.change_area
    assert 0.03 < low < 0.08 and 0.16 < high < 0.23
    # Neighbouring parts of one kind grow together, which makes regions a little larger than parts.
    assert table.sizes_px.median == pytest.approx(330, rel=0.2)
    assert table.sizes_px.spread == pytest.approx(1.8, rel=0.2)
    assert table.growth < 0.45


def test_every_figure_of_a_planted_pair(tmp_path: Path) -> None:
    before, after = square(4, 10), square(4, 10, side=12)
    after[40:44, 40:44] = 3  # smaller than an event
    after[0, :], before[:, 0] = 255, 255
    still = square(4, 10)
    found = fit_transitions(plant(tmp_path, a=(before, after), b=(still, still)), classes=NAMES, gsd_m=0.5)
    known = 63 * 63 + 64 * 64
    water, land = 2 * 400, known - 2 * 400
    assert found.table.rates["water"]["rangeland"] == pytest.approx((400 - 144) / water, abs=2e-6)
    assert found.table.rates["rangeland"] == pytest.approx({"tree": 16 / land}, abs=2e-6)
    assert found.table.sizes_m2.median == 256 * 0.25 and found.table.sizes_m2.spread == 1
    assert found.table.growth == 1.0
    share = round((256 + 16) / 63**2, 4)
    assert found.table.change_area == (share, share)
    assert "1 of 2 show no change at all (--negatives 50.0%)" in found.text
    assert f"smaller ones hold {16 / 272:.1%}" in found.text
    assert found.regions == 1


def second_tree(root: Path, *, colour: bool, split: bool) -> Path:
    """Three pairs: ground to building, 400 px; low vegetation to ground, 200 px; and one without any change."""
    for number, (of, to, side) in enumerate(((2, 5, (20, 20)), (3, 2, (10, 20)), (0, 0, (0, 0)))):
        folder = root / ("train" if number else "test") if split else root
        for label, value in (("label1", of), ("label2", to)):
            values = np.zeros((80, 100), np.uint8)
            values[30 : 30 + side[0], 40 : 40 + side[1]] = value
            save(COLOURS[values] if colour else values, folder / label / f"{number:05d}.png")
    return root


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("split", [True, False])
def test_second(tmp_path: Path, colour: bool, split: bool) -> None:
    root = second_tree(tmp_path / "SECOND", colour=colour, split=split)
    found = fit_transitions(root)
    overall = 600 / (3 * 8000)
    assert found.changed_share == pytest.approx(overall)
    rates = found.table.rates
    assert {name: set(row) for name, row in rates.items()} == {"bareland": {"building"}, "rangeland": {"bareland"}}
    assert [rate for row in rates.values() for rate in row.values()] == pytest.approx([overall, overall], abs=2e-6)
    assert found.table.sizes_px.median == pytest.approx(np.sqrt(400 * 200), rel=1e-3)
    assert "growth" not in found.table.model_fields_set
    told = " ".join(found.text.replace("#", " ").split())
    assert "nobody knows how much of a class stayed" in told
    assert "Those began as bareland 66.7%, rangeland 33.3%" in told
    assert "ground is written as bareland" in told
    names = ("sea", "soil", "crops", "wood", "house", "pitch")
    assert set(fit_transitions(root, classes=names).table.rates) == {"soil", "crops"}


def png(values: np.ndarray) -> dict[str, bytes | str]:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "x.png"}


def test_parquet(tmp_path: Path) -> None:
    rows = [(square(3, 5), square(1, 5)), (square(3, 9), square(3, 9)), (square(3, 9), square(3, 9, size=32))]
    cells = {f"t{date + 1}_mask": [png(pair[date]) for pair in rows] for date in range(2)}
    cells["t2_mask"][1] = {"bytes": b"broken", "path": None}
    folder = tmp_path / "data"
    folder.mkdir()
    for shard in range(2):
        pq.write_table(
            pa.table({**cells, "image_name": ["a", "b", "c"]}), folder / f"train-{shard:05d}-of-00002.parquet"
        )
    with pytest.raises(UsageError, match=r"nothing in .* says what its class ids are.*--classes unknown,bareland"):
        fit_transitions(tmp_path)
    notes = Notes()
    found = fit_transitions(tmp_path, classes=NAMES, progress=notes)
    assert (found.pairs, len(found.skipped)) == (2, 4)
    assert found.table.rates == {"tree": {"bareland": 1.0}}
    assert any(
        "skipped data/train-00001-of-00002.parquet, row 1: a mask cannot be decoded" in line for line in notes.lines
    )
    assert any("row 2: its masks are 64×64 and 32×32 px: they must be equal" in line for line in notes.lines)
    (folder / "train-00001-of-00002.parquet").write_bytes(b"PAR1 not")
    found = fit_transitions(tmp_path, classes=NAMES)
    assert found.pairs == 1
    assert "data/train-00001-of-00002.parquet: cannot be read" in {f"{s.path}: {s.reason[:14]}" for s in found.skipped}


def test_broken_pairs_are_named_and_left_out(tmp_path: Path) -> None:
    pair = (square(6, 10), square(5, 10))  # water to trees, by OpenEarthMap's ids
    root = plant(tmp_path, a=pair, b=pair, c=pair, d=pair, e=(square(77, 3), square(5, 3)))
    (root / "t2_masks" / "b.png").write_bytes((root / "t2_masks" / "b.png").read_bytes()[:60])
    (root / "t2_masks" / "c.png").unlink()
    save(square(5, 10, size=40), root / "t2_masks" / "d.png")
    notes = Notes()
    found = fit_transitions(root, progress=notes)
    assert found.pairs == 1
    assert found.table.rates == {"water": {"tree": 1.0}}
    reasons = {skip.path: skip.reason for skip in found.skipped}
    assert set(reasons) == {"t2_masks/b.png", "t1_masks/c.png", "t1_masks/d.png", "t1_masks/e.png"}
    assert "no partner" in reasons["t1_masks/c.png"]
    assert "64×64 and 40×40" in reasons["t1_masks/d.png"]
    assert "77" in reasons["t1_masks/e.png"]
    assert "4 skipped" in found.text
    assert sum(line.startswith("skipped") for line in notes.lines) == 4
    (root / "t1_masks" / "a.png").write_bytes(b"")
    with pytest.raises(IncompleteError, match=r"no pair .* could be used .*t1_masks/a.png: is empty"):
        fit_transitions(root)


def test_names_given_twice_are_one_class_and_odd_names_survive(tmp_path: Path) -> None:
    names = ("unknown", "no", "a: b", "a: b", "42")
    root = plant(tmp_path, a=(square(4, 10, ground=2), square(1, 10, ground=3)))
    found = fit_transitions(root, classes=names, output=tmp_path / "odd.yaml")
    assert found.table.rates == {"42": {"no": 1.0}}
    assert load_transitions(str(tmp_path / "odd.yaml")).rates == found.table.rates
    found = fit_transitions(plant(tmp_path / "other", a=(square(1, 10), square(4, 10))), classes=names)
    assert found.table.rates == {"no": {"42": 1.0}}


def test_what_cannot_be_learned_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="is no folder"):
        fit_transitions(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"no layout of pairs is recognised.*label1/ beside label2/"):
        fit_transitions(tmp_path / "empty")
    with pytest.raises(UsageError, match="holds no pair of the second layout"):
        fit_transitions(tmp_path / "empty", layout="second")
    same = plant(tmp_path / "same", a=(square(1, 3), square(1, 3)))
    with pytest.raises(UsageError, match="nothing changes in the 1 pairs"):
        fit_transitions(same)
    (tmp_path / "there.yaml").write_text("mine")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        fit_transitions(same, output=tmp_path / "there.yaml")
    assert (tmp_path / "there.yaml").read_text() == "mine"
    colours = second_tree(tmp_path / "S", colour=True, split=False)
    Image.fromarray(np.full((80, 100, 3), 7, np.uint8)).save(colours / "label1" / "00000.png")
    (skip,) = fit_transitions(colours).skipped
    assert "holds the colour (7, 7, 7), which is none of SECOND's" in skip.reason


def test_limit(tmp_path: Path) -> None:
    found: Fit = fit_transitions(
        plant(tmp_path, a=(square(6, 3), square(5, 3)), b=(square(6, 3), square(1, 3))), limit=1
    )
    assert found.pairs == 1 and found.table.rates == {"water": {"tree": 1.0}}
