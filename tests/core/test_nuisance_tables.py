"""Strengths people write."""

from __future__ import annotations

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.nuisance import PRESETS, NuisanceTable, load_nuisance
from changen_cli.core.recipe import build_recipe


def test_presets_rise_from_none() -> None:
    tables = [load_nuisance(name) for name in PRESETS]
    assert [table.name for table in tables] == list(PRESETS)
    assert all(table.description for table in tables)
    for key in NuisanceTable.model_fields:
        values = [getattr(table, key) for table in tables]
        if isinstance(values[0], float):
            assert values == sorted(values), key
        if isinstance(values[0], tuple) and key != "jpeg":
            assert [value[1] for value in values] == sorted(value[1] for value in values), key
    assert tables[0].model_dump(exclude={"name", "description"}) == NuisanceTable().model_dump(
        exclude={"name", "description"}
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"gian": 0.1}, r"unknown key gian \(did you mean gain\?\)"),
        ({"gain": "much"}, "gain is no number"),
        ({"gain": True}, "gain is no number"),
        ({"gain": 2}, r"gain: .*less than or equal to 1 \(given: 2\)"),
        ({"blur_px": [0.8, 0.3]}, "blur_px: a range runs from its least"),
        ({"blur_px": 0.3}, "blur_px: "),
        ("realistik", r"no such preset or file \(did you mean realistic\?\)"),
    ],
)
def test_what_is_wrong_is_told(given, told) -> None:
    with pytest.raises(UsageError, match=told):
        load_nuisance(given)


def test_a_recipe_keeps_a_presets_name_and_a_files_content(tmp_path) -> None:
    def recipe(**synthesis):
        return build_recipe({"source": {"input": "in"}, "synthesis": synthesis})

    assert recipe().synthesis.nuisance == "realistic"
    file = tmp_path / "sensor.yaml"
    file.write_text("gain: 0.1")
    first = recipe(nuisance=str(file))
    assert first.synthesis.nuisance == NuisanceTable(name="sensor", gain=0.1)
    file.write_text("gain: 0.2")
    prints = {r.fingerprint() for r in (first, recipe(nuisance=str(file)), recipe(), recipe(nuisance="none"))}
    assert len(prints) == 4
    with pytest.raises(UsageError, match="no effect without nuisance"):
        recipe(nuisance="none", keep_date0=True)
    with pytest.raises(UsageError, match=r"synthesis\.nuisance.*none for exact"):
        recipe(unchanged="exact")
