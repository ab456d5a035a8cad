"""What crosses the seams of the backend: batches on their way in, summaries and details on their way out.

The intake makes a ``Batch`` of an OTLP request, a store keeps it, and answers queries with the other values. No value
here knows of SQL or of HTTP. Ids are bytes in what is stored, and lower-case hex in what is answered.
"""

from typing import Any, Literal

from msgspec import Struct, field

Direction = Literal["inbound", "outbound", "unknown"]


KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""OTLP's span kinds, by number."""


def kind_name(kind: int) -> str:
    """A span kind as a word; numbers that OTLP does not know are unspecified, as it demands."""
    return KINDS[kind] if 0 <= kind < len(KINDS) else KINDS[0]


class ExchangeFields(Struct, frozen=True, gc=False):
    """What a list of exchanges shows and filters by. Long texts are cut (``spans.MAX_INDEXED``): the full values are
    in the span's attributes.
    """

    session_id: str
    service: str
    direction: Direction
    method: str
    scheme: str
    host: str
    path: str
    """The request target with its query."""
    status: int
    """0 when there was no response."""
    request_size: int
    response_size: int
    error: str
    """``error.type``; empty when the exchange ended as its protocol says."""


class StoredSpan(Struct, frozen=True):
    """One span, of sp_proxy or of any SDK. ``exchange`` is None unless it is an exchange that sp_proxy captured."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_unix_ns: int
    duration_ns: int
    failed: bool
    """The span's status is ERROR."""
    service: str
    resource: int
    """Index into the batch's resources."""
    details: dict[str, Any]
    """Everything else that the span says, bodies taken out: attributes, events, links, scope, status."""
    exchange: ExchangeFields | None = None
    request_body: bytes | None = None
    """As the attribute has it (UTF-8 text, or base64)."""
    response_body: bytes | None = None
    partial: bool = False
    """An exchange that was still going on: it stands in the place of the one which is to come, under the same ids."""
    tags: dict[str, str] = field(default_factory=dict)
    """The exchange's custom tags."""
    text: str = ""
    """What a text search of the exchange looks through, folded."""


class Batch(Struct, frozen=True):
    """One OTLP request, read."""

    tenant: str
    """``x-public-key`` of the request; empty when there was none."""
    received_unix_ns: int
    resources: list[dict[str, Any]]
    spans: list[StoredSpan]


class ExchangeSummary(Struct, frozen=True, kw_only=True):
    """One line of a list of exchanges."""

    trace_id: str
    span_id: str
    parent_span_id: str
    start_unix_ns: int
    duration_ns: int
    failed: bool
    session_id: str
    service: str
    direction: Direction
    method: str
    scheme: str
    host: str
    path: str
    status: int
    request_size: int
    response_size: int
    error: str
    partial: bool = False
    """It was still going on; when it ends, the whole of it takes this one's place."""
    peer: str = ""
    """The service at the other end, once its half of the exchange is stored too; empty before, and without it."""


def summary_of(span: StoredSpan, peer: str = "") -> ExchangeSummary:
    """The summary which a query would give of this exchange."""
    exchange = span.exchange
    assert exchange is not None
    return ExchangeSummary(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        start_unix_ns=span.start_unix_ns,
        duration_ns=span.duration_ns,
        failed=span.failed,
        session_id=exchange.session_id,
        service=exchange.service,
        direction=exchange.direction,
        method=exchange.method,
        scheme=exchange.scheme,
        host=exchange.host,
        path=exchange.path,
        status=exchange.status,
        request_size=exchange.request_size,
        response_size=exchange.response_size,
        error=exchange.error,
        partial=span.partial,
        peer=peer,
    )


class Arrived(Struct, frozen=True):
    """A new exchange, with what else a query may ask of it."""

    summary: ExchangeSummary
    tags: dict[str, str]
    text: str


class Appended(Struct, frozen=True):
    """What became of a batch."""

    stored: int
    duplicates: int
    exchanges: list[Arrived]
    """The exchanges among the newly stored."""


class ExchangePage(Struct, frozen=True):
    """Newest first. ``next`` continues after the last one: opaque, empty at the end.

    A page may be short, or empty, and yet have a ``next``: the search took its time, and goes on there.
    """

    exchanges: list[ExchangeSummary]
    next: str


class SpanRecord(Struct, frozen=True):
    """One stored span in full, bodies as they were sent."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_unix_ns: int
    duration_ns: int
    failed: bool
    service: str
    tenant: str
    received_unix_ns: int
    resource: dict[str, Any]
    details: dict[str, Any]
    exchange: ExchangeSummary | None
    request_body: bytes | None
    response_body: bytes | None


class TraceSummary(Struct, frozen=True):
    """One trace in a list."""

    trace_id: str
    name: str
    """Of its first span: method and path of an exchange, else the span's name."""
    service: str
    """Of its first span."""
    start_unix_ns: int
    duration_ns: int
    spans: int
    exchanges: int
    errors: int
    services: list[str]


class TracePage(Struct, frozen=True):
    """By start, newest first. ``next`` as in ``ExchangePage``."""

    traces: list[TraceSummary]
    next: str


class Edge(Struct, frozen=True):
    """What went from one service to another in a time. The percentile is that of a histogram: within 9 % of the value."""

    source: str
    """Empty: from outside, or from where nothing is captured."""
    host: str
    """What the request was addressed to (``Host``)."""
    target: str
    """Empty: nothing was captured at the other end."""
    requests: int
    errors: int
    p50_ns: int
    p95_ns: int


class ServiceMap(Struct, frozen=True):
    """Services as a graph, from whole minutes."""

    since_unix_ns: int
    until_unix_ns: int
    edges: list[Edge]


class TraceSpan(Struct, frozen=True):
    """One span of a trace, without its details."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_unix_ns: int
    duration_ns: int
    failed: bool
    service: str
    exchange: ExchangeSummary | None


class SessionSummary(Struct, frozen=True):
    """One session: everything captured under one session id, across traces."""

    session_id: str
    first_seen_unix_ns: int
    last_seen_unix_ns: int
    exchanges: int
    errors: int
    services: list[str]


class SessionPage(Struct, frozen=True):
    """Last seen first. ``next`` as in ``ExchangePage``."""

    sessions: list[SessionSummary]
    next: str


class SessionDetail(Struct, frozen=True):
    """One session with a page of its exchanges, in order of time. ``next`` continues after the last one; empty at the end."""

    session: SessionSummary
    exchanges: list[ExchangeSummary]
    truncated: bool
    """There are more behind these."""
    next: str


class StoreStats(Struct, frozen=True):
    """Sizes of what is stored now, and running totals since the database was made."""

    spans: int
    exchanges: int
    logs: int
    sessions: int
    traces: int
    bytes: int
    """Used by data; the files may be larger."""
    appended: int
    duplicates: int
    expired: int
    databases_set_aside: int
    """Unreadable databases moved out of the way since the process started."""


class BackendError(Exception):
    """The backend cannot start or go on: one line for a person."""


class StoreError(Exception):
    """The store could not do what was asked, this time: one line for a person."""
