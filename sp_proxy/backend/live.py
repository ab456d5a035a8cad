"""Live updates: an event stream of new exchanges (server-sent events, as HTML has them)."""

from typing import Any

import msgspec
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sp_proxy.backend.hub import Hub, Subscription
from sp_proxy.backend.query.syntax import Query

HEARTBEAT = 15.0
"""Seconds between comments on an idle event stream, by which both ends notice that the other is gone."""
_encode = msgspec.json.Encoder().encode


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
                nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                chunk: bytes | None = b": listening\n\n"
                while chunk is not None:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    chunk = await _next_chunk(subscription)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                nursery.cancel_scope.cancel()


async def cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel what sends to a client that has gone."""
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
