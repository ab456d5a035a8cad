from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sp_proxy.backend.logs import read_logs, unstorable
from sp_proxy.backend.otlp import LOGS, Encoding, decode
from sp_proxy.backend.spans import MAX_INDEXED, MAX_TIME
from tests.backend.requests import START, attribute

TRACE, SPAN = b"t" * 16, b"s" * 8


def logs_request(*records, service="orders"):
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.append(attribute("service.name", service))
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = "logging"
    scope_logs.log_records.extend(records)
    return request


def record(body="hello", **values):
    made = LogRecord(
        **{
            "time_unix_nano": START,
            "trace_id": TRACE,
            "span_id": SPAN,
            "severity_number": 13,
            "severity_text": "WARN",
            "body": AnyValue(string_value=body),
            **values,
        }
    )
    made.attributes.append(attribute("customer", 7))
    return made


def read(*records):
    return read_logs(logs_request(*records), tenant="key", now_unix_ns=77)


def test_a_record():
    result = read(record())
    (log,) = result.batch.logs
    assert (result.rejected, result.reason, result.batch.tenant) == (0, "", "key")
    assert (log.time_unix_ns, log.trace_id, log.span_id) == (START, TRACE, SPAN)
    assert (log.severity, log.severity_text, log.service, log.body) == (13, "WARN", "orders", "hello")
    assert log.details == {"scope": {"name": "logging", "version": ""}, "attributes": {"customer": 7}}
    assert result.batch.resources == [{"service.name": "orders"}]


def test_bodies_that_are_no_short_text_are_kept_whole_in_the_details():
    (long,) = read(record("x" * 5000)).batch.logs
    assert (len(long.body), len(long.details["body"])) == (MAX_INDEXED, 5000)
    structured = AnyValue(kvlist_value=KeyValueList(values=[attribute("a", 1)]))
    (log,) = read(record_with(structured)).batch.logs
    assert (log.body, log.details["body"]) == ('{"a":1}', {"a": 1})
    (empty,) = read(record_with(AnyValue())).batch.logs
    assert empty.body == ""


def record_with(body):
    made = record()
    made.body.CopyFrom(body)
    return made


def test_what_is_not_told_is_what_is_known():
    (log,) = read(record(time_unix_nano=0, observed_time_unix_nano=5, event_name="e")).batch.logs
    assert (log.time_unix_ns, log.details["observed_unix_ns"], log.details["event_name"]) == (5, 5, "e")
    (late,) = read(record(time_unix_nano=0)).batch.logs
    assert late.time_unix_ns == 77
    (alone,) = read(record(trace_id=b"", span_id=bytes(8), severity_number=99)).batch.logs
    assert (alone.trace_id, alone.span_id, alone.severity) == (b"", b"", 0)


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"trace_id": b"x"}, "a trace id must be 16 bytes or absent"),
        ({"span_id": b"x"}, "a span id must be 8 bytes or absent"),
        ({"time_unix_nano": MAX_TIME + 1}, "a time must be before the year 2262"),
    ],
)
def test_what_cannot_be_stored_costs_only_itself(values, reason):
    assert unstorable(record(**values)) == reason
    result = read(record(**values), record(), record(**values))
    assert (len(result.batch.logs), result.rejected, result.reason) == (1, 2, reason)


@given(st.binary(max_size=200))
def test_whatever_protobuf_reads_is_read(data):
    request = ExportLogsServiceRequest()
    with suppress(DecodeError):
        request.MergeFromString(data)
    result = read_logs(request, tenant="", now_unix_ns=1)
    assert result.rejected + len(result.batch.logs) == sum(
        len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs
    )


def test_json_has_hex_ids():
    body = (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","traceId":"%s","spanId":"%s",'
        b'"body":{"stringValue":"hi"},"severityNumber":9}]}]}]}' % (TRACE.hex().encode(), SPAN.hex().encode())
    )
    (log,) = read_logs(decode(LOGS, Encoding.JSON, body), tenant="", now_unix_ns=1).batch.logs
    assert (log.trace_id, log.span_id, log.body, log.time_unix_ns) == (TRACE, SPAN, "hi", 5)
