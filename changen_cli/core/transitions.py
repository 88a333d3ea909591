"""Transition matrices by class names: how much of which land cover becomes which other in one step.

A file says which rates it wants; what they mean for the classes of one folder is decided by ``events/transitions.py``.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from changen_cli.core.errors import UsageError

_FOLDER = Path(__file__).parents[1] / "data" / "transitions"
DEFAULT_TRANSITIONS = "openearthmap"


class TransitionTable(BaseModel):
    """Rates between classes, by name: the attribute edits of Changen2 (Zheng et al., TPAMI 2025).

    Attributes:
        name: The preset's or file's name.
        description: One line for people.
        rates: ``rates[from][to]`` in [0, 1], share of the class that becomes another in one step. Rows add up to 1 at
            most; what is left of a row stays as it is.
        growth: Share in [0, 1] of the changed parts that begin beside their new class, as fields beside a forest do;
            the others begin anywhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    rates: dict[str, dict[str, float]]
    growth: float = Field(0.5, ge=0, le=1)


def preset_names() -> tuple[str, ...]:
    """The presets that come with the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_transitions(value: Any) -> TransitionTable:
    """Read a matrix by the name of a preset, from a YAML file, or from a mapping with the same keys.

    Args:
        value: E.g. ``"urbanisation"``, ``"my-matrix.yaml"`` or ``{"rates": {"tree": {"bareland": 0.1}}}``.

    Returns:
        The checked table.

    Raises:
        UsageError: There is no such preset or file, or it holds something else than rates; names what is wrong, and
            the nearest key where one is misspelt.
    """
    if isinstance(value, TransitionTable):
        return value
    if isinstance(value, dict):
        return _checked({"name": "recipe", **value}, "events.transitions")
    path = _FOLDER / f"{value}.yaml" if value in preset_names() else Path(str(value))
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except FileNotFoundError:
        near = nearest(str(value), preset_names())
        raise UsageError(f"--transitions {value}: no such preset or file{near}", _presets()) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--transitions {value} cannot be read: {reason}") from None
    if not isinstance(content, dict):
        raise UsageError(f"--transitions {value} holds no mapping", "Begin with: rates: {tree: {bareland: 0.1}}")
    return _checked({"name": path.stem, **content}, f"--transitions {value}")


def nearest(word: str, known: tuple[str, ...]) -> str:
    """``" (did you mean road?)"``, or nothing when no known word is near."""
    found = get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _presets() -> str:
    return f"Presets: {', '.join(preset_names())}"


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings name a key once: of two rows with one name PyYAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice!r} is given twice")
        return super().construct_mapping(node, deep)


def _checked(values: dict[str, Any], where: str) -> TransitionTable:
    """Validate in words a user can act on; the model itself only repeats the rules."""
    keys = tuple(TransitionTable.model_fields)
    for key in values:
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key}{nearest(str(key), keys)}", f"Keys: {', '.join(keys)}")
    rates = values.get("rates")
    if not isinstance(rates, dict) or not rates:
        raise UsageError(f"{where} has no rates", "Write rates: {tree: {bareland: 0.1}}")
    for source, row in rates.items():
        if not isinstance(row, dict):
            raise UsageError(f"{where}: rates.{source} is no mapping of classes to rates (given: {row!r})")
        for target, rate in row.items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise UsageError(f"{where}: rates.{source}.{target} is no rate from 0 to 1 (given: {rate!r})")
        if source in row:
            raise UsageError(f"{where}: rates.{source}.{source} is no change", "Leave it out: the rest of a row stays")
        if sum(row.values()) > 1 + 1e-9:
            raise UsageError(f"{where}: rates.{source} add up to {sum(row.values()):g}, more than all of the class")
    growth = values.get("growth", 0.5)
    if isinstance(growth, bool) or not isinstance(growth, int | float) or not 0 <= growth <= 1:
        raise UsageError(f"{where}: growth is no share from 0 to 1 (given: {growth!r})")
    named = {str(source): {str(target): rate for target, rate in row.items()} for source, row in rates.items()}
    texts = {key: str(values[key]) for key in ("name", "description") if key in values}
    return TransitionTable(rates=named, growth=growth, **texts)
