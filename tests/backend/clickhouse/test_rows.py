from sp_proxy.backend.clickhouse.rows import RECORD, SPAN, SUMMARY, WHOLE, record, span_row, summary, trace_span
from sp_proxy.backend.clickhouse.schema import SPANS
from sp_proxy.backend.model import summary_of
from tests.backend.requests import HOSTILE, batch_of, exchange_span, partial_span, sdk_span


def row(span, peer=""):
    batch = batch_of(span, tenant="key", received=7)
    return batch, span_row(batch, batch.spans[0], peer, 8, 9)


def test_every_column_has_a_value():
    for span in (exchange_span(), sdk_span()):
        assert list(row(span)[1]) == list(SPANS)
    for columns in (SUMMARY, SPAN, RECORD):
        assert set(columns.split(", ")) <= set(SPANS)


def test_an_exchange_there_and_back():
    batch, made = row(exchange_span(path=HOSTILE, request_body=HOSTILE, status=503, parent=b"p" * 8), peer="payment")
    assert summary(made) == summary_of(batch.spans[0], "payment")
    back = record(made)
    assert (back.exchange, back.details, back.resource) == (summary(made), batch.spans[0].details, batch.resources[0])
    assert (back.request_body, back.tenant, back.received_unix_ns) == (HOSTILE.encode(), "key", 7)
    assert made["version"] == WHOLE


def test_a_partial_record_gives_way_to_every_version_of_a_whole_one():
    assert row(partial_span(span=b"s" * 8))[1]["version"] == 0
    assert WHOLE > 1000


def test_a_span_there_and_back():
    _, made = row(sdk_span("SELECT"))
    assert (trace_span(made).name, trace_span(made).kind, trace_span(made).exchange) == ("SELECT", "internal", None)
    assert record(made).exchange is None
