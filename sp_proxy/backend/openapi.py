"""The OpenAPI 3.1 document of the API (pure): addresses, parameters, and answers, whose schemas are made of their types.

``tests/backend/test_openapi.py`` asks a running backend whatever the document allows, and checks each answer against it.
"""

from typing import Any

import msgspec
from msgspec import Struct

from sp_proxy import __version__
from sp_proxy.backend.detail import ExchangeView, SpanView
from sp_proxy.backend.export.formats import FORMATS
from sp_proxy.backend.health import DaemonList
from sp_proxy.backend.log_model import LogPage
from sp_proxy.backend.model import (
    ExchangePage,
    ExchangeSummary,
    ServiceMap,
    SessionDetail,
    SessionPage,
    StoreStats,
    TracePage,
)
from sp_proxy.backend.parameters import DEFAULT_LIMIT, FILTERS, LOG_FILTERS, MAX_LIMIT, SEVERITIES
from sp_proxy.backend.query.parse import MAX_LENGTH
from sp_proxy.backend.tree import Tree

_TEXT = {"type": "string"}
_TRACE_ID = {"type": "string", "pattern": "^([0-9a-fA-F]{32})?$"}
_SPAN_ID = {"type": "string", "pattern": "^([0-9a-fA-F]{16})?$"}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "q": {"type": "string", "maxLength": MAX_LENGTH},
    "service": _TEXT,
    "direction": {"enum": ["", "inbound", "outbound", "unknown"]},
    "method": {"type": "string", "pattern": "^[A-Za-z]*$"},
    "host": _TEXT,
    "path": _TEXT,
    "status": {"type": "string", "pattern": "^([1-5]xx|0|[1-9][0-9]{2})?$"},
    "session": _TEXT,
    "trace": _TRACE_ID,
    "span": _SPAN_ID,
    "severity": {"enum": ["", *SEVERITIES]},
    "before": _TEXT,
    "after": _TEXT,
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "since": {"type": "string", "default": "-1h"},
    "until": {"type": "string", "default": "-0s"},
    "span_id": {"type": "string", "pattern": "^[0-9a-fA-F]{16}$"},
    "trace_id": {"type": "string", "pattern": "^[0-9a-fA-F]{32}$"},
    "session_id": {"type": "string", "minLength": 1},
    "format": {"enum": list(FORMATS)},
}
_MEANINGS = {
    "q": "A query, see docs/backend.md.",
    "status": "A status, a class (5xx), or 0 for exchanges without a response.",
    "path": "A part of the request target.",
    "trace": "A trace id.",
    "span": "A span id.",
    "severity": "At least as severe as this.",
    "before": "The `next` of the page before.",
    "after": "The `next` of the page before.",
    "limit": "Length of the page.",
    "since": "A time as in a query: -15m, 2026-01-31T10:30, 1700000000000000000ns.",
    "until": "Likewise.",
}


class LiveCounts(Struct, frozen=True):
    """What the statistics say beside the store's."""

    live_subscribers: int
    live_dropped: int
    stored_answers_given: int
    """To look-ups at ``/v1/inject``."""
    stored_answers_missing: int


class Problem(Struct, frozen=True):
    """Every error, in one line."""

    error: str


class Operation(Struct, frozen=True):
    """One address: what it takes, and which types an answer is made of (together, where there are several)."""

    path: str
    summary: str
    answer: tuple[type[Struct], ...] = ()
    query: tuple[str, ...] = ()
    media_type: str = "application/json"
    unlimited: bool = False
    """There are no pages: ``limit`` may be any number, and without it all is answered."""


OPERATIONS = (
    Operation("/exchanges", "Exchanges, newest first", (ExchangePage,), (*FILTERS, "before", "limit")),
    Operation("/exchanges/{span_id}", "One exchange in full", (ExchangeSummary, ExchangeView), ("trace",)),
    Operation("/spans/{span_id}", "Any span in full", (SpanView,), ("trace",)),
    Operation(
        "/traces",
        "Traces by start, newest first; with a query those with such an exchange",
        (TracePage,),
        (*FILTERS, "before", "limit"),
    ),
    Operation("/traces/{trace_id}", "The call tree of a trace", (Tree,)),
    Operation(
        "/sessions",
        "Sessions, last seen first; with a query those with such an exchange",
        (SessionPage,),
        (*FILTERS, "before", "limit"),
    ),
    Operation("/sessions/{session_id}", "A session with its exchanges in order of time", (SessionDetail,), ("after",)),
    Operation("/map", "Who called whom in a time", (ServiceMap,), ("since", "until")),
    Operation("/logs", "Log records, newest first", (LogPage,), (*LOG_FILTERS, "before", "limit")),
    Operation("/stats", "Counts and bytes", (StoreStats, LiveCounts)),
    Operation("/daemons", "How the daemons are that the settings name", (DaemonList,)),
    Operation(
        "/live",
        "Server-sent events: `exchange` (an ExchangeSummary), `dropped` (how many were lost)",
        query=FILTERS,
        media_type="text/event-stream",
    ),
    Operation(
        "/export/{format}",
        "All that a query asks for, as a file; `limit` is not limited",
        query=(*FILTERS, "limit"),
        media_type="*/*",
        unlimited=True,
    ),
    Operation("/openapi.json", "This document"),
)


def document(prefix: str) -> dict[str, Any]:
    """The document."""
    types = {each for operation in OPERATIONS for each in operation.answer} | {Problem}
    schemas, components = msgspec.json.schema_components(
        sorted(types, key=lambda each: each.__name__), ref_template="#/components/schemas/{name}"
    )
    references = dict(zip(sorted(each.__name__ for each in types), schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sp_proxy's embedded backend",
            "version": __version__,
            "description": "Times are nanoseconds since 1970, ids lower-case hex.",
        },
        "paths": {prefix + operation.path: {"get": _operation(operation, references)} for operation in OPERATIONS},
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation, references: dict[str, Any]) -> dict[str, Any]:
    in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    problem = {"content": {"application/json": {"schema": references["Problem"]}}}
    schema: dict[str, Any] = {"type": "object"} if operation.media_type == "application/json" else {}
    if operation.answer:
        parts = [references[each.__name__] for each in operation.answer]
        schema = parts[0] if len(parts) == 1 else {"allOf": parts}
    return {
        "summary": operation.summary,
        "parameters": [
            *(_parameter(name, "path") for name in in_path),
            *(_parameter(name, "query", unlimited=operation.unlimited) for name in operation.query),
        ],
        "responses": {
            "200": {"description": "OK", "content": {operation.media_type: {"schema": schema}}},
            "400": {"description": "A parameter is wrong.", **problem},
            "401": {"description": "The token is missing or wrong.", **problem},
            "403": {"description": "A request of another origin.", **problem},
            **({"404": {"description": "There is none.", **problem}} if in_path else {}),
            "503": {"description": "The store could not answer this time.", **problem},
        },
    }


def _parameter(name: str, place: str, *, unlimited: bool = False) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1} if name == "limit" and unlimited else _SCHEMAS[name]
    parameter = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return {**parameter, "description": _MEANINGS[name]} if name in _MEANINGS else parameter
