import json
import math
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.backend.otlp import Encoding, decode_traces
from sp_proxy.backend.spans import MAX_INDEXED, attributes, plain, read_request, text, unstorable
from tests.backend.requests import START, attribute, exchange_span, partial_span, request_of, sdk_span

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "exchanges.json").read_text())


def read_one(span: Span):
    read = read_request(request_of(span), tenant="key", now_unix_ns=5)
    assert (read.rejected, read.reason) == (0, "")
    assert (read.batch.tenant, read.batch.received_unix_ns) == ("key", 5)
    return read.batch.spans[0]


def test_a_captured_exchange():
    span = exchange_span(
        trace=b"t" * 16, span=b"s" * 8, parent=b"p" * 8, status=404, direction="outbound", request_body="a=1"
    )
    stored = read_one(span)
    exchange = stored.exchange
    assert exchange is not None
    assert (stored.trace_id, stored.span_id, stored.parent_span_id) == (b"t" * 16, b"s" * 8, b"p" * 8)
    assert (stored.start_unix_ns, stored.duration_ns, stored.failed) == (START, 12_000_000, True)
    assert (exchange.session_id, exchange.service, exchange.direction) == ("session-1", "orders", "outbound")
    assert (exchange.method, exchange.scheme, exchange.host) == ("GET", "http", "shop.local:8080")
    assert (exchange.path, exchange.status, exchange.error) == ("/api/orders?id=7", 404, "")
    assert (exchange.request_size, exchange.response_size) == (3, 11)
    assert (stored.request_body, stored.response_body) == (b"a=1", b'{"ok":true}')
    assert "http.request.body" not in stored.details["attributes"]
    assert stored.details["attributes"]["http.request.header.accept"] == "*/*"


def test_the_span_of_an_sdk_is_no_exchange_and_keeps_what_looks_like_a_body():
    span = sdk_span()
    span.attributes.append(attribute("http.request.body", "kept"))
    stored = read_one(span)
    assert stored.exchange is None
    assert stored.service == "orders"
    assert stored.request_body is None
    assert stored.details["attributes"] == {"db.system": "postgresql", "http.request.body": "kept"}


@pytest.mark.parametrize("parent", [b"", b"p" * 8])
def test_an_exchange_that_goes_on_stands_in_the_place_of_the_one_to_come(parent):
    stored = read_one(partial_span(trace=b"t" * 16, span=b"s" * 8, parent=parent, response_body="first"))
    assert stored.partial
    assert (stored.trace_id, stored.span_id, stored.parent_span_id) == (b"t" * 16, b"s" * 8, parent)
    assert stored.exchange is not None
    assert stored.response_body == b"first"
    assert not read_one(exchange_span()).partial


@pytest.mark.parametrize("parent", ["", "zz", "00", "70" * 9, 7, "00" * 8])
def test_a_parent_that_is_no_id_is_none(parent):
    more = {"sp.partial.parent_span_id": parent}
    assert read_one(partial_span(span=b"s" * 8, more=more)).parent_span_id == b""


@pytest.mark.parametrize("span", [b"", bytes(8)])
def test_a_partial_one_without_the_id_of_the_whole_is_a_span_like_others(span):
    stored = read_one(partial_span(span=span))
    assert (stored.partial, stored.exchange) == (False, None)


def test_events_links_and_state_are_kept():
    span = sdk_span()
    span.trace_state = "a=b"
    span.status.message = "why"
    span.events.add(name="exception", time_unix_nano=7).attributes.append(attribute("exception.type", "KeyError"))
    span.links.add(trace_id=b"l" * 16, span_id=b"k" * 8)
    details = read_one(span).details
    assert details["trace_state"] == "a=b"
    assert details["status"] == {"code": 0, "message": "why"}
    assert details["events"] == [{"time_unix_ns": 7, "name": "exception", "attributes": {"exception.type": "KeyError"}}]
    assert details["links"] == [{"trace_id": "6c" * 16, "span_id": "6b" * 8, "attributes": {}}]
    assert details["scope"] == {"name": "sp_proxy", "version": ""}


def test_what_the_replaced_filter_uploads_becomes_exchanges():
    seen = 0
    for golden in GOLDEN:
        for upload in golden["uploads"]:
            request = decode_traces(Encoding.JSON, json.dumps(upload["traces_data"]).encode())
            read = read_request(request, tenant="", now_unix_ns=1)
            assert read.rejected == 0
            exchange = read.batch.spans[0].exchange
            assert exchange is not None
            assert (exchange.method, exchange.host) == (golden["request"]["method"], golden["request"]["host"])
            assert exchange.path == golden["request"]["target"]
            assert exchange.session_id
            seen += 1
    assert seen > 40


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"trace_id": b""}, "trace id"),
        ({"trace_id": bytes(16)}, "trace id"),
        ({"trace_id": b"x" * 15}, "trace id"),
        ({"span_id": bytes(8)}, "span id"),
        ({"span_id": b"x" * 9}, "span id"),
        ({"parent_span_id": b"x" * 7}, "parent span id"),
        ({"start_time_unix_nano": 2**63}, "2262"),
        ({"end_time_unix_nano": 2**64 - 1}, "2262"),
    ],
)
def test_unstorable_spans_are_counted_and_cost_no_other(change, reason):
    bad = sdk_span()
    for name, value in change.items():
        setattr(bad, name, value)
    read = read_request(request_of(bad, sdk_span("good"), bad), tenant="", now_unix_ns=1)
    assert reason in unstorable(bad)
    assert read.rejected == 2
    assert reason in read.reason
    assert [span.name for span in read.batch.spans] == ["good"]


def test_an_all_zero_parent_is_none_and_an_end_before_the_start_is_no_time():
    span = sdk_span(parent=bytes(8))
    span.end_time_unix_nano = 1
    stored = read_one(span)
    assert (stored.parent_span_id, stored.duration_ns) == (b"", 0)


def test_indexed_texts_are_cut_and_the_attribute_is_not():
    path = "/" + "x" * 100_000
    stored = read_one(exchange_span(path=path))
    assert stored.exchange is not None
    assert len(stored.exchange.path) == len(stored.name) == MAX_INDEXED
    assert stored.details["attributes"]["url.path"] == path


@pytest.mark.parametrize(
    "value, status", [("204", 204), (204, 204), (-1, 0), (1000, 0), ("٢٠٤", 0), (True, 0), ("x", 0)]
)
def test_statuses_of_every_type(value, status):
    span = exchange_span(more={"http.response.status_code": value})
    stored = read_one(span)
    assert stored.exchange is not None
    assert stored.exchange.status == status


def test_a_wrongly_typed_size_falls_back_to_what_was_captured():
    stored = read_one(exchange_span(response_body="12345", more={"http.response.body.size": -3}))
    assert stored.exchange is not None
    assert stored.exchange.response_size == 5


def test_a_body_as_bytes_is_base64():
    assert read_one(exchange_span(response_body=None, more={"http.response.body": b"\xff"})).response_body == b"/w=="


def test_the_last_of_a_repeated_attribute_stays():
    assert attributes([attribute("a", "1"), attribute("a", "2")]) == {"a": "2"}


def test_values_of_every_kind_fit_json():
    value = AnyValue(
        array_value=ArrayValue(
            values=[
                AnyValue(string_value="a"),
                AnyValue(int_value=-5),
                AnyValue(bool_value=True),
                AnyValue(double_value=1.5),
                AnyValue(double_value=math.nan),
                AnyValue(double_value=-math.inf),
                AnyValue(bytes_value=b"\x00"),
                AnyValue(kvlist_value=KeyValueList(values=[attribute("k", "v")])),
                AnyValue(),
            ]
        )
    )
    expected = ["a", -5, True, 1.5, "nan", "-inf", {"base64": "AA=="}, {"k": "v"}, None]
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected
    assert (text(None), text("x"), text(3)) == ("", "x", "3")


@given(st.binary(max_size=400))
def test_whatever_parses_is_read(data):
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(data)
    except Exception:
        request = ParseDict({}, ExportTraceServiceRequest())
    read = read_request(request, tenant="", now_unix_ns=1)
    total = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    assert len(read.batch.spans) + read.rejected == total
