"""An OTLP request of log records to the batch that is stored (pure).

A record that cannot be stored is counted and named in the answer's partial success; it never costs the others.
"""

from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sp_proxy.backend.log_model import LogBatch, StoredLog
from sp_proxy.backend.spans import MAX_INDEXED, MAX_TIME, attributes, plain, text

HIGHEST_SEVERITY = 24


class ReadLogs(Struct, frozen=True):
    """The batch to store, and what had to be left out."""

    batch: LogBatch
    rejected: int
    reason: str
    """Why the first one was rejected; empty when none was."""


def read_logs(request: ExportLogsServiceRequest, *, tenant: str, now_unix_ns: int) -> ReadLogs:
    """Every storable record of a request."""
    batch = LogBatch(tenant=tenant, received_unix_ns=now_unix_ns, resources=[], logs=[])
    rejected, first_reason = 0, ""
    for resource_logs in request.resource_logs:
        if not any(scope_logs.log_records for scope_logs in resource_logs.scope_logs):
            continue
        resource = attributes(resource_logs.resource.attributes)
        service = text(resource.get("service.name"))[:MAX_INDEXED]
        batch.resources.append(resource)
        for scope_logs in resource_logs.scope_logs:
            scope: dict[str, Any] = {"name": scope_logs.scope.name, "version": scope_logs.scope.version}
            for record in scope_logs.log_records:
                reason = unstorable(record)
                if reason:
                    rejected += 1
                    first_reason = first_reason or reason
                else:
                    batch.logs.append(_stored(record, scope, len(batch.resources) - 1, service, now_unix_ns))
    return ReadLogs(batch=batch, rejected=rejected, reason=first_reason)


def unstorable(record: LogRecord) -> str:
    """Why a record cannot be stored; empty when it can. One without ids is of no trace, which is nothing wrong."""
    if len(record.trace_id) not in {0, 16}:
        return "a trace id must be 16 bytes or absent"
    if len(record.span_id) not in {0, 8}:
        return "a span id must be 8 bytes or absent"
    if max(record.time_unix_nano, record.observed_time_unix_nano) > MAX_TIME:
        return "a time must be before the year 2262"
    return ""


def _stored(record: LogRecord, scope: dict[str, Any], resource: int, service: str, now_unix_ns: int) -> StoredLog:
    body = plain(record.body)
    shown = body if isinstance(body, str) else "" if body is None else msgspec.json.encode(body).decode()
    details: dict[str, Any] = {"scope": scope, "attributes": attributes(record.attributes)}
    if shown is not body or len(shown) > MAX_INDEXED:
        details["body"] = body
    if record.observed_time_unix_nano:
        details["observed_unix_ns"] = record.observed_time_unix_nano
    if record.event_name:
        details["event_name"] = record.event_name
    return StoredLog(
        time_unix_ns=record.time_unix_nano or record.observed_time_unix_nano or now_unix_ns,
        trace_id=record.trace_id if any(record.trace_id) else b"",
        span_id=record.span_id if any(record.span_id) else b"",
        severity=record.severity_number if 0 <= record.severity_number <= HIGHEST_SEVERITY else 0,
        severity_text=record.severity_text[:MAX_INDEXED],
        service=service,
        body=shown[:MAX_INDEXED],
        resource=resource,
        details=details,
    )
