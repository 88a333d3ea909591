"""Dates of a series: which are taken, and how far apart they are."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.calendar import check_dates, tiff_datetime, years_between


@pytest.mark.parametrize(
    ("dates", "years"),
    [
        (("2018", "2019"), (1.0,)),
        (("2018", "2020", "2023"), (2.0, 3.0)),
        (("2018-01", "2020-06", "2023-01"), (2 + 5 / 12, 2 + 7 / 12)),
        (("2019-03-05", "2020-03-05"), (1.0,)),
        (("2020-02-10", "2021-03-10"), (1 + (1 + 9.5 / 31 - 9.5 / 29) / 12,)),
        (("2018", "2018-07"), (0.5 / 12,)),
        (("2018-06", "2018", "2018-07"), (0.5 / 12, 0.5 / 12)),
        (("2018-02-01", "2018-02", "2018-02-28"), (13.5 / 28 / 12, 13.5 / 28 / 12)),
        (("2023-12-31", "2024-01-01"), (1 / 31 / 12,)),
    ],
)
def test_years_between(dates, years) -> None:
    assert years_between(dates) == pytest.approx(years, rel=1e-12)


@given(st.lists(st.dates(date(1900, 1, 1), date(2100, 12, 31)), min_size=2, max_size=6, unique=True))
def test_days_ascend_as_the_calendar_does_and_add_up(days) -> None:
    days.sort()
    texts = [day.isoformat() for day in days]
    steps = years_between(texts)
    assert all(step > 0 for step in steps)
    assert sum(steps) == pytest.approx(years_between([texts[0], texts[-1]])[0])
    assert sum(steps) == pytest.approx((days[-1] - days[0]) / timedelta(days=365.2425), abs=0.01)


@pytest.mark.parametrize(
    ("dates", "says"),
    [
        ((), "two dates or more"),
        (("2018",), "two dates or more"),
        (("2018", "2018"), "2018 does not come after 2018"),
        (("2020-06", "2018-01"), "2018-01 does not come after 2020-06"),
        (("2018", "2018-06"), "2018-06 does not come after 2018"),
        (("2018", "2019", "2019-02-30"), "'2019-02-30' is no date"),
        (("2018", "2019-13"), "'2019-13' is no date"),
        (("2018", "2019-00"), "'2019-00' is no date"),
        (("0000", "2019"), "'0000' is no date"),
        (("2018", "2019-6"), "write 2018, 2018-06 or 2018-06-15"),
        (("2018", "19"), "'19' is no date"),
        (("2018", "2019-01-01T00:00"), "is no date"),
        (("2018", ""), "'' is no date"),
    ],
)
def test_other_dates_are_refused(dates, says) -> None:
    for function in (check_dates, years_between):
        with pytest.raises(ValueError, match=says):
            function(dates)


@pytest.mark.parametrize(
    ("given_date", "tag"),
    [
        ("2018", "2018:07:01 00:00:00"),
        ("2018-01", "2018:01:16 12:00:00"),
        ("2018-02", "2018:02:15 00:00:00"),
        ("2018-06-15", "2018:06:15 12:00:00"),
        ("0987-06-15", "0987:06:15 12:00:00"),
    ],
)
def test_the_tag_of_a_tiff_is_the_middle(given_date, tag) -> None:
    assert tiff_datetime(given_date) == tag
    with pytest.raises(ValueError, match="no date"):
        tiff_datetime("soon")
