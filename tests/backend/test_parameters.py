import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.parameters import (
    FILTERS,
    ParameterError,
    hex_id,
    log_filter,
    paging,
    query_of,
    single,
    time_range,
)
from sp_proxy.backend.query.syntax import EVERYTHING, And, Match, Or, Range, Trace, containing, exactly

NOW = 10**18


def test_a_full_filter():
    wanted = query_of(
        {
            "service": "orders",
            "direction": "outbound",
            "method": "PATCH",
            "host": "h:1",
            "path": "/x?y*",
            "status": "5xx",
            "session": "s",
            "trace": "AB" * 16,
        },
        NOW,
    )
    assert wanted == And(
        (
            Match("service", exactly("orders")),
            Match("direction", exactly("outbound")),
            Match("method", exactly("PATCH")),
            Match("host", exactly("h:1")),
            Match("session", exactly("s")),
            Match("path", containing("/x?y*")),
            Range("status", 500, 599),
            Trace(b"\xab" * 16),
        )
    )


def test_a_query_and_single_values_must_both_hold():
    wanted = query_of({"q": "status>=400 or duration>1s", "service": "a b"}, NOW)
    either = Or((Range("status", 400, None), Range("duration", 1_000_000_001, None)))
    assert wanted == And((either, Match("service", exactly("a b"))))
    assert query_of({"q": "time>=-1s"}, NOW) == Range("time", NOW - 10**9, None)


def test_nothing_given_filters_nothing():
    assert query_of({}, NOW) == query_of(dict.fromkeys(FILTERS, ""), NOW) == EVERYTHING


@pytest.mark.parametrize("status, bounds", [("200", (200, 200)), ("1xx", (100, 199)), ("0", (0, 0))])
def test_statuses(status, bounds):
    assert query_of({"status": status}, NOW) == Range("status", *bounds)


@pytest.mark.parametrize(
    "name, value, allowed",
    [
        ("status", "abc", "5xx"),
        ("status", "6xx", "5xx"),
        ("status", "20", "200"),
        ("status", "٢٠٠", "200"),
        ("status", "200 ", "200"),
        ("direction", "up", "inbound or outbound"),
        ("method", "GET POST", "GET"),
        ("trace", "12", "32 hex digits"),
        ("trace", "g" * 32, "32 hex digits"),
        ("q", "servise:x", "column 1: 'servise' is not a field"),
    ],
)
def test_wrong_values_name_the_parameter_and_what_is_allowed(name, value, allowed):
    with pytest.raises(ParameterError) as caught:
        query_of({name: value}, NOW)
    assert str(caught.value).startswith(f"{name}: ")
    assert allowed in str(caught.value)


@pytest.mark.parametrize("given, length", [({}, 100), ({"limit": "1"}, 1), ({"limit": "1000"}, 1000)])
def test_paging(given, length):
    assert paging({**given, "before": "c"}).limit == length


@pytest.mark.parametrize("limit", ["", "0", "1001", "-1", "x", "1e2", "9" * 5000, "¹", "01", "+1", "1 "])
def test_wrong_limits(limit):
    with pytest.raises(ParameterError, match=r"limit: .* allowed: 1 to 1000"):
        paging({"limit": limit})


def test_unknown_and_repeated_parameters():
    with pytest.raises(ParameterError, match=r"'pth' is not a parameter .* allowed: path"):
        single([("pth", "x")], ("path",))
    with pytest.raises(ParameterError, match="path: given more than once"):
        single([("path", "x"), ("path", "y")], ("path",))
    assert single([("path", "x")], ("path",)) == {"path": "x"}


@given(name=st.sampled_from(FILTERS), value=st.text(max_size=200))
def test_any_text_is_a_filter_or_one_line(name, value):
    message = ""
    try:
        query_of({name: value}, NOW)
    except ParameterError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 400


@given(st.binary(min_size=8, max_size=8))
def test_hex_ids(value):
    assert hex_id("span_id", value.hex(), 8) == hex_id("span_id", value.hex().upper(), 8) == value


@pytest.mark.parametrize(
    "severity, number", [("", 0), ("trace", 1), ("DEBUG", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)]
)
def test_severities(severity, number):
    assert log_filter({"severity": severity}).severity_min == number


def test_a_filter_of_log_records():
    wanted = log_filter({"trace": "ab" * 16, "span": "cd" * 8, "service": "orders"})
    assert (wanted.trace_id, wanted.span_id, wanted.service) == (b"\xab" * 16, b"\xcd" * 8, "orders")
    with pytest.raises(ParameterError, match="span: 'x' is not allowed; allowed: 16 hex digits"):
        log_filter({"span": "x"})


def test_times():
    assert time_range({}, NOW) == (NOW - 3600 * 10**9, NOW)
    assert time_range({"since": "1970-01-02", "until": "1970-01-03"}, NOW) == (86_400 * 10**9, 3 * 86_400 * 10**9 - 1)
    with pytest.raises(ParameterError, match="until: 'x' is not allowed; allowed: a date"):
        time_range({"until": "x"}, NOW)
