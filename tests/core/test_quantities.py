from __future__ import annotations

import pytest

from changen_cli.core.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5 h", 5400), ("30s", 30), ("5min", 300), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(seconds) == seconds


@pytest.mark.parametrize(("text", "size"), [("200GB", 200 * 10**9), ("1.5 gb", 1.5e9), ("1GiB", 2**30), ("512", 512)])
def test_sizes(text: str, size: float) -> None:
    assert parse_size(text) == size
    assert parse_size(size) == size


@pytest.mark.parametrize("text", ["", "2", "h", "2x", "2h3", "-2h", "2 h nothing"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration; write 2h"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "GB", "2x", "-2GB", "2GB or so"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="no size; write 200GB"):
        parse_size(text)
