import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from sp_proxy import regex
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redaction import NeverSent
from sp_proxy.inject import wire
from sp_proxy.inject.wire import Lookup, Stored
from tests.backend.requests import attribute

LOOKUP = Lookup(
    trace_id=b"\x01" * 16,
    span_id=b"\x02" * 8,
    parent_span_id=b"\x03" * 8,
    start_unix_ns=5,
    session="s1",
    service="orders",
    method="POST",
    host="payment:8080",
    target="/charge?x=1",
    fields=(("content-type", "application/json"), ("x-a", "ü")),
    body='{"ü":1}'.encode(),
)


def sent(lookup: Lookup, redaction=None) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(wire.encode_lookup(lookup, redaction or NeverSent(), public_key="k"))


def test_a_look_up_as_published():
    data = TracesData.FromString(wire.encode_lookup(LOOKUP, NeverSent(), public_key="k"))
    span = data.resource_spans[0].scope_spans[0].spans[0]
    values = {each.key: each.value.string_value for each in span.attributes}
    published = {
        "sp.span.type": "inject",
        "sp.session.id": "s1",
        "sp.service.name": "orders",
        "sp.traffic.direction": "outbound",
        "url.host": "payment:8080",
        "url.path": "/charge?x=1",
        "http.request.header.content-type": "application/json",
        "http.request.body": '{"ü":1}',
    }
    assert {name: values[name] for name in published} == published
    assert span.kind == Span.SPAN_KIND_CLIENT
    resource = {each.key: each.value.string_value for each in data.resource_spans[0].resource.attributes}
    assert resource == {"service.name": "orders", "sp.resource.type": "sp-envoy-proxy", "sp.public.key": "k"}


def test_what_is_sent_is_what_is_read():
    assert wire.read_lookup(sent(LOOKUP)) == LOOKUP


@given(st.binary(max_size=50), st.sampled_from(["image/png", "", "application/octet-stream"]))
def test_any_body(body, content_type):
    fields = (("content-type", content_type),) if content_type else ()
    found = wire.read_lookup(sent(Lookup(method="PUT", host="a", target="/", fields=fields, body=body)))
    assert found is not None
    assert found.body == body
    answer = wire.encode_answer(LOOKUP, Stored(200, fields, body))
    assert wire.read_answer(answer) == Stored(200, fields, body)


def test_secrets_do_not_leave():
    redactor = Redactor(RedactionConfig(rules=(RuleConfig(json_paths=("$.pin",), query=("token",)),)), regex)
    fields = (("authorization", "Bearer x"), ("content-type", "application/json"), ("cookie", "a=b"))
    lookup = Lookup(method="POST", host="a", target="/?token=secret", fields=fields, body=b'{"pin":"1234"}')
    found = wire.read_lookup(sent(lookup, redactor))
    assert found is not None
    assert found.fields == (("content-type", "application/json"),)
    assert (found.target, found.body) == ("/?token=[REDACTED]", b'{"pin":"[REDACTED]"}')


def test_answers_of_others_are_read():
    answer = TracesData()
    span = answer.resource_spans.add().scope_spans.add().spans.add()
    span.attributes.extend(
        [
            attribute("http.response.status_code", "404"),
            attribute("http.response.header.Content-Type", "text/plain; charset=latin-1"),
            attribute("http.response.header.:status", "404"),
            attribute("http.response.body", "ü"),
        ]
    )
    read = wire.read_answer(ExportTraceServiceRequest.FromString(answer.SerializeToString()))
    assert read == Stored(404, (("content-type", "text/plain; charset=latin-1"),), b"\xfc")


@pytest.mark.parametrize("status", [None, 0, 99, 101, 600, "x", True])
def test_what_is_no_answer(status):
    answer = ExportTraceServiceRequest()
    span = answer.resource_spans.add().scope_spans.add().spans.add()
    if status is not None:
        span.attributes.append(attribute("http.response.status_code", status))
    assert wire.read_answer(answer) is None


def test_a_request_without_a_look_up():
    request = sent(LOOKUP)
    request.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value = "extract"
    assert wire.read_lookup(request) is None
