"""Transition matrices by class names: how much of which land cover becomes which other in one step.

A file says which rates it wants; what they mean for the classes of one folder is decided by ``events/transitions.py``.
"""

from __future__ import annotations

import math
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from changen_cli.core.errors import UsageError
from changen_cli.core.yaml_files import read_yaml

_FOLDER = Path(__file__).parents[1] / "data" / "transitions"
DEFAULT_TRANSITIONS = "openearthmap"
_MOVE = "Write moves: [{class: water, distance_m: [2, 15], over: [bareland]}]"


class BoundaryMove(BaseModel):
    """The edge of a class moves by a distance on the ground: a river rises, a forest is cleared along its rim.

    Attributes:
        class_name: The class whose edge moves; ``class`` in files.
        distance_m: Least and largest distance in metres, drawn anew for every stretch of edge.
        over: The class advances over these.
        retreat_to: The class retreats, and its rim becomes this one. Either this or ``over`` is given.
        share: Share in (0, 1] of a step's area that is moved edges; the rates have the rest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    class_name: str = Field(alias="class")
    distance_m: tuple[float, float]
    over: tuple[str, ...] = ()
    retreat_to: str | None = None
    share: float = Field(0.3, gt=0, le=1)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        return {"class": values.pop("class_name", self.class_name), **values}


class PartSizes(BaseModel):
    """A log-normal distribution of areas, as of real change regions.

    Attributes:
        median: Half of the parts are smaller.
        spread: Factor of one standard deviation: two thirds lie within median / spread and median * spread.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    median: float = Field(gt=0)
    spread: float = Field(ge=1)


class TransitionTable(BaseModel):
    """Rates between classes, by name: the attribute edits of Changen2 (Zheng et al., TPAMI 2025).

    Attributes:
        name: The preset's or file's name.
        description: One line for people.
        rates: ``rates[from][to]`` in [0, 1], share of the class that becomes another in one step. Rows add up to 1 at
            most; what is left of a row stays as it is.
        growth: Share in [0, 1] of the changed parts that begin beside their new class, as fields beside a forest do;
            the others begin anywhere.
        moves: Edges that move; their shares add up to 1 at most.
        boost: In [0, 1]: how much pairs of which one class is rare in a tile are raised. 0 follows the rates; 1 asks
            for rare classes as much as for frequent ones.
        sizes_px: Areas of the parts that change, in pixels; None leaves them to the step's target.
        sizes_m2: The same in square metres; one of the two at most.
        change_area: Share of the tile that changes per step, least and largest, where the recipe does not say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    rates: dict[str, dict[str, float]] = Field(default_factory=dict)
    growth: float = Field(0.5, ge=0, le=1)
    moves: tuple[BoundaryMove, ...] = ()
    boost: float = Field(0.0, ge=0, le=1)
    sizes_px: PartSizes | None = None
    sizes_m2: PartSizes | None = None
    change_area: tuple[float, float] | None = None


def preset_names() -> tuple[str, ...]:
    """The presets that come with the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def transitions_path(value: str) -> Path:
    """Where a preset, or a file, lies; it need not exist."""
    return _FOLDER / f"{value}.yaml" if value in preset_names() else Path(value)


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
    path = transitions_path(str(value))
    try:
        content = read_yaml(path)
    except UsageError as error:
        if os.path.exists(path):  # unlike Path.exists, no name is too long for it
            raise UsageError(f"--transitions {error}") from None
        near = nearest(path.name, preset_names())
        raise UsageError(f"--transitions {value}: no such preset or file{near}", _presets()) from None
    if not isinstance(content, dict):
        raise UsageError(f"--transitions {value} holds no mapping", "Begin with: rates: {tree: {bareland: 0.1}}")
    return _checked({"name": path.stem, **content}, f"--transitions {value}")


def nearest(word: str, known: tuple[str, ...]) -> str:
    """``" (did you mean road?)"``, or nothing when no known word is near."""
    found = get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _presets() -> str:
    return f"Presets: {', '.join(preset_names())}"


def _checked(values: dict[str, Any], where: str) -> TransitionTable:
    """Validate in words a user can act on; the model itself only repeats the rules."""
    _known_keys(values, TransitionTable, where)
    rates, moves = values.get("rates", {}), values.get("moves") or ()
    if not isinstance(rates, dict) or not (rates or moves):
        raise UsageError(f"{where} has no rates", "Write rates: {tree: {bareland: 0.1}}")
    for source, row in rates.items():
        _check_row(str(source), row, where)
    shares = {key: values.get(key, default) for key, default in (("growth", 0.5), ("boost", 0.0))}
    for key, share in shares.items():
        if not _is_number(share, 0, 1):
            raise UsageError(f"{where}: {key} is no share from 0 to 1 (given: {share!r})")
    if not isinstance(moves, list | tuple):
        raise UsageError(f"{where}: moves is no list", _MOVE)
    found = tuple(_checked_move(move, f"{where}: moves[{index}]") for index, move in enumerate(moves))
    if sum(move.share for move in found) > 1 + 1e-9:
        raise UsageError(f"{where}: the shares of moves add up to more than all of a step")
    sizes = {key: _checked_sizes(values.get(key), f"{where}: {key}") for key in ("sizes_px", "sizes_m2")}
    if all(sizes.values()):
        raise UsageError(f"{where}: sizes_px and sizes_m2 say the same", "Leave one out")
    area = values.get("change_area")
    if area is not None and not _is_range(area, 1e-6, 1):
        raise UsageError(f"{where}: change_area is no range of shares such as [0.02, 0.1] (given: {area!r})")
    named = {str(source): {str(target): rate for target, rate in row.items()} for source, row in rates.items()}
    texts = {key: str(values[key]) for key in ("name", "description") if key in values}
    return TransitionTable(
        rates=named, moves=found, change_area=None if area is None else tuple(area), **shares, **sizes, **texts
    )


def _known_keys(values: dict[str, Any], model: type[BaseModel], where: str) -> None:
    keys = tuple(field.alias or name for name, field in model.model_fields.items())
    for key in values:
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key}{nearest(str(key), keys)}", f"Keys: {', '.join(keys)}")


def _is_number(value: Any, low: float, high: float) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and low <= value <= high


def _is_range(value: Any, low: float, high: float) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(_is_number(part, low, high) for part in value) and bool(value[0] <= value[1])


def _checked_sizes(value: Any, where: str) -> PartSizes | None:
    if value is None or isinstance(value, PartSizes):
        return value
    if not isinstance(value, dict):
        raise UsageError(f"{where} is no mapping such as {{median: 800, spread: 2.5}} (given: {value!r})")
    _known_keys(value, PartSizes, where)
    if not _is_number(value.get("median"), 1e-3, 1e12) or not _is_number(value.get("spread"), 1, 1e3):
        raise UsageError(f"{where} needs a median above 0 and a spread of 1 or more (given: {value!r})")
    return PartSizes(**value)


def _check_row(source: str, row: Any, where: str) -> None:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: rates.{source} is no mapping of classes to rates (given: {row!r})")
    for target, rate in row.items():
        if not _is_number(rate, 0, 1):
            raise UsageError(f"{where}: rates.{source}.{target} is no rate from 0 to 1 (given: {rate!r})")
    if source in map(str, row):
        raise UsageError(f"{where}: rates.{source}.{source} is no change", "Leave it out: the rest of a row stays")
    if sum(row.values()) > 1 + 1e-9:
        raise UsageError(f"{where}: rates.{source} add up to {sum(row.values()):g}, more than all of the class")


def _checked_move(move: Any, where: str) -> BoundaryMove:
    if isinstance(move, BoundaryMove):
        return move
    if not isinstance(move, dict) or "class" not in move:
        raise UsageError(f"{where} names no class", _MOVE)
    _known_keys(move, BoundaryMove, where)
    distance: Any = move.get("distance_m")
    distance = [distance, distance] if _is_number(distance, 0, math.inf) else distance
    if not _is_range(distance, 1e-3, 1e5):
        raise UsageError(f"{where}: distance_m is no range of metres such as [2, 15] (given: {distance!r})")
    share = move.get("share", 0.3)
    if not _is_number(share, 1e-6, 1):
        raise UsageError(f"{where}: share is no share from 0 to 1 (given: {share!r})")
    over, target = move.get("over") or (), move.get("retreat_to")
    over = (over,) if isinstance(over, str) else over
    if not isinstance(over, list | tuple) or bool(over) == bool(target):
        raise UsageError(f"{where}: give either over, the classes it advances over, or retreat_to", _MOVE)
    return BoundaryMove(
        class_name=str(move["class"]),
        distance_m=(float(distance[0]), float(distance[1])),
        over=tuple(map(str, over)),
        retreat_to=str(target) if target else None,
        share=share,
    )
