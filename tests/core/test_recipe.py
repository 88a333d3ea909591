from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.recipe import Recipe, build_recipe


def recipe(**sections: Any) -> Recipe:
    return build_recipe({"source": {"input": "in"}} | sections)


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"variants": 2},
        {"source": {"input": "in", "res": 512}},
        {"source": {"input": "in", "classes": ("a", "b")}},
        {"source": {"input": "in", "bands": (4, 3, 2)}},
        {"events": {"steps": 2}},
        {"events": {"dates": ("2018", "2019")}},
        {"events": {"kinds": ("create",)}},
        {"events": {"kinds": ("create", "remove", "transition")}},
        {"events": {"change_area": "2-9%"}},
        {"synthesis": {"strength": 0.31}},
        {"synthesis": {"nuisance": "none"}},
        {"output": {"format": "parquet"}},
    ],
)
def test_fingerprint_follows_the_content(changed: dict[str, Any]) -> None:
    assert recipe(**changed).fingerprint() != recipe().fingerprint()


@pytest.mark.parametrize(
    "changed",
    [
        {"source": {"input": "elsewhere"}},
        {"source": {"input": "in", "license": ("cc-by-4.0",)}},
        {"output": {"path": "out", "mode": "overwrite", "push": "org/name"}},
        {"source": {"input": "in", "max_skipped": 0.5}},
        {"run": {"batch_size": 9, "device": "cpu", "threads": 2, "shard_size": 3, "time_budget": "2h"}},
        {"limit": 3},
        {"seed": 0},
        {"events": {"change_area": "2-10%", "negatives": "0%"}},
    ],
)
def test_fingerprint_ignores_how_and_where(changed: dict[str, Any]) -> None:
    assert recipe(**changed).fingerprint() == recipe().fingerprint()


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"synthesis": {"strength": 1.5}}, "synthesis.strength"),
        ({"synthesis": {"scheduler": "euler"}}, "synthesis.scheduler"),
        ({"events": {"kinds": ()}}, "events.kinds"),
        ({"events": {"steps": 0}}, "events.steps"),
        ({"events": {"dates": ("2018",)}}, "events.dates"),
        ({"events": {"dates": ()}}, "events.dates"),
        ({"events": {"dates": ("2018", "2018-13")}}, "events.dates"),
        ({"events": {"dates": ("2019", "2018")}}, "events.dates"),
        ({"events": {"dates": [str(year) for year in range(1900, 1966)]}}, "events.steps"),
        ({"source": {"input": "in", "bands": (1, 2)}}, "source.bands"),
        ({"source": {"input": "in", "bands": (0, 1, 2)}}, "source.bands"),
        ({"output": {"push": "name"}}, "output.push"),
        ({"output": {"push": "org/na--me"}}, "output.push"),
        ({"version": 2}, "version"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_values_are_refused_in_one_line(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError) as error:
        recipe(**values)
    assert str(error.value).startswith(f"{key} (--")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sead": 1}, "sead: unknown key (did you mean seed?)"),
        ({"event": {}}, "event: unknown key (did you mean events?)"),
        ({"steps": 3}, "steps: unknown key (did you mean events.steps?)"),
        ({"stepz": 3}, "stepz: unknown key (did you mean events.steps?)"),
        ({"events": {"step": 2}}, "events.step: unknown key (did you mean events.steps?)"),
        ({"events": {"res": 2}}, "events.res: unknown key (did you mean source.res?)"),
        ({"source": {"inptu": "in"}}, "source.inptu: unknown key (did you mean source.input?)"),
        ({"source": {"input": "in", "source_license": "mit"}}, "unknown key (did you mean source.license?)"),
        ({"output": {"zzz": 2}}, "output.zzz: unknown key. There are output.path, output.format, output."),
        ({"zzz": 2}, "zzz: unknown key. There are version, "),
        ({"events": {"steps": True}}, "events.steps (--steps): takes no true or false (given: True)"),
        ({"synthesis": {"\x1b[31m\n": 2}}, r"synthesis.'\x1b[31m\n': unknown key"),
        ({"events": 5}, "events: a section; its keys stand below it, indented"),
        ({"events": {"kinds": ["x" * 9999]}}, "…)"),
        ({"source": {}}, "source.input (--input): required"),
        ({"source": None}, "source.input (--input): required"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as error:
        recipe(**values)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_key_without_a_value_is_not_given() -> None:
    nothing = {"steps": None, "transitions": None, "change_area": None}
    assert recipe(events=nothing, synthesis=None, seed=None) == recipe()
    learned = {"rates": {"tree": {"bareland": 0.1}}, "change_area": [0.2, 0.3]}
    assert recipe(events={"kinds": "transition", "transitions": learned, "change_area": None}).events.change_area == (
        0.2,
        0.3,
    )


def test_lists_may_be_written_as_on_the_command_line() -> None:
    assert recipe(events={"kinds": "create, transition"}) == recipe(events={"kinds": ["create", "transition"]})
    assert recipe(events={"kinds": "damage"}).events.disaster == "wind"
    assert recipe(source={"input": 7, "classes": "a,b", "bands": "4,3,2"}) == recipe(
        source={"input": "7", "classes": ["a", "b"], "bands": [4, 3, 2]}
    )
    assert recipe(source={"input": "in", "bands": 1}).source.bands == (1,)
    for dates in ("2018, 2020", [2018, 2020], ["2018", 2020]):
        assert recipe(events={"dates": dates}).events == recipe(events={"dates": ("2018", "2020"), "steps": 1}).events


@pytest.mark.parametrize(
    ("text", "share"),
    [("20%", 0.2), ("0.2", 0.2), (" 7 % ", 0.07), ("57%", 0.57), ("29%", 0.29), ("0", 0.0), ("100%", 1.0), (0.5, 0.5)],
)
def test_share(text: Any, share: float) -> None:
    assert recipe(events={"negatives": text}).events.negatives == share


@pytest.mark.parametrize("text", ["", "%", "x%", "20%%", "2", "101%", "-1%", "nan", "inf%", "1-2%"])
def test_bad_share(text: str) -> None:
    with pytest.raises(UsageError, match=r"^events\.negatives \(--negatives\): "):
        recipe(events={"negatives": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2-10%", (0.02, 0.1)),
        ("2%-10%", (0.02, 0.1)),
        ("5%", (0.05, 0.05)),
        ("0.02-0.1", (0.02, 0.1)),
        ("1-57 %", (0.01, 0.57)),
        (" 3 - 7% ", (0.03, 0.07)),
        ((0.1, 0.2), (0.1, 0.2)),
    ],
)
def test_share_range(text: Any, expected: tuple[float, float]) -> None:
    assert recipe(events={"change_area": text}).events.change_area == expected


@pytest.mark.parametrize(
    "text", ["", "%", "2-", "-5%", "5-%", "1-2-3%", "10-2%", "0%", "0-5%", "2-10", "50-120%", "nan%", "a-b%", 0.05]
)
def test_bad_share_range(text: Any) -> None:
    with pytest.raises(UsageError, match=r"^events\.change_area \(--change-area\): "):
        recipe(events={"change_area": text})


def test_output_lies_beside_the_input(tmp_path: Path) -> None:
    assert build_recipe({"source": {"input": str(tmp_path / "tiles")}}).output_path == tmp_path / "tiles-changen"
    assert build_recipe({"source": {"input": f"{tmp_path / 'tiles'}/"}}).output_path == tmp_path / "tiles-changen"
    assert build_recipe({"source": {"input": "/"}}).output_path == Path("/-changen")
    assert recipe(output={"path": "there"}).output_path == Path("there")


def test_a_recipe_survives_json() -> None:
    first = recipe(events={"steps": 3}, source={"input": "in", "bands": (4, 3, 2)}, seed=5)
    assert Recipe.model_validate_json(first.model_dump_json()) == first


def test_the_recipe_keeps_what_a_matrix_says_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "flood.yaml"
    path.write_text("rates: {tree: {water: 0.1}}")
    first = recipe(events={"kinds": ("transition",), "transitions": str(path)})
    path.write_text("rates: {tree: {water: 0.2}}")
    second = recipe(events={"kinds": ("transition",), "transitions": str(path)})
    assert first.fingerprint() != second.fingerprint()
    assert second.fingerprint() != recipe(events={"kinds": ("transition",), "transitions": "flood"}).fingerprint()
    assert build_recipe(second.model_dump(mode="json")) == second
    by_default = recipe(events={"kinds": ("transition",)}).events.transitions
    assert by_default is not None and by_default.name == "openearthmap"
    assert recipe().events.transitions is None
    learned = {"rates": {"tree": {"bareland": 0.1}}, "change_area": [0.2, 0.3]}
    assert recipe(events={"kinds": ("transition",), "transitions": learned}).events.change_area == (0.2, 0.3)
    given = recipe(events={"kinds": ("transition",), "transitions": learned, "change_area": "5%"})
    assert given.events.change_area == (0.05, 0.05)
    assert recipe(events=given.events.model_dump(mode="json")).fingerprint() == given.fingerprint()
    with pytest.raises(UsageError, match="no effect without the event kind"):
        recipe(events={"transitions": "flood"})
    with pytest.raises(UsageError, match=r"did you mean flood\?"):
        recipe(events={"kinds": ("transition",), "transitions": "floods"})


def test_a_disaster_needs_damage_and_damage_has_one() -> None:
    assert recipe(events={"kinds": ("damage",)}).events.disaster == "wind"
    first = recipe(events={"kinds": ("damage", "remove"), "disaster": "flood", "rebuild": "20%"})
    assert (first.events.disaster, first.events.rebuild) == ("flood", 0.2)
    assert build_recipe(first.model_dump(mode="json")) == first
    assert first.fingerprint() != recipe(events={"kinds": ("damage", "remove")}).fingerprint()
    assert recipe().events.disaster is None
    for given in ({"disaster": "flood"}, {"rebuild": 0.1}, {"kinds": ("remove",), "disaster": "wind"}):
        with pytest.raises(UsageError, match="has no effect without the event kind"):
            recipe(events=given)


def test_dates_say_how_many_steps_there_are() -> None:
    dates = ("2018-01", "2020-06", "2023-01")
    dated = recipe(events={"dates": dates})
    assert (dated.events.dates, dated.events.steps) == (dates, 2)
    assert recipe(events={"dates": dates, "steps": 2}) == dated
    assert build_recipe(dated.model_dump(mode="json")) == dated
    for steps in (1, 3):
        with pytest.raises(UsageError, match=f"3 dates, which makes 2 steps, not {steps}. Leave out --steps"):
            recipe(events={"dates": dates, "steps": steps})


def test_rates_are_per_year_of_dated_series() -> None:
    dates = ("2018", "2020")
    rated = recipe(events={"rates": "create=2%, remove=0.01", "dates": dates})
    assert rated.events.rates == {"create": 0.02, "remove": 0.01}
    assert recipe(events={"rates": {"create": "2%", "remove": 0.01}, "dates": dates}) == rated
    assert build_recipe(rated.model_dump(mode="json")) == rated
    with pytest.raises(UsageError, match="Give the --dates"):
        recipe(events={"rates": "create=2%"})
    with pytest.raises(UsageError, match="names grow, which is no event kind"):
        recipe(events={"rates": "grow=2%", "dates": dates})
    for wrong in ("create", "create=-1%", "create=x", "damage=1%", ""):
        with pytest.raises(UsageError, match="rates"):
            recipe(events={"rates": wrong, "dates": dates, "kinds": ("create", "remove", "damage")})


def test_a_licence_is_an_identifier_of_the_hub() -> None:
    assert recipe(source={"input": "in", "license": ("CC BY 4.0", "ODbL")}).source.license == ("cc-by-4.0", "odbl")
    with pytest.raises(
        UsageError, match=r"--source-license: 'mine' is no licence.* Give an identifier such as cc-by-4"
    ):
        recipe(source={"input": "in", "license": ("mine",)})
