"""Dates of a series as people give them, a year, a month or a day, and the time between them.

A date stands for its middle: a year for the end of June, a month for its middle, a day for noon. Years have twelve
equal months, as yearly rates want it: to the same date of the next year it is one year exactly, leap year or not.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise

_DATE = re.compile(r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)


def check_dates(dates: Sequence[str]) -> None:
    """Check the dates of a series: ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``, two or more, strictly ascending.

    Raises:
        ValueError: Saying which date is wrong, and why.
    """
    if len(dates) < 2:
        raise ValueError("a series has two dates or more, e.g. 2018-01,2020-06")
    for one, other in pairwise(dates):
        if _year(one) >= _year(other):
            raise ValueError(f"dates ascend, and {other} does not come after {one}")


def years_between(dates: Sequence[str]) -> tuple[float, ...]:
    """Return the length of every step in years.

    Args:
        dates: T dates, as :func:`check_dates` wants them.

    Returns:
        T - 1 positive numbers; 2018-01 to 2020-06 is 2 5/12.

    Raises:
        ValueError: As :func:`check_dates`.
    """
    check_dates(dates)
    return tuple(float(_year(other) - _year(one)) for one, other in pairwise(dates))


def tiff_datetime(date: str) -> str:
    """Return the middle of a date as the TIFF tag DateTime has it, ``YYYY:MM:DD HH:MM:SS``.

    Raises:
        ValueError: It is no date.
    """
    year, month, day = _parts(date)
    if not month:
        middle = datetime(year, 7, 1)
    elif not day:
        middle = datetime(year, month, 1) + timedelta(days=monthrange(year, month)[1]) / 2
    else:
        middle = datetime(year, month, day, 12)
    return f"{middle.year:04d}:{middle:%m:%d %H:%M:%S}"  # %Y is not padded everywhere


def _year(date: str) -> Fraction:
    """The middle of a date, in years."""
    year, month, day = _parts(date)
    if not month:
        return year + Fraction(1, 2)
    elapsed = (day - Fraction(1, 2)) / monthrange(year, month)[1] if day else Fraction(1, 2)
    return year + (month - 1 + elapsed) / 12


def _parts(date: str) -> tuple[int, int, int]:
    """Year, month and day; 0 for what is not given."""
    found = _DATE.fullmatch(date)
    year, month, day = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if not year or (day and day > monthrange(year, month)[1]):
        raise ValueError(f"{date!r} is no date; write 2018, 2018-06 or 2018-06-15")
    return year, month, day
