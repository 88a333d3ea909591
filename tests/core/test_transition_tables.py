"""Transition matrices by name: the presets are whole, and what is wrong in a file is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.transitions import load_transitions, preset_names
from changen_cli.core.types import ClassSchema
from changen_cli.events import EventRules, resolve_transitions


def test_presets_are_complete() -> None:
    schema = ClassSchema(("unlabelled", *OPENEARTHMAP))
    assert set(preset_names()) == {"openearthmap", "urbanisation", "deforestation", "flood", "published-s9"}
    for name in preset_names():
        table = load_transitions(name)
        assert table.description
        assert resolve_transitions(table, schema).rates.any()
    everything = resolve_transitions(load_transitions("openearthmap"), schema).rates[1:9, 1:9]
    assert everything.any(axis=0).all() and everything.any(axis=1).all()
    assert OPENEARTHMAP[3] == "road" and OPENEARTHMAP[7] == "building"


def test_the_published_table_is_complete() -> None:
    rates = load_transitions("published-s9").rates
    rows = {source: set(row) for source, row in rates.items()}
    assert sum(map(len, rows.values())) == 37
    assert {source: round(sum(row.values()), 9) for source, row in rates.items()} == dict.fromkeys(
        OPENEARTHMAP, 0.3
    ) | {"agriculture": 0.25}
    assert all(len(set(row.values())) == 1 for row in rates.values())
    land = set(OPENEARTHMAP) - {"road", "building"}
    assert rows["road"] == land - {"rangeland", "agriculture"} and rows["building"] == {"developed", "tree", "water"}
    assert all(rows[source] == land - {source} for source in land)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: {tree: {land: 0.1}}", r"unknown key rate \(did you mean rates\?\)"),
        ("growth: 0.5", "has no rates"),
        ("[1, 2]", "holds no mapping"),
        ("rates: {tree: 0.3}", "rates.tree is no mapping"),
        ("rates: {tree: {land: much}}", "rates.tree.land is no rate from 0 to 1"),
        ("rates: {tree: {land: 1.5}}", "rates.tree.land is no rate from 0 to 1"),
        ("rates: {tree: {tree: 0.5}}", "rates.tree.tree is no change"),
        ("rates: {tree: {land: 0.6, water: 0.6}}", "add up to 1.2"),
        ("rates: {tree: {land: 0.1}, tree: {water: 0.1}}", "'tree' is given twice"),
        ("rates: {tree: {land: 0.1}}\ngrowth: 2", "growth is no share"),
        ("rates: {tree: {land: 0.1}}\nboost: yes", "boost is no share"),
        ("rates: {tree: [", "expected the node content"),
        ("rates: {tree: {land: 0.1}}\nsizes_px: 300", "sizes_px is no mapping"),
        ("rates: {tree: {land: 0.1}}\nsizes_px: {median: 300}", "sizes_px needs a median"),
        ("rates: {tree: {land: 0.1}}\nsizes_px: {mean: 300, spread: 2}", r"unknown key mean \(did you mean median\?\)"),
        ("rates: {a: {b: 0.1}}\nsizes_px: {median: 9, spread: 2}\nsizes_m2: {median: 9, spread: 2}", "say the same"),
        ("rates: {tree: {land: 0.1}}\nchange_area: 5%", "change_area is no range of shares"),
        ("rates: {tree: {land: 0.1}}\nchange_area: [0, 0.1]", "change_area is no range of shares"),
        ("moves: {water: 3}", "moves is no list"),
        ("moves: [{over: [land]}]", r"moves\[0\] names no class"),
        ("moves: [{class: water, distance: 3, over: [land]}]", r"unknown key distance \(did you mean distance_m\?\)"),
        ("moves: [{class: water, over: [land]}]", "distance_m is no range of metres"),
        ("moves: [{class: water, distance_m: [9, 3], over: [land]}]", "distance_m is no range of metres"),
        ("moves: [{class: water, distance_m: 3}]", "give either over"),
        ("moves: [{class: water, distance_m: 3, over: [land], retreat_to: land}]", "give either over"),
        ("moves: [{class: water, distance_m: 3, over: [land], share: 30}]", "share is no share"),
        (
            "moves: [{class: a, distance_m: 3, over: b, share: 0.6}, {class: b, distance_m: 3, over: a, share: 0.6}]",
            "add up",
        ),
    ],
)
def test_faults_in_a_file_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_transitions(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_presets_and_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such preset or file \(did you mean urbanisation\?\). Presets: defor"):
        load_transitions("urbanization")
    path = tmp_path / "mine.yml"
    path.write_text("rates:\n  tree: {bareland: 0.2}\n")
    table = load_transitions(str(path))
    assert (table.name, table.growth, table.rates) == ("mine", 0.5, {"tree": {"bareland": 0.2}})
    assert load_transitions(table.model_dump()) == table
    path.write_text("moves: [{class: water, distance_m: 3, over: land}]")
    table = load_transitions(str(path))
    assert load_transitions(json.loads(table.model_dump_json()) | {"description": ""}) == table
    assert (table.moves[0].class_name, table.moves[0].distance_m, table.moves[0].over) == ("water", (3, 3), ("land",))
    with pytest.raises(UsageError, match="no matrix"):
        EventRules(ClassSchema(), kinds=("transition",))
