"""Exports as they are sent: exchange after exchange, never more than a page of them in memory."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Self

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sp_proxy.backend.export.formats import Format
from sp_proxy.backend.live import cancel_on_disconnect
from sp_proxy.backend.model import ExchangePage, SpanRecord
from sp_proxy.backend.query.syntax import Query, Trace
from sp_proxy.backend.store import Store

PAGE = 100
MAX_TRACE_SPANS = 20_000


class Download(Response):
    """The response. Use ``begun``."""

    def __init__(self, store: Store, query: Query, form: Format, limit: int, first: ExchangePage) -> None:
        name = f"exchanges.{form.suffix}"
        headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
        super().__init__(headers=headers, media_type=form.media_type)
        del self.headers["content-length"]
        self._store = store
        self._query = query
        self._form = form
        self._limit = limit
        self._first = first

    @classmethod
    async def begun(cls, store: Store, query: Query, form: Format, limit: int) -> Self:
        """A response whose first page is there: what goes wrong until then has an answer of its own. Raises StoreError."""
        first = await store.exchanges(query, before="", limit=min(limit, PAGE))
        return cls(store, query, form, limit, first)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send all of it, or until the client leaves. A failure on the way ends the connection: a cut file is no file."""

        async def write(data: bytes) -> None:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(self._form.head)
            begun = False
            async with aclosing(self._records()) as pages:
                async for records in pages:
                    if records:
                        await write((self._form.between if begun else b"") + self._encoded(records))
                        begun = True
            await write(self._form.tail)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            nursery.cancel_scope.cancel()

    def _encoded(self, records: Sequence[SpanRecord]) -> bytes:
        return self._form.between.join(self._form.one(record) for record in records)

    async def _records(self) -> AsyncGenerator[list[SpanRecord]]:
        if self._form.any_span and isinstance(self._query, Trace):
            spans = await self._store.trace(self._query.trace_id, limit=min(self._limit, MAX_TRACE_SPANS))
            ids = [(span.trace_id, span.span_id) for span in spans]
            for start in range(0, len(ids), PAGE):
                yield await self._store.records(ids[start : start + PAGE])
            return
        page, left = self._first, self._limit
        while True:
            ids = [(exchange.trace_id, exchange.span_id) for exchange in page.exchanges]
            # What has been replaced by a plain span meanwhile, or has expired, is left out.
            yield [record for record in await self._store.records(ids) if record.exchange is not None]
            left -= len(ids)
            if not page.next or left <= 0:
                return
            page = await self._store.exchanges(self._query, before=page.next, limit=min(left, PAGE))
