"""Made-up traffic of a shop, as sp_proxy sends it: OTLP requests of exchanges in call trees and sessions.

The same seed gives the same traffic, except for ids. Five services; a trace has 1 to 7 exchanges, each hop both halves;
a session has 20 traces; one exchange in 50 fails. Values differ as real ones do, so that nothing compresses to nothing.
"""

import json
import os
import random
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

RARE_WORD = "kingfisher"
"""Stands in one exchange of 100,000."""
RARE_EVERY = 100_000
_SYLLABLES = ("ka", "lo", "mi", "ren", "tus", "va", "dor", "bel", "qui", "zan", "phe", "gor")
_CALLS = {
    "gateway": [("orders", "/api/orders/{id}"), ("catalog", "/catalog/items?page={page}")],
    "orders": [("payment", "/charge/{id}"), ("inventory", "/stock/{id}/reserve")],
    "catalog": [("inventory", "/stock?sku={id}")],
    "payment": [],
    "inventory": [],
}
_AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0 Safari/537.36", "python-httpx/0.28", "Go-http-client/2.0")


class Shop:
    """The source of the traffic."""

    def __init__(self, *, seed: int = 1, start_unix_ns: int, interval_ns: int = 1_000_000) -> None:
        self._random = random.Random(seed)
        self._words = ["".join(self._random.choices(_SYLLABLES, k=3)) for _ in range(4000)]
        self._now = start_unix_ns
        self._interval = interval_ns
        self._session = ""
        self._traces = 0
        self._made = 0

    def requests(self, count: int, batch: int = 512) -> Iterator[bytes]:
        """``count`` exchanges, or a few more, in OTLP requests."""
        made = 0
        waiting: list[Span] = []
        while made < count or waiting:
            while len(waiting) < batch and made < count:
                spans = self._trace()
                waiting += spans
                made += len(spans)
            chunk, waiting = waiting[:batch], waiting[batch:]
            yield _request(chunk)

    def _trace(self) -> list[Span]:
        if self._traces % 20 == 0:
            self._session = f"sp-session-{os.urandom(16).hex()}"
        self._traces += 1
        self._now += self._interval
        spans: list[Span] = []
        path = self._random.choice(("/", "/cart", "/orders/{id}", "/search?q={word}"))
        self._inbound(spans, os.urandom(16), b"", "gateway", path, self._now, 3)
        return spans

    def _inbound(
        self, spans: list[Span], trace: bytes, parent: bytes, service: str, path: str, start: int, depth: int
    ) -> int:
        """One service's half of a hop, and what it calls. Returns how long it took."""
        span = os.urandom(8)
        took = self._random.randrange(500_000, 5_000_000)
        for target, called in self._random.sample(_CALLS[service], k=min(depth, len(_CALLS[service]))):
            if self._random.random() < 0.35:
                continue
            call = os.urandom(8)
            there = self._inbound(spans, trace, call, target, called, start + took, depth - 1)
            self._exchange(spans, trace, call, span, service, "outbound", target, called, start + took, there + 400_000)
            took += there + 400_000
        self._exchange(spans, trace, span, parent, service, "inbound", service, path, start, took)
        return took

    def _exchange(
        self,
        spans: list[Span],
        trace: bytes,
        span: bytes,
        parent: bytes,
        service: str,
        direction: str,
        host: str,
        path: str,
        start: int,
        took: int,
    ) -> None:
        draw = self._random
        self._made += 1
        path = path.format(id=draw.randrange(10**6), page=draw.randrange(40), word=draw.choice(self._words))
        method = draw.choice(("GET", "GET", "GET", "POST", "PUT"))
        status = draw.choice((404, 503, 500)) if draw.random() < 0.02 else 200
        rare = f" {RARE_WORD}" if self._made % RARE_EVERY == 0 else ""
        answer = json.dumps({"items": [self._item() for _ in range(8)], "note": draw.choice(self._words) + rare})
        body = "" if method == "GET" else json.dumps({"order": self._item(), "customer": draw.choice(self._words)})
        values: dict[str, Any] = {
            "sp.span.type": "extract",
            "sp.service.name": service,
            "sp.traffic.direction": direction,
            "sp.session.id": self._session,
            "http.request.header.:method": method,
            "http.request.header.:scheme": "http",
            "http.request.header.:path": path,
            "http.request.header.:authority": f"{host}:8080",
            "http.request.header.user-agent": draw.choice(_AGENTS),
            "http.request.header.accept": "application/json, text/plain, */*",
            "http.request.header.accept-encoding": "gzip, deflate, br",
            "http.request.header.x-request-id": os.urandom(16).hex(),
            "http.request.header.x-forwarded-for": f"10.42.0.{draw.randrange(256)}",
            "http.request.header.x-sp-service-name": service,
            "http.request.header.traceparent": f"00-{trace.hex()}-{span.hex()}-01",
            "http.request.header.tracestate": f"x-sp-traceparent=00-{trace.hex()}-{span.hex()}-01,"
            f"x-sp-session-id={self._session}",
            "http.response.header.:status": str(status),
            "http.response.header.content-type": "application/json",
            "http.response.header.content-length": str(len(answer)),
            "http.response.header.date": "Tue, 14 Nov 2023 22:13:20 GMT",
            "http.response.header.server": "nginx",
            "http.request.method": method,
            "http.response.status_code": status,
            "url.path": path,
            "url.host": f"{host}:8080",
            "url.scheme": "http",
            "url.full": f"http://{host}:8080{path}",
            "server.address": host,
            "server.port": 8080,
            "client.address": f"10.42.0.{draw.randrange(256)}",
            "client.port": draw.randrange(1024, 65536),
            "network.protocol.version": "1.1",
            "http.request.body.size": len(body),
            "http.response.body.size": len(answer),
            "sp.ttfb_ms": took / 2e6,
            "http.response.body": answer,
        }
        if body:
            values |= {"http.request.header.content-type": "application/json", "http.request.body": body}
        made = Span(
            trace_id=trace,
            span_id=span,
            parent_span_id=parent,
            name=path,
            kind=Span.SPAN_KIND_SERVER if direction == "inbound" else Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=start,
            end_time_unix_nano=start + took,
            attributes=[_attribute(name, value) for name, value in values.items()],
        )
        if status >= 500:
            made.status.code = Status.STATUS_CODE_ERROR
        spans.append(made)

    def _item(self) -> dict[str, Any]:
        draw = self._random
        return {"id": draw.randrange(10**6), "name": " ".join(draw.choices(self._words, k=3)), "price": draw.random()}


def _attribute(name: str, value: object) -> KeyValue:
    if isinstance(value, int):
        return KeyValue(key=name, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=name, value=AnyValue(double_value=value))
    return KeyValue(key=name, value=AnyValue(string_value=str(value)))


def _request(spans: list[Span]) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.append(_attribute("service.name", "sp-proxy"))
    resource_spans.resource.attributes.append(_attribute("sp.tag.cluster", "bench"))
    scope = resource_spans.scope_spans.add()
    scope.scope.name = "sp_proxy"
    scope.spans.extend(spans)
    return request.SerializeToString()
