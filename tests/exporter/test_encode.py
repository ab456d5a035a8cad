"""Batches as OTLP requests: grouping, splitting, compression, and records that cannot be encoded."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy import __version__
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form, compressed
from tests.exporter.rig import make_exchange, make_exchanges

encode_span = SpanEncoder(decode_body).encode_span


def read(payload) -> ExportTraceServiceRequest:
    body = gzip.decompress(payload.body) if payload.encoding == "gzip" else payload.body
    assert len(body) == payload.raw_size
    return ExportTraceServiceRequest.FromString(body)


def spans_by_service(payload) -> list[tuple[str, list[int]]]:
    groups = []
    for resource_spans in read(payload).resource_spans:
        attributes = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
        (scope_spans,) = resource_spans.scope_spans
        groups.append((attributes["service.name"], [int.from_bytes(span.span_id) for span in scope_spans.spans]))
    return groups


def test_one_resource_a_service_in_one_request():
    exchanges = [make_exchange(1), make_exchange(2, service_name=b"payment"), make_exchange(3)]
    encoded = Encoder(encode_span, [Form({})]).encode(exchanges)
    (payload,) = encoded.payloads
    assert spans_by_service(payload) == [("orders", [1, 3]), ("payment", [2])]
    assert (payload.records, encoded.lost) == (3, {})


def test_resource_and_scope():
    (payload,) = Encoder(encode_span, [Form({"host.name": "h", "tag": "ü"})]).encode(make_exchanges(1)).payloads
    (resource_spans,) = read(payload).resource_spans
    assert [(pair.key, pair.value.string_value) for pair in resource_spans.resource.attributes] == [
        ("service.name", "orders"),
        ("host.name", "h"),
        ("tag", "ü"),
    ]
    scope = resource_spans.scope_spans[0].scope
    assert (scope.name, scope.version) == ("sp-proxy", __version__)


def test_a_service_name_that_is_no_text_is_made_one():
    (payload,) = Encoder(encode_span, [Form({})]).encode([make_exchange(1, service_name=b"caf\xe9")]).payloads
    assert spans_by_service(payload) == [("caf\ufffd", [1])]


@pytest.mark.parametrize("compression,encoding", [("gzip", "gzip"), ("none", "")])
def test_compression(compression, encoding):
    (payload,) = Encoder(encode_span, [Form({}, compression)]).encode(make_exchanges(50)).payloads
    assert payload.encoding == encoding
    assert spans_by_service(payload) == [("orders", list(range(1, 51)))]
    assert (len(payload.body) < payload.raw_size / 3) == (compression == "gzip")


def test_a_record_that_cannot_be_encoded_is_lost_alone():
    def encode(exchange):
        if exchange.trace_id == (2).to_bytes(16):
            raise ZeroDivisionError
        return encode_span(exchange)

    encoded = Encoder(encode, [Form({})]).encode(make_exchanges(3))
    assert spans_by_service(encoded.payloads[0]) == [("orders", [1, 3])]
    assert encoded.lost == {"encode_failed": 1}


def test_a_batch_of_which_nothing_is_left_makes_no_request():
    def encode(exchange):
        raise ZeroDivisionError

    encoded = Encoder(encode, [Form({})]).encode(make_exchanges(3))
    assert (encoded.payloads, encoded.lost) == ([], {"encode_failed": 3})


def test_a_span_which_is_too_large_by_itself_is_lost():
    exchanges = [make_exchange(1), make_exchange(2, request_body=b"x" * 9000), make_exchange(3)]
    encoded = Encoder(encode_span, [Form({})], max_request_bytes=8192).encode(exchanges)
    assert [group for payload in encoded.payloads for group in spans_by_service(payload)] == [("orders", [1, 3])]
    assert encoded.lost == {"too_large": 1}


def test_one_service_is_split_over_requests():
    encoded = Encoder(encode_span, [Form({})], max_request_bytes=8192).encode(make_exchanges(20))
    assert len(encoded.payloads) > 1
    ids = [number for payload in encoded.payloads for _, numbers in spans_by_service(payload) for number in numbers]
    assert ids == list(range(1, 21))


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c" * 100]), st.integers(0, 6000)), max_size=30),
    st.integers(1000, 8000),
)
def test_no_request_is_above_the_limit_and_no_record_is_lost_or_doubled(sizes, limit):
    """Spans of any size: ``encode_span`` is a stand-in that lays a name of that size."""

    def lay(exchange):
        name = exchange.request_body
        return b"\x12\x08" + exchange.span_id + b"\x2a" + _varint(len(name)) + name

    exchanges = [
        make_exchange(number, service_name=service, request_body=b"x" * size)
        for number, (service, size) in enumerate(sizes, 1)
    ]
    encoded = Encoder(lay, [Form({"host.name": "h"})], max_request_bytes=limit).encode(exchanges)
    ids = []
    for payload in encoded.payloads:
        assert payload.raw_size <= limit
        numbers = [number for _, group in spans_by_service(payload) for number in group]
        assert payload.records == len(numbers) > 0
        ids += numbers
    assert len(ids) == len(set(ids))
    assert len(ids) + sum(encoded.lost.values()) == len(exchanges)
    assert set(encoded.lost) <= {"too_large"}


def _varint(value: int) -> bytes:
    laid = b""
    while value > 127:
        laid += bytes([value & 127 | 128])
        value >>= 7
    return laid + bytes([value])


def test_two_forms_of_the_same_spans():
    forms = [Form({"key": "k"}), Form({}, "none")]
    encoded = Encoder(encode_span, forms).encode([*make_exchanges(3), make_exchange(4, service_name=b"payment")])
    (first,), (second,) = encoded.forms
    assert encoded.payloads == [first]
    assert (first.encoding, second.encoding, first.records, second.records) == ("gzip", "", 4, 4)
    assert spans_by_service(first) == spans_by_service(second) == [("orders", [1, 2, 3]), ("payment", [4])]
    keys = [[pair.key for pair in read(payload).resource_spans[0].resource.attributes] for payload in (first, second)]
    assert keys == [["service.name", "key"], ["service.name"]]


def test_compressed_is_gzip():
    assert gzip.decompress(compressed(b"x" * 1000)) == b"x" * 1000
