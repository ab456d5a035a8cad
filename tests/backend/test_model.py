import pytest

from sp_proxy.backend.model import ExchangeFilter, ExchangeSummary, kind_name

SUMMARY = ExchangeSummary(
    trace_id="ab" * 16,
    span_id="cd" * 8,
    parent_span_id="",
    start_unix_ns=1,
    duration_ns=2,
    failed=False,
    session_id="s",
    service="orders",
    direction="inbound",
    method="GET",
    scheme="http",
    host="shop",
    path="/api/Orders?id=7",
    status=204,
    request_size=0,
    response_size=0,
    error="",
)


@pytest.mark.parametrize(
    "wanted, match",
    [
        ({}, True),
        ({"service": "orders"}, True),
        ({"service": "order"}, False),
        ({"direction": "outbound"}, False),
        ({"method": "get"}, False),
        ({"host": "shop"}, True),
        ({"path": "Orders?"}, True),
        ({"path": "orders?"}, False),
        ({"status_min": 200, "status_max": 299}, True),
        ({"status_min": 0, "status_max": 0}, False),
        ({"session": "s", "trace": "ab" * 16}, True),
        ({"session": "s", "trace": "cd" * 16}, False),
    ],
)
def test_matches(wanted, match):
    assert ExchangeFilter(**wanted).matches(SUMMARY) is match


def test_kind_names():
    assert [kind_name(kind) for kind in (-1, 0, 2, 3, 5, 6)] == [
        "unspecified",
        "unspecified",
        "server",
        "client",
        "consumer",
        "unspecified",
    ]
