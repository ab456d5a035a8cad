"""``POST /v1/inject``: a stored answer to a request, from what was captured (``sp_proxy/inject`` has the wire format).

Matched as ``sp-proxy mock`` does, by method, host, path, query and body: exactly first. ``?q=`` narrows what is
answered from. Several answers to one request are given in turn, for as long as this process lives; 404 says that there
is none.
"""

import time
from typing import Any

import msgspec
import trio
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.requests import Request
from starlette.responses import Response

from sp_proxy.backend import otlp, parameters
from sp_proxy.backend.export.formats import full
from sp_proxy.backend.otlp import Code, Encoding
from sp_proxy.backend.query.syntax import Match, Pattern, Query, all_of, exactly
from sp_proxy.backend.store import Store
from sp_proxy.inject import wire
from sp_proxy.inject.wire import Lookup, Stored
from sp_proxy.mock.answer import given
from sp_proxy.mock.book import AnswerBook, Asked, Hit
from sp_proxy.mock.rules import File, MatchRules
from sp_proxy.replay.recorded import Recorded, read

MAX_CANDIDATES = 200
MAX_PAGES = 5
"""Of a search, which takes a tenth of a second a page at most."""
MAX_GIVEN = 100_000
"""Answers that are remembered as given; then all of them are new again."""
_RULES = MatchRules(File())


class Injection:
    """Finds answers. One for a backend: it remembers what was given."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._given: set[str] = set()

    async def answer(self, lookup: Lookup, narrowed: Query | None) -> Stored | None:
        """A stored answer, or None."""
        candidates = await self._candidates(lookup, narrowed, "outbound")
        if not candidates:
            # Nobody captured it where it was sent, but perhaps where it arrived.
            candidates = await self._candidates(lookup, narrowed, "inbound")
        if len(self._given) > MAX_GIVEN:
            self._given.clear()
        book = AnswerBook(candidates, _RULES, match_host=bool(lookup.host), given=self._given)
        found = book.find(Asked(lookup.method, lookup.host, lookup.target, lookup.body))
        if not isinstance(found, Hit):
            return None
        made = given(found.recorded)
        return Stored(made.status, made.fields, made.body)

    async def _candidates(self, lookup: Lookup, narrowed: Query | None, direction: str) -> list[Recorded]:
        path = lookup.target.partition("?")[0]
        terms: list[Query] = [
            Match("direction", exactly(direction)),
            Match("method", exactly(lookup.method)),
            Match("path", Pattern((path, "*", ""))),
        ]
        if lookup.host:
            terms.append(Match("host", exactly(lookup.host)))
        query = all_of(*terms, *([narrowed] if narrowed is not None else []))
        ids: list[tuple[str, str]] = []
        before = ""
        for _ in range(MAX_PAGES):
            page = await self._store.exchanges(query, before=before, limit=MAX_CANDIDATES)
            ids += [(each.trace_id, each.span_id) for each in page.exchanges]
            before = page.next
            if not before or len(ids) >= MAX_CANDIDATES:
                break
        records = await self._store.records(ids[:MAX_CANDIDATES])
        return await trio.to_thread.run_sync(
            lambda: [read(msgspec.to_builtins(full(each))) for each in records if each.exchange is not None]
        )


def query_of(request: Request) -> Query | None:
    """What the look-ups of this address are narrowed to. Raises ParameterError."""
    values: dict[str, str] = parameters.single(request.query_params.multi_items(), ("q",))
    return parameters.query_of(values, time.time_ns()) if values.get("q") else None


def response_of(encoding: Encoding, lookup: Lookup, stored: Stored | None) -> Response:
    """The answer, in the encoding of the question."""
    if stored is None:
        body = otlp.encode_status(encoding, Code.NOT_FOUND, "no stored answer fits this request")
        return Response(body, status_code=404, media_type=encoding.value)
    answer = wire.encode_answer(lookup, stored)
    if encoding is Encoding.PROTOBUF:
        return Response(answer.SerializeToString(), media_type=encoding.value)
    return Response(msgspec.json.encode(_as_json(answer)), media_type=encoding.value)


def _as_json(answer: ExportTraceServiceRequest) -> dict[str, Any]:
    """OTLP's JSON: ids are hexadecimal there, not base64 as in Protocol Buffers' own."""
    value: dict[str, Any] = MessageToDict(answer)
    span, found = (
        answer.resource_spans[0].scope_spans[0].spans[0],
        value["resourceSpans"][0]["scopeSpans"][0]["spans"][0],
    )
    found |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
    return value
