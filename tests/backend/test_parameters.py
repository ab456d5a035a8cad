import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.model import ExchangeFilter
from sp_proxy.backend.parameters import FILTERS, ParameterError, exchange_filter, hex_id, paging, single


def test_a_full_filter():
    wanted = exchange_filter(
        {
            "service": "orders",
            "direction": "outbound",
            "method": "PATCH",
            "host": "h:1",
            "path": "/x?y",
            "status": "5xx",
            "session": "s",
            "trace": "AB" * 16,
        }
    )
    assert wanted == ExchangeFilter("orders", "outbound", "PATCH", "h:1", "/x?y", 500, 599, "s", "ab" * 16)


def test_nothing_given_filters_nothing():
    assert exchange_filter({}) == exchange_filter(dict.fromkeys(FILTERS, "")) == ExchangeFilter()


@pytest.mark.parametrize("status, bounds", [("200", (200, 200)), ("1xx", (100, 199)), ("0", (0, 0)), ("", (-1, -1))])
def test_statuses(status, bounds):
    wanted = exchange_filter({"status": status})
    assert (wanted.status_min, wanted.status_max) == bounds


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
    ],
)
def test_wrong_values_name_the_parameter_and_what_is_allowed(name, value, allowed):
    with pytest.raises(ParameterError) as caught:
        exchange_filter({name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert allowed in str(caught.value)


@pytest.mark.parametrize("limit, length", [("", 100), ("1", 1), ("1000", 1000)])
def test_paging(limit, length):
    assert paging({"limit": limit, "before": "c"}).limit == length


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "1e2", "9" * 5000, "¹"])
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
        exchange_filter({name: value})
    except ParameterError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 300


@given(st.binary(min_size=8, max_size=8))
def test_hex_ids(value):
    assert hex_id("span_id", value.hex(), 8) == hex_id("span_id", value.hex().upper(), 8) == value
