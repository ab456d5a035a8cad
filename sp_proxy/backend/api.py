"""The JSON API: reads parameters, asks the store, answers. Times are nanoseconds since 1970, ids lower-case hex.

Every error is ``{"error": "one line"}``. Lists are pages, newest first: ``next`` of one is ``before`` of the following.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sp_proxy.backend import parameters
from sp_proxy.backend.daemons import Daemons
from sp_proxy.backend.detail import span_view
from sp_proxy.backend.download import Download
from sp_proxy.backend.export.formats import FORMATS, full
from sp_proxy.backend.health import DaemonList
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.live import EventStream
from sp_proxy.backend.store import BadCursorError, Store
from sp_proxy.backend.tree import call_tree

MAX_TRACE_SPANS = 5000
MAX_SESSION_EXCHANGES = 1000
MAX_EDGES = 1000
"""Of a map: a graph of more is no picture."""
_encode = msgspec.json.Encoder().encode


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response. Never cached: the next one may differ."""
    return Response(
        _encode(value),
        status_code=status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error response."""
    return json_answer({"error": message}, status, headers)


class Api:
    """The handlers, with what they need."""

    def __init__(self, store: Store, hub: Hub, daemons: Daemons) -> None:
        self._store = store
        self._hub = hub
        self._daemons = daemons

    async def exchanges(self, request: Request) -> Response:
        """``GET /api/v1/exchanges``."""
        values = _values(request, *parameters.FILTERS, "before", "limit")
        paging = parameters.paging(values)
        query = parameters.query_of(values, time.time_ns())
        return json_answer(await self._store.exchanges(query, before=paging.before, limit=paging.limit))

    async def exchange(self, request: Request) -> Response:
        """``GET /api/v1/exchanges/{span_id}``; ``trace`` tells apart spans of one id in several traces."""
        trace = _values(request, "trace").get("trace", "")
        span_id = parameters.hex_id("span_id", request.path_params["span_id"], 8)
        record = await self._store.span(span_id, parameters.hex_id("trace", trace, 16) if trace else None)
        if record is None or record.exchange is None:
            return error_answer(404, "there is no exchange of this span id")
        return json_answer(full(record))

    async def span(self, request: Request) -> Response:
        """``GET /api/v1/spans/{span_id}``: any span, in full."""
        trace = _values(request, "trace").get("trace", "")
        span_id = parameters.hex_id("span_id", request.path_params["span_id"], 8)
        record = await self._store.span(span_id, parameters.hex_id("trace", trace, 16) if trace else None)
        if record is None:
            return error_answer(404, "there is no span of this id")
        return json_answer(span_view(record))

    async def trace(self, request: Request) -> Response:
        """``GET /api/v1/traces/{trace_id}``."""
        _values(request)
        trace_id = parameters.hex_id("trace_id", request.path_params["trace_id"], 16)
        spans = await self._store.trace(trace_id, limit=MAX_TRACE_SPANS + 1)
        if not spans:
            return error_answer(404, "there is no trace of this id")
        return json_answer(call_tree(spans[:MAX_TRACE_SPANS], truncated=len(spans) > MAX_TRACE_SPANS))

    async def sessions(self, request: Request) -> Response:
        """``GET /api/v1/sessions``."""
        values = _values(request, *parameters.FILTERS, "before", "limit")
        paging = parameters.paging(values)
        query = parameters.query_of(values, time.time_ns())
        return json_answer(await self._store.sessions(query, before=paging.before, limit=paging.limit))

    async def session(self, request: Request) -> Response:
        """``GET /api/v1/sessions/{session_id}``."""
        after = _values(request, "after").get("after", "")
        name = request.path_params["session_id"]
        try:
            found = await self._store.session(name, after=after, limit=MAX_SESSION_EXCHANGES)
        except BadCursorError as error:
            raise parameters.ParameterError(
                "after: not a cursor; allowed: the value of `next` of the page before"
            ) from error
        return error_answer(404, "there is no session of this id") if found is None else json_answer(found)

    async def traces(self, request: Request) -> Response:
        """``GET /api/v1/traces``."""
        values = _values(request, *parameters.FILTERS, "before", "limit")
        paging = parameters.paging(values)
        query = parameters.query_of(values, time.time_ns())
        return json_answer(await self._store.traces(query, before=paging.before, limit=paging.limit))

    async def service_map(self, request: Request) -> Response:
        """``GET /api/v1/map``: who called whom."""
        now = time.time_ns()
        since, until = parameters.time_range(_values(request, "since", "until"), now)
        return json_answer(await self._store.service_map(since_unix_ns=since, until_unix_ns=until, limit=MAX_EDGES))

    async def logs(self, request: Request) -> Response:
        """``GET /api/v1/logs``: log records, those of a trace for example."""
        values = _values(request, *parameters.LOG_FILTERS, "before", "limit")
        paging = parameters.paging(values)
        wanted = parameters.log_filter(values)
        return json_answer(await self._store.logs(wanted, before=paging.before, limit=paging.limit))

    async def stats(self, request: Request) -> Response:
        """``GET /api/v1/stats``."""
        _values(request)
        stats = msgspec.to_builtins(await self._store.stats())
        hub = self._hub
        live = {
            "live_subscribers": hub.subscribers,
            "live_dropped": hub.dropped,
            "stored_answers_given": hub.answers_given,
            "stored_answers_missing": hub.answers_missing,
        }
        return json_answer({**stats, **live})

    async def daemons(self, request: Request) -> Response:
        """``GET /api/v1/daemons``: how the daemons are that the settings name."""
        _values(request)
        return json_answer(DaemonList(daemons=await self._daemons.health()))

    async def export(self, request: Request) -> Response:
        """``GET /api/v1/export/{format}``: all that a query asks for, newest first, as a file."""
        name = request.path_params["format"]
        if name not in FORMATS:
            return error_answer(404, f"there is no such format; formats: {', '.join(FORMATS)}")
        values = _values(request, *parameters.FILTERS, "limit")
        query = parameters.query_of(values, time.time_ns())
        limit = parameters.export_limit(values)
        return await Download.begun(self._store, query, FORMATS[name], limit)

    async def live(self, request: Request) -> Response:
        """``GET /api/v1/live``: server-sent events ``exchange`` (a summary) and ``dropped`` (how many were lost since)."""
        query = parameters.query_of(_values(request, *parameters.FILTERS), time.time_ns())
        return EventStream(self._hub, query)


def _values(request: Request, *allowed: str) -> dict[str, str]:
    return parameters.single(request.query_params.multi_items(), allowed)
