"""One exchange in full, as the API answers it (pure): the attributes of contract section 4 read back into a request
and a response.
"""

import base64
from typing import Any

from msgspec import Struct

from sp_proxy.backend.model import ExchangeSummary, SpanRecord
from sp_proxy.core.body import media_type

_STATUSES = ("unset", "ok", "error")


class BodyView(Struct, frozen=True):
    """A captured body. ``encoding`` tells what ``data`` is: ``text``, or ``base64`` of other content."""

    encoding: str
    data: str
    content_type: str


class MessageView(Struct, frozen=True):
    """A request or a response: fields in the order in which they were sent to us, without pseudo-header fields."""

    headers: list[tuple[str, str]]
    body: BodyView | None
    size: int
    """True size of the body, which may be more than was captured."""


class ExchangeView(Struct, frozen=True, kw_only=True):
    """What the API adds to the summary of an exchange. ``attributes`` has all of them but the bodies."""

    name: str
    kind: str
    span_status: str
    span_status_message: str
    ttfb_ms: float | None
    truncated: bool
    request: MessageView
    response: MessageView
    attributes: dict[str, Any]
    resource: dict[str, Any]
    details: dict[str, Any]
    """What is left: scope, events, links, trace state."""
    tenant: str
    received_unix_ns: int


class SpanView(Struct, frozen=True, kw_only=True):
    """Any other span with everything that is known of it."""

    span_id: str
    trace_id: str
    parent_span_id: str
    service: str
    start_unix_ns: int
    duration_ns: int
    failed: bool
    name: str
    kind: str
    span_status: str
    span_status_message: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    details: dict[str, Any]
    tenant: str
    received_unix_ns: int


def exchange_view(record: SpanRecord, summary: ExchangeSummary) -> ExchangeView:
    """The view of a span that is an exchange."""
    attributes, details, code, message = _taken_apart(record)
    ttfb = attributes.get("sp.ttfb_ms")
    return ExchangeView(
        name=record.name,
        kind=record.kind,
        span_status=code,
        span_status_message=message,
        ttfb_ms=ttfb if isinstance(ttfb, int | float) and not isinstance(ttfb, bool) else None,
        truncated=attributes.get("sp.body.truncated") not in {None, False, "", "false"},
        request=_message(attributes, "http.request.header.", record.request_body, summary.request_size),
        response=_message(attributes, "http.response.header.", record.response_body, summary.response_size),
        attributes=attributes,
        resource=record.resource,
        details=details,
        tenant=record.tenant,
        received_unix_ns=record.received_unix_ns,
    )


def span_view(record: SpanRecord) -> SpanView:
    """The view of a span that is none."""
    attributes, details, code, message = _taken_apart(record)
    return SpanView(
        span_id=record.span_id,
        trace_id=record.trace_id,
        parent_span_id=record.parent_span_id,
        service=record.service,
        start_unix_ns=record.start_unix_ns,
        duration_ns=record.duration_ns,
        failed=record.failed,
        name=record.name,
        kind=record.kind,
        span_status=code,
        span_status_message=message,
        attributes=attributes,
        resource=record.resource,
        details=details,
        tenant=record.tenant,
        received_unix_ns=record.received_unix_ns,
    )


def _taken_apart(record: SpanRecord) -> tuple[dict[str, Any], dict[str, Any], str, str]:
    details = dict(record.details)
    attributes: dict[str, Any] = details.pop("attributes", {})
    status: dict[str, Any] = details.pop("status", {})
    code = status.get("code", 0)
    word = _STATUSES[code] if isinstance(code, int) and 0 <= code < len(_STATUSES) else "unset"
    return attributes, details, word, str(status.get("message", ""))


def _message(attributes: dict[str, Any], prefix: str, body: bytes | None, size: int) -> MessageView:
    fields = [
        (name.removeprefix(prefix), value if isinstance(value, str) else str(value))
        for name, value in attributes.items()
        if name.startswith(prefix) and not name.startswith(prefix + ":")
    ]
    by_name = dict(fields)
    content_type = by_name.get("content-type", "")
    view = None
    if body is not None:
        text = media_type(content_type.encode()).is_text and not ("content-encoding" in by_name and _is_coded(body))
        encoding = "text" if text else "base64"
        view = BodyView(encoding=encoding, data=body.decode(errors="replace"), content_type=content_type)
    return MessageView(headers=fields, body=view, size=size)


def _is_coded(body: bytes) -> bool:
    """Whether a text's body is base64 all the same, since its content coding could not be undone (contract, 4): then it
    is strict base64 of something that is no text.
    """
    try:
        base64.b64decode(body, validate=True).decode()
    except UnicodeDecodeError:
        return True
    except ValueError:
        return False
    return False
