"""Values of a recipe that people may write as text, as on the command line: shares, ranges, lists, rates, matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat

from changen_cli.core.nuisance import NuisancePreset, NuisanceTable, read_nuisance
from changen_cli.core.transitions import TransitionTable, load_transitions

RatedKind = Literal["create", "remove", "grow"]
EventName = Literal["create", "remove", "swap", "transition", "grow", "alter", "damage"]


def parse_share(value: Any) -> Any:
    """Turn ``"20%"`` or ``"0.2"`` into a share."""
    if not isinstance(value, str):
        return value
    try:
        return float(value.strip().removesuffix("%")) / (100 if value.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{value!r} is no share; write 20% or 0.2") from None


def parse_share_range(value: Any) -> Any:
    """Turn ``"2-10%"``, ``"5%"`` or ``"0.02-0.1"`` into a pair of shares."""
    if not isinstance(value, str):
        return value
    percent = value.strip().endswith("%")
    try:
        numbers = [float(part.strip().rstrip("%")) for part in value.split("-")]
    except ValueError:
        raise ValueError(f"{value!r} is no share range; write 2-10%") from None
    unit = 100 if percent else 1  # divided by: 57% must be the very number 0.57 is
    return (numbers[0] / unit, numbers[-1] / unit) if len(numbers) in (1, 2) else value


def check_limit(value: Any) -> float | str:
    """Return a positive number, or ``"none"``: no limit."""
    if value == "none":
        return "none"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("a limit is a number, or none") from None
    if not 0 < number < math.inf:
        raise ValueError("a limit is above 0, or none")
    return number


def check_limit_share(value: Any) -> float | str:
    """Return a share as ``20%`` or 0.2, or ``"none"``."""
    if value == "none":
        return "none"
    share = parse_share(value)
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("a share of 0-100%, or none")
    return float(share)


def check_repo_id(text: str) -> str:
    """Return a text that can be the id of a repository on the Hugging Face Hub."""
    named = re.fullmatch(r"\b[\w.-]+\b/\b[\w.-]{1,96}\b", text, re.ASCII)
    if not named or "--" in text or ".." in text or text.endswith(".git"):
        raise ValueError("no id of a repository on the Hugging Face Hub; write org/name")
    return text


def parse_list(value: Any) -> Any:
    """Turn ``"a, b"`` into a list; a single value is a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float) else value


def parse_rates(value: Any) -> Any:
    """Turn ``"create=2%,remove=0.01"`` into rates by kind."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not pairs or any(not equals for _, equals, _ in pairs):
        raise ValueError(f"{value!r} names no rates; write create=2%,remove=1%")
    return {kind.strip(): parse_share(rate) for kind, _, rate in pairs}


def _or_text(kind: Any, read: Callable[[Any], Any]) -> BeforeValidator:
    """Also read what the command line takes: text; the schema that editors check recipes with says so."""
    return BeforeValidator(read, json_schema_input_type=kind | str)


_Share = Annotated[float, Field(ge=0, le=1)]
_Range = tuple[float, float]
Share = Annotated[_Share, _or_text(_Share, parse_share)]
# Not null: a key without a value has its default. One check for both: a union would name its parts in messages.
Limit = Annotated[float | str, BeforeValidator(check_limit)]
LimitShare = Annotated[float | str, BeforeValidator(check_limit_share)]
ShareRange = Annotated[_Range, _or_text(_Range, parse_share_range)]
Names = Annotated[tuple[str, ...], _or_text(tuple[str | int, ...], parse_list)]
Numbers = Annotated[tuple[int, ...], _or_text(tuple[int, ...], parse_list)]
Kinds = Annotated[tuple[EventName, ...], _or_text(tuple[EventName, ...], parse_list)]
_Rate = Annotated[NonNegativeFloat, _or_text(float, parse_share)]
Rates = Annotated[dict[RatedKind, _Rate], _or_text(dict[RatedKind, float | str], parse_rates)]
Nuisance = Annotated[NuisancePreset | NuisanceTable, _or_text(NuisancePreset | dict[str, Any], read_nuisance)]
Matrix = Annotated[TransitionTable, _or_text(dict[str, Any], load_transitions)]
RepoId = Annotated[str, AfterValidator(check_repo_id)]
