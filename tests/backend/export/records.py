"""Stored exchanges, as a store gives them back."""

from typing import Any

import trio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.backend.model import SpanRecord
from sp_proxy.backend.sqlite.store import open_store
from tests.backend.requests import batch_of, exchange_span

TEXT = "text/plain; charset=utf-8"


def stored(span: Span) -> SpanRecord:
    """A span, stored and read again."""

    async def through_a_store() -> SpanRecord:
        async with open_store(":memory:") as store:
            await store.append(batch_of(span))
            record = await store.span(span.span_id, span.trace_id)
            assert record is not None
            return record

    return trio.run(through_a_store)


def exchange(headers: dict[str, str] | None = None, *, more: dict[str, Any] | None = None, **values: Any) -> SpanRecord:
    """An exchange with these request fields."""
    fields = {f"http.request.header.{name}": value for name, value in (headers or {}).items()}
    return stored(exchange_span(more={**fields, **(more or {})}, **values))
