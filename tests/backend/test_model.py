from sp_proxy.backend.model import ExchangeSummary, kind_name

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


def test_kind_names():
    assert [kind_name(kind) for kind in (-1, 0, 2, 3, 5, 6)] == [
        "unspecified",
        "unspecified",
        "server",
        "client",
        "consumer",
        "unspecified",
    ]
