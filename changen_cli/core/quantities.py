"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def parse_duration(value: Any) -> Any:
    """Turn ``"2h"``, ``"90m"`` or ``"1h30m"`` into seconds."""
    if not isinstance(value, str):
        return value
    text = value.replace(" ", "").lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)(s|min|m|h|d)", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError(f"{value!r} is no duration; write 2h, 90m or 30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(value: Any) -> Any:
    """Turn ``"200GB"`` into bytes."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", value.replace(" ", "").lower())
    if not match or match[2] not in _BYTES:
        raise ValueError(f"{value!r} is no size; write 200GB or 500MB")
    return int(float(match[1]) * _BYTES[match[2]])


Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str), Field(gt=0)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(gt=0)]
"""Bytes."""
