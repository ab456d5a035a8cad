from sp_proxy.backend.sqlite import rows


def test_a_summary_has_every_column_in_its_place():
    span = (b"t" * 16, b"s" * 8, b"", 1, 2, 1, 0)
    exchange = ("session", "orders", "inbound", "GET", "http", "host", "/path", 503, 4, 5, "timeout", "peer")
    assert len(rows.SPAN.split(",")) == rows.SPAN_COLUMNS
    assert len(rows.EXCHANGE.split(",")) == rows.EXCHANGE_COLUMNS
    summary = rows.summary(span + exchange)
    assert (summary.trace_id, summary.span_id, summary.failed, summary.partial) == ("74" * 16, "73" * 8, True, False)
    assert (summary.session_id, summary.status, summary.error, summary.peer) == ("session", 503, "timeout", "peer")


def test_services_are_sorted_and_named():
    assert rows.session(("s", 1, 2, 3, 0, '["b","a"]')).services == ["a", "b"]
    assert rows.trace((b"t" * 16, "n", "b", 1, 2, 3, 3, 0, '["b","","a","a"]')).services == ["a", "b"]
