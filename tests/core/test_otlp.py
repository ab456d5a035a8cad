"""Wire primitives, each read back with protobuf's own decoder."""

import math

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core import otlp

NAME = otlp.key(b"name")
# Around each place where a length takes one more byte, and the end of the table.
LENGTHS = st.sampled_from([0, 1, 100, 118, 119, 120, 123, 124, 125, 126, 127, 128, 4090, 4096, 16370, 16384, 70000])


def value(laid: bytes) -> object:
    (attribute,) = Span.FromString(laid).attributes
    assert attribute.key == "name"
    return getattr(attribute.value, attribute.value.WhichOneof("value") or "")


@given(LENGTHS | st.integers(0, 300), st.sampled_from(["x", "ü", "\0"]))
def test_string_attribute(length, character):
    text = character * length
    assert value(otlp.string_attribute(NAME, text.encode())) == text


@given(LENGTHS)
def test_long_keys(length):
    laid = otlp.string_attribute(otlp.key(b"k" * length), b"v")
    (attribute,) = Span.FromString(laid).attributes
    assert (attribute.key, attribute.value.string_value) == ("k" * length, "v")


@given(st.integers(-(2**63), 2**63 - 1))
def test_int_attribute(number):
    assert value(otlp.int_attribute(NAME, number)) == number


@given(st.integers())
def test_integers_of_any_size_stay_valid(number):
    assert isinstance(value(otlp.int_attribute(NAME, number)), int)
    assert len(otlp.fixed64(number)) == 8


@given(st.floats())
def test_double_attribute(number):
    read = value(otlp.double_attribute(NAME, number))
    assert isinstance(read, float)
    assert read == number or (math.isnan(read) and math.isnan(number))


def test_bool_attribute():
    assert value(otlp.bool_attribute(NAME, value=True)) is True
    assert value(otlp.bool_attribute(NAME, value=False)) is False


@given(st.binary())
def test_utf8_of_any_bytes(data):
    laid = otlp.utf8(data)
    text = laid.decode()
    try:
        assert text == data.decode()
    except UnicodeDecodeError:
        assert text == data.decode("latin-1")


@given(st.text(st.characters()))
def test_text_of_any_string(text):
    assert otlp.text(text).decode() == "".join("?" if "\ud800" <= c <= "\udfff" else c for c in text)


def test_resource_and_scope():
    resource = Resource.FromString(otlp.encode_resource({"service.name": "cart", "städte": "köln \udc80"}))
    assert {one.key: one.value.string_value for one in resource.attributes} == {
        "service.name": "cart",
        "städte": "köln ?",
    }
    scope = InstrumentationScope.FromString(otlp.encode_scope("sp-proxy", "1.2"))
    assert (scope.name, scope.version) == ("sp-proxy", "1.2")


def test_request_and_concatenated_requests():
    spans = [Span(name="a").SerializeToString(), Span(name="b" * 20000).SerializeToString(), b""]
    scope = otlp.encode_scope("sp-proxy", "1")
    first = otlp.encode_request(otlp.encode_resource({"service.name": "a"}), scope, spans)
    second = otlp.encode_request(otlp.encode_resource({"service.name": "b"}), scope, [])
    request = ExportTraceServiceRequest.FromString(first + second)
    one, two = request.resource_spans
    assert [span.name for span in one.scope_spans[0].spans] == ["a", "b" * 20000, ""]
    assert one.scope_spans[0].scope.name == "sp-proxy"
    assert one.resource.attributes[0].value.string_value == "a"
    assert two.resource.attributes[0].value.string_value == "b"
    assert not two.scope_spans[0].spans
