import json

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sp_proxy.backend.otlp import (
    LOGS,
    TRACES,
    Code,
    Encoding,
    UnreadableError,
    decode_traces,
    encode_accepted,
    encode_status,
    encoding_of,
)
from tests.backend.requests import exchange_span, request_of, sdk_span


def as_otlp_json(request) -> bytes:
    """As OTLP has it: proto3 JSON, but ids in hex."""
    value = MessageToDict(request)
    source = request.resource_spans[0].scope_spans[0].spans
    for span, original in zip(value["resourceSpans"][0]["scopeSpans"][0]["spans"], source, strict=True):
        span["traceId"], span["spanId"] = original.trace_id.hex(), original.span_id.hex()
        if original.parent_span_id:
            span["parentSpanId"] = original.parent_span_id.hex()
        for link, original_link in zip(span.get("links", []), original.links, strict=True):
            link["traceId"], link["spanId"] = original_link.trace_id.hex(), original_link.span_id.hex()
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "content_type, encoding",
    [
        ("application/x-protobuf", Encoding.PROTOBUF),
        ("Application/JSON; charset=utf-8", Encoding.JSON),
        ("application/grpc", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_encoding_of(content_type, encoding):
    assert encoding_of(content_type) is encoding


def test_both_encodings_are_the_same_message():
    span = sdk_span(parent=b"p" * 8)
    span.links.add(trace_id=b"l" * 16, span_id=b"k" * 8)
    request = request_of(span, exchange_span())
    assert decode_traces(Encoding.PROTOBUF, request.SerializeToString()) == request
    assert decode_traces(Encoding.JSON, as_otlp_json(request)) == request


def test_json_takes_snake_case_upper_case_hex_and_unknown_fields():
    body = b'{"resource_spans": [{"scope_spans": [{"spans": [{"trace_id": "AA%s", "new": {}}]}], "x": 1}]}' % (
        b"0" * 30
    )
    (span,) = decode_traces(Encoding.JSON, body).resource_spans[0].scope_spans[0].spans
    assert span.trace_id == b"\xaa" + bytes(15)


def test_malformed_ids_cost_their_span_only():
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz", "spanId": "1", "parentSpanId": "zz"}]}]}]}
    ).encode()
    (span,) = decode_traces(Encoding.JSON, body).resource_spans[0].scope_spans[0].spans
    assert (span.trace_id, span.span_id, len(span.parent_span_id)) == (b"", b"", 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"\xff",
        b'{"resourceSpans": 1}',
        b'{"resourceSpans": [1]}',
        b'{"resourceSpans": [{"scopeSpans": {"spans": 2}}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 5}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "1e999"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
    ],
)
def test_unreadable_json_is_one_short_line(body):
    with pytest.raises(UnreadableError) as caught:
        decode_traces(Encoding.JSON, body)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_nested_values_beyond_the_limit_are_unreadable():
    value: object = {"stringValue": "x"}
    for _ in range(200):
        value = {"arrayValue": {"values": [value]}}
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"key": "k", "value": value}]}]}]}]}
    ).encode()
    with pytest.raises(UnreadableError):
        decode_traces(Encoding.JSON, body)


@given(encoding=st.sampled_from(Encoding), body=st.binary(max_size=300))
def test_any_bytes_are_read_or_unreadable(encoding, body):
    message = ""
    try:
        decode_traces(encoding, body)
    except UnreadableError as error:
        message = str(error)
    assert "\n" not in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
known_names = (
    "resourceSpans",
    "scopeSpans",
    "spans",
    "links",
    "attributes",
    "traceId",
    "spanId",
    "key",
    "value",
    "kind",
)
otlp_like = st.recursive(
    json_values,
    lambda inner: st.dictionaries(st.sampled_from(known_names), st.lists(inner, max_size=2) | inner, max_size=3),
    max_leaves=12,
)


@given(otlp_like)
def test_any_json_is_read_or_unreadable(value):
    message = ""
    try:
        decode_traces(Encoding.JSON, json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [value]}]}]}).encode())
    except UnreadableError as error:
        message = str(error)
    assert "\n" not in message


def test_answers_in_both_encodings():
    assert encode_accepted(TRACES, Encoding.PROTOBUF, rejected=0, reason="") == b""
    assert encode_accepted(TRACES, Encoding.JSON, rejected=0, reason="") == b"{}"
    partial = ExportTraceServiceResponse.FromString(
        encode_accepted(TRACES, Encoding.PROTOBUF, rejected=3, reason="why")
    )
    assert (partial.partial_success.rejected_spans, partial.partial_success.error_message) == (3, "why")
    assert json.loads(encode_accepted(TRACES, Encoding.JSON, rejected=3, reason="why")) == {
        "partialSuccess": {"rejectedSpans": "3", "errorMessage": "why"}
    }


def test_what_was_rejected_is_counted_by_its_kind():
    body = encode_accepted(LOGS, Encoding.JSON, rejected=2, reason="why")
    assert json.loads(body) == {"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "why"}}


def test_status_bytes():
    assert json.loads(encode_status(Encoding.JSON, Code.INVALID_ARGUMENT, "é")) == {"code": 3, "message": "é"}
    # Field 1 varint 8, field 2 length-delimited; a length above 127 takes two bytes.
    assert encode_status(Encoding.PROTOBUF, Code.RESOURCE_EXHAUSTED, "é") == b"\x08\x08\x12\x02\xc3\xa9"
    assert encode_status(Encoding.PROTOBUF, Code.UNAVAILABLE, "x" * 300) == b"\x08\x0e\x12\xac\x02" + b"x" * 300
