"""How much acquisitions of the same ground differ: strengths by name, from a YAML file, or learned from real pairs.

What the strengths do to an image is in ``synthesis/nuisance``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from changen_cli.core.errors import UsageError
from changen_cli.core.yaml_files import read_yaml

_FOLDER = Path(__file__).parents[1] / "data" / "nuisance"
NuisancePreset = Literal["none", "mild", "realistic", "hard"]
PRESETS: tuple[NuisancePreset, ...] = get_args(NuisancePreset)
ASSUMED_GSD_M = 0.5
"""Metres per pixel where nobody knows: that of most change sets."""
RIM_PX = 2.0
"""Content displaced further no longer agrees with its label; what is displaced less is as annotators draw it."""


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("a range runs from its least to its largest value")
    return value


_Spread = Annotated[float, Field(ge=0, le=1)]
_Chance = Annotated[float, Field(ge=0, le=1)]
_Pixels = Annotated[float, Field(ge=0, le=8)]
_Metres = Annotated[float, Field(ge=0, le=50)]


def _range(low: float, high: float) -> Any:
    part = Annotated[float, Field(ge=low, le=high)]
    return Annotated[tuple[part, part], AfterValidator(_ascending)]


class NuisanceTable(BaseModel):
    """Strengths of everything by which two acquisitions of unchanged ground differ; the default is no difference.

    A single number is the standard deviation of a zero-centred normal draw, cut at 2 of them; a pair is the range of
    a uniform draw. Every date has its own draw: two dates differ by √2 of what is said here.

    Attributes:
        name: The preset's or file's name.
        description: One line for people.
        gain: Log gain of all channels: exposure, sun elevation, calibration.
        balance: Log gain of a single channel.
        gamma: Log exponent of the tone curve.
        saturation: Log gain of the distance of colours from grey.
        haze: Share of the light that comes from a bright veil; negative draws are clearer than the source.
        field: Log gain that varies slowly over the tile.
        materials: Log gain that depends on the colour alone: kinds of surface answer light, season and wear otherwise.
        season: Vegetation from dry (-1) to lush (1).
        shadow_depth: Relative change of how dark shadows are.
        shadow_shift_m: Metres by which the ends of shadows move, in each direction.
        lean: Tangent of the off-nadir angle, along each axis: what is tall leans.
        shift_px: Misregistration of the whole tile, along each axis.
        warp_px: Misregistration of its corners by rotation, scale and shear.
        blur_px: Sigma of the optics' point spread.
        resample: Ground sampling distance of the sensor over that of the tile.
        noise: Sensor noise in grey levels.
        jpeg: Quality of the compression; 100 is none.
        cloud: Chance of thin cloud and its shadow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "recipe"
    description: str = ""
    gain: _Spread = 0.0
    balance: _Spread = 0.0
    gamma: _Spread = 0.0
    saturation: _Spread = 0.0
    haze: _Spread = 0.0
    field: _Spread = 0.0
    materials: _Spread = 0.0
    season: _Spread = 0.0
    shadow_depth: _Spread = 0.0
    shadow_shift_m: _Metres = 0.0
    lean: _Spread = 0.0
    shift_px: _Pixels = 0.0
    warp_px: _Pixels = 0.0
    blur_px: _range(0, 4) = (0.0, 0.0)  # type: ignore[valid-type]
    resample: _range(1, 4) = (1.0, 1.0)  # type: ignore[valid-type]
    noise: _range(0, 40) = (0.0, 0.0)  # type: ignore[valid-type]
    jpeg: _range(20, 100) = (100.0, 100.0)  # type: ignore[valid-type]
    cloud: _Chance = 0.0


def nuisance_path(value: str) -> Path:
    """Where a preset, or a file, lies; it need not exist."""
    return _FOLDER / f"{value}.yaml" if value in PRESETS else Path(value)


def read_nuisance(value: Any) -> Any:
    """Read what a recipe may say: presets stay names, files and mappings become tables.

    Raises:
        UsageError: As :func:`load_nuisance`.
    """
    return value if isinstance(value, str) and value in PRESETS else load_nuisance(value)


def load_nuisance(value: Any) -> NuisanceTable:
    """Read strengths by the name of a preset, from a YAML file, or from a mapping with the same keys.

    Args:
        value: E.g. ``"realistic"``, ``"my-sensor.yaml"`` or ``{"gain": 0.1, "blur_px": [0.4, 0.8]}``.

    Raises:
        UsageError: There is no such preset or file, or it holds something else than strengths; names what is wrong, and
            the nearest key where one is misspelt.
    """
    if isinstance(value, NuisanceTable):
        return value
    if isinstance(value, dict):
        return _checked({"name": "recipe", **value}, "synthesis.nuisance")
    path = nuisance_path(str(value))
    try:
        content = read_yaml(path)
    except UsageError as error:
        if os.path.exists(path):  # unlike Path.exists, no name is too long for it
            raise UsageError(f"--nuisance {error}") from None
        near = _nearest(path.name, PRESETS)
        raise UsageError(
            f"--nuisance {value}: no such preset or file{near}", f"Presets: {', '.join(PRESETS)}"
        ) from None
    if not isinstance(content, dict):
        raise UsageError(f"--nuisance {value} holds no mapping", "Begin with: gain: 0.1")
    return _checked({"name": path.stem, **content}, f"--nuisance {value}")


def nuisance_name(recipe: Mapping[str, Any]) -> str:
    """What the recipe of a manifest calls it; before there were strengths, it said ``exact`` or ``reacquired``."""
    section = recipe["synthesis"]
    given = section.get("nuisance", section.get("unchanged", "unknown"))
    return str(given["name"] if isinstance(given, dict) else given)


def _checked(values: dict[str, Any], where: str) -> NuisanceTable:
    """Validate in words a user can act on."""
    keys = tuple(NuisanceTable.model_fields)
    for key, given in values.items():
        if key not in keys:
            raise UsageError(f"{where}: unknown key {key}{_nearest(str(key), keys)}", f"Keys: {', '.join(keys)}")
        parts = given if isinstance(given, list | tuple) else [given]
        if key not in ("name", "description") and any(
            isinstance(part, bool) or not isinstance(part, int | float) for part in parts
        ):
            raise UsageError(f"{where}: {key} is no number and no range (given: {given!r})")
    texts = {key: str(values[key]) for key in ("name", "description") if key in values}
    try:
        return NuisanceTable.model_validate({**values, **texts})
    except ValidationError as error:
        fault = error.errors()[0]
        reason = fault["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {fault['loc'][0]}: {reason} (given: {fault['input']!r})") from None


def _nearest(word: str, known: tuple[str, ...]) -> str:
    found = get_close_matches(word.lower(), known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""
