"""OTLP-JSON lines, read with a JSON parser and compared with what OTLP's specification says."""

import json

from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form, Payload
from sp_proxy.exporter.otlp_json import json_line
from tests.exporter.rig import make_exchange


def line_of(*exchanges) -> bytes:
    (payload,) = Encoder(SpanEncoder(decode_body).encode_span, [Form({"k": "v"})]).encode(exchanges).payloads
    return json_line(payload)


def test_ids_are_hexadecimal_and_enumerations_are_numbers():
    line = line_of(make_exchange(1, parent_span_id=bytes(7) + b"\x09", status=503), make_exchange(2))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    (resource,) = json.loads(line)["resourceSpans"]
    first, second = resource["scopeSpans"][0]["spans"]
    assert first["traceId"] == (1).to_bytes(16).hex()
    assert first["spanId"] == (1).to_bytes(8).hex()
    assert first["parentSpanId"] == "0000000000000009"
    assert "parentSpanId" not in second
    assert (first["kind"], first["status"]["code"]) == (2, 2)
    assert first["startTimeUnixNano"] == "1700000000000000001"
    assert {"key": "k", "value": {"stringValue": "v"}} in resource["resource"]["attributes"]


def test_text_stays_as_it_is():
    assert "café\\n".encode() in line_of(make_exchange(1, request_body="café\n".encode()))


def test_several_services():
    document = json.loads(line_of(make_exchange(1), make_exchange(2, service_name=b"payment")))
    assert len(document["resourceSpans"]) == 2


def test_nothing():
    assert json_line(Payload(b"", 0, "", 0)) == b"{}\n"
