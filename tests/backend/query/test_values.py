import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.query import values
from sp_proxy.backend.query.syntax import HIGHEST

DAY = 86_400 * 10**9
START = 1_767_225_600 * 10**9
"""2026-01-01 in UTC."""


@pytest.mark.parametrize(
    "text, span", [("200", (200, 200)), ("5xx", (500, 599)), ("4XX", (400, 499)), ("none", (0, 0)), ("0", (0, 0))]
)
def test_statuses(text, span):
    assert values.status(text) == span


@pytest.mark.parametrize(
    "text, nanoseconds",
    [("200ms", 200_000_000), ("1.5s", 1_500_000_000), ("2m", 120 * 10**9), ("7ns", 7), ("3µs", 3000), ("1d", DAY)],
)
def test_durations(text, nanoseconds):
    assert values.duration(text) == (nanoseconds, nanoseconds)


@pytest.mark.parametrize("text, size", [("512", 512), ("512B", 512), ("10KiB", 10240), ("1.5MB", 1_500_000)])
def test_sizes(text, size):
    assert values.size(text) == (size, size)


@pytest.mark.parametrize(
    "text, start, length",
    [
        ("2026-01-01", START, DAY),
        ("2026-01-01T00:01", START + 60 * 10**9, 60 * 10**9),
        ("2026-01-01T00:00:07", START + 7 * 10**9, 10**9),
        ("2026-01-01t00:00:07.25z", START + 7_250_000_000, 10**7),
        ("2026-01-01T02:00:00+02:00", START, 10**9),
        ("2026-01-01 00:00", START, 60 * 10**9),
        (f"{START}ns", START, 1),
        ("-1d", START, 1),
        ("-24h", START, 1),
    ],
)
def test_times(text, start, length):
    assert values.time(text, START + DAY) == (start, start + length - 1) if length > 1 else (start, start)


def test_a_time_ago_does_not_go_below_the_beginning():
    assert values.time("-1d", 5) == (0, 0)


@pytest.mark.parametrize(
    "read, text",
    [
        (values.status, "6xx"),
        (values.status, "abc"),
        (values.status, "2000"),
        (values.status, "-1"),
        (values.duration, "200"),
        (values.duration, "ms"),
        (values.duration, "1,5s"),
        (values.duration, "1w"),
        (values.size, "10 KiB"),
        (values.size, "x"),
    ],
)
def test_what_is_no_value_says_what_would_be(read, text):
    with pytest.raises(ValueError, match=r".") as failure:
        read(text)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    "text",
    ["2026-13-01", "2026-02-30T10:00", "yesterday", "15m", "2026-01-01T25:00", "1969-01-01", "-", "3000-01-01", "-5x"],
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"date|between"):
        values.time(text, START)


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_an_error(text):
    for read in (values.status, values.duration, values.size, lambda value: values.time(value, START)):
        try:
            low, high = read(text)
        except ValueError:
            continue
        assert 0 <= low <= high <= HIGHEST
