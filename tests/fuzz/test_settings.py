"""What people write: recipes, transition matrices, statements about a source."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from changen_cli.core.errors import UsageError
from changen_cli.core.recipe import Recipe, build_recipe
from changen_cli.core.recipe_files import load_recipe, parse_settings
from changen_cli.core.transitions import load_transitions, preset_names, transitions_path
from changen_cli.sources.statement import read_statement

from .mutations import JUNK, examples, refusing, spoilt, spoilt_bytes

RECIPE = build_recipe(
    {
        "source": {"input": "in", "classes": ("background", "building", "road"), "bands": (3, 2, 1)},
        "events": {
            "kinds": ("create", "remove", "transition", "damage"), "dates": ("2018", "2020-06"), "disaster": "flood",
            "rates": {"create": 0.1},
        },
    }
).model_dump(mode="json")  # fmt: skip
STATEMENT = {"name": "Banepa", "license": ["cc-by-4.0", "odbl"], "attribution": "Imagery (c) OpenAerialMap"}
MATRICES = [yaml.safe_load(transitions_path(name).read_text(encoding="utf-8")) for name in preset_names()]


def as_yaml(value: object) -> bytes:
    return yaml.safe_dump(value, allow_unicode=False).encode("utf-8", "backslashreplace")


def files(*values: object) -> st.SearchStrategy[bytes]:
    """YAML, spoilt in its parts or its letters; and lines of what YAML is made of."""
    pieces = st.sampled_from(["a", ":", " ", "- ", "\n", "  ", "{", "}", "[", "]", "&x", "*x", "!!float", "!!set", "? ", "<<", "|", "'", '"', "#", "%", "2018-01-01", "0o7", "1:2", "~", "---"])  # fmt: skip
    loose = st.lists(pieces, max_size=40).map(lambda found: "".join(found).encode())
    return st.one_of(loose, *(st.one_of(spoilt(value).map(as_yaml), spoilt_bytes(as_yaml(value))) for value in values))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


@examples
@given(values=spoilt(RECIPE))
def test_recipes_of_values(values: object) -> None:
    assume(isinstance(values, dict))
    with refusing():
        recipe = build_recipe(values)  # type: ignore[arg-type]
        assert build_recipe(recipe.model_dump(mode="json")).fingerprint() == recipe.fingerprint()


@examples
@given(data=files(RECIPE))
def test_recipes_of_files(folder: Path, data: bytes) -> None:
    (folder / "recipe.yaml").write_bytes(data)
    with refusing():
        assert isinstance(load_recipe(folder / "recipe.yaml"), Recipe)


@examples
@given(key=st.sampled_from(["seed", "events.steps", "source.classes", "output", "x"]), value=JUNK.map(str))
def test_single_settings(key: str, value: str) -> None:
    with refusing():
        parse_settings([f"{key}={value}"])


@examples
@given(data=files(*MATRICES))
def test_transition_matrices(folder: Path, data: bytes) -> None:
    (folder / "matrix.yaml").write_bytes(data)
    with refusing():
        table = load_transitions(str(folder / "matrix.yaml"))
        assert load_transitions(table.model_dump(mode="json", by_alias=True)) == table


@examples
@given(data=files(STATEMENT))
def test_statements(folder: Path, data: bytes) -> None:
    (folder / "changen-source.yaml").write_bytes(data)
    with refusing(UsageError):
        found = read_statement(folder)
        assert all(isinstance(text, str) for text in (found.name, found.attribution, *found.license))
