"""The JSON API: reads parameters, asks the store, answers. Times are nanoseconds since 1970, ids lower-case hex.

Every error is ``{"error": "one line"}``. Lists are pages, newest first: ``next`` of one is ``before`` of the following.
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sp_proxy.backend import parameters
from sp_proxy.backend.detail import exchange_view, span_view
from sp_proxy.backend.hub import Hub, Subscription
from sp_proxy.backend.query.syntax import Query
from sp_proxy.backend.store import Store
from sp_proxy.backend.tree import call_tree

MAX_TRACE_SPANS = 5000
MAX_SESSION_EXCHANGES = 1000
MAX_EDGES = 1000
"""Of a map: a graph of more is no picture."""
HEARTBEAT = 15.0
"""Seconds between comments on an idle event stream, by which both ends notice that the other is gone."""
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

    def __init__(self, store: Store, hub: Hub) -> None:
        self._store = store
        self._hub = hub

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
        view = exchange_view(record, record.exchange)
        return json_answer({**msgspec.structs.asdict(record.exchange), **msgspec.structs.asdict(view)})

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
        paging = parameters.paging(_values(request, "before", "limit"))
        return json_answer(await self._store.sessions(before=paging.before, limit=paging.limit))

    async def session(self, request: Request) -> Response:
        """``GET /api/v1/sessions/{session_id}``."""
        _values(request)
        found = await self._store.session(request.path_params["session_id"], limit=MAX_SESSION_EXCHANGES)
        return error_answer(404, "there is no session of this id") if found is None else json_answer(found)

    async def traces(self, request: Request) -> Response:
        """``GET /api/v1/traces``."""
        paging = parameters.paging(_values(request, "before", "limit"))
        return json_answer(await self._store.traces(before=paging.before, limit=paging.limit))

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
        live = {"live_subscribers": self._hub.subscribers, "live_dropped": self._hub.dropped}
        return json_answer({**stats, **live})

    async def live(self, request: Request) -> Response:
        """``GET /api/v1/live``: server-sent events ``exchange`` (a summary) and ``dropped`` (how many were lost since)."""
        query = parameters.query_of(_values(request, *parameters.FILTERS), time.time_ns())
        return EventStream(self._hub, query)


class EventStream(Response):
    """The response of a live connection. Not Starlette's streaming response: that one drives an async generator, which
    a disconnect would leave to the garbage collector, its subscription with it.
    """

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, query: Query) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._hub = hub
        self._query = query

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send until the client leaves or the hub closes."""
        with self._hub.subscribe(self._query) as subscription:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                chunk: bytes | None = b": listening\n\n"
                while chunk is not None:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    chunk = await _next_chunk(subscription)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                nursery.cancel_scope.cancel()


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _next_chunk(subscription: Subscription) -> bytes | None:
    with trio.move_on_after(HEARTBEAT):
        news = await subscription.take()
        if news is None:
            return None
        out = bytearray()
        if news.dropped:
            out += _event(b"dropped", {"count": news.dropped})
        for exchange in news.exchanges:
            out += _event(b"exchange", exchange)
        return bytes(out)
    return b": heartbeat\n\n"


def _event(name: bytes, value: Any) -> bytes:
    # JSON has no bare line breaks, so one data line holds it, whatever was captured.
    return b"event: " + name + b"\ndata: " + _encode(value) + b"\n\n"


def _values(request: Request, *allowed: str) -> dict[str, str]:
    return parameters.single(request.query_params.multi_items(), allowed)
