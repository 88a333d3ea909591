"""The dates of a series, for layouts that want every image to have one."""

from __future__ import annotations

from changen_cli.core.calendar import tiff_datetime
from changen_cli.exports.master import Sample

INVENTED = (
    "the dataset has no calendar dates: its dates are called 2018-01, 2018-02, … and mean nothing but their order"
)
_FIRST_YEAR = 2018


def date_names(sample: Sample) -> list[str]:
    """The dates as given, e.g. ``2018-06``; one month after the other from January 2018 where none were given."""
    dates = len(sample.masks)
    return sample.calendar or [f"{_FIRST_YEAR + t // 12}-{t % 12 + 1:02d}" for t in range(dates)]


def moment(date: str) -> str:
    """The middle of a date as RFC 3339 has it, ``2018-06-16T00:00:00Z``."""
    day, _, time = tiff_datetime(date).partition(" ")
    return f"{day.replace(':', '-')}T{time}Z"
