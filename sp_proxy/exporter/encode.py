"""Encoding: a batch becomes finished OTLP requests, one ``ResourceSpans`` a service name, compressed.

Runs in a thread, one batch at a time, which lets everybody else have the core in between: a batch takes 10 to 20 ms,
and what a time slice (3 ms) of it keeps from running may be the traffic. A record of which no span can be made is lost
alone, and a request never exceeds ``MAX_REQUEST_BYTES`` before compression.

Compressed by ISA-L: on spans of JSON exchanges (4.2 KB each, ``benchmarks/exporter.py``) its level 2 takes 4 µs a record
for a factor of 8.4, where zlib's level 1 takes 14 µs for 7.1 and its level 6 takes 32 µs for 9.1. Both give up the
interpreter lock for it.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from isal import isal_zlib
from msgspec import Struct

from sp_proxy import __version__
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.otlp import encode_request, encode_resource, encode_scope
from sp_proxy.core.redaction import RedactionError
from sp_proxy.exporter.stats import DropReason

MAX_REQUEST_BYTES = 64 << 20
"""Contract section 5."""
GZIP_LEVEL = 2
_GZIP_WINDOW_BITS = 31
_RECORDS_IN_A_ROW = 4
_BYTES_IN_A_ROW = 131072
"""After so many encoded records, or compressed bytes, 100 to 200 µs are over."""
_SPAN_OVERHEAD_BYTES = 6
"""Tag and length of a span: one byte and at most five."""
_REQUEST_OVERHEAD_BYTES = 64
"""Tags and lengths around the spans of one service."""

EncodeSpan = Callable[[Exchange], bytes]
"""The body of a ``Span`` message."""


class Payload(Struct, frozen=True, gc=False):
    """One finished request body: the unit that is queued, spooled and sent. Nothing else is needed to deliver it, so
    it can wait anywhere, on disk too.
    """

    body: bytes
    records: int
    encoding: Literal["gzip", ""]
    """``content-encoding`` of the body; empty for none."""
    raw_size: int
    """Bytes before compression."""


class Form(Struct, frozen=True):
    """What differs between the requests of two destinations."""

    resource: Mapping[str, str]
    """Attributes beside ``service.name``."""
    compression: Literal["gzip", "none"] = "gzip"


class Encoded(Struct, frozen=True):
    """What became of a batch: every record is in one payload of each form, or in ``lost``."""

    forms: list[list[Payload]]
    lost: Mapping[DropReason, int]

    @property
    def payloads(self) -> list[Payload]:
        """Those of the first form."""
        return self.forms[0]


def compressed(body: bytes) -> bytes:
    """As ``content-encoding: gzip`` has it."""
    stream = isal_zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_WINDOW_BITS)
    pieces = []
    with memoryview(body) as view:
        for start in range(0, len(body), _BYTES_IN_A_ROW):
            pieces.append(stream.compress(view[start : start + _BYTES_IN_A_ROW]))
            os.sched_yield()
    pieces.append(stream.flush())
    return b"".join(pieces)


class _Part(Struct, frozen=True):
    """Spans of one service that fit into one request together."""

    service_name: str
    spans: list[bytes]
    size: int
    """At most so many bytes in a request."""


class Encoder:
    """Makes payloads. Stateless but for what ``encode_span`` remembers."""

    def __init__(
        self, encode_span: EncodeSpan, forms: Sequence[Form], *, max_request_bytes: int = MAX_REQUEST_BYTES
    ) -> None:
        """A span is encoded once, whatever the number of forms. There is at least one form."""
        self._encode_span = encode_span
        self._forms = [(encode_resource(form.resource), form.compression) for form in forms]
        self._scope = encode_scope("sp-proxy", __version__)
        self._limit = max_request_bytes

    def encode(self, exchanges: Iterable[Exchange]) -> Encoded:
        """The payloads of a batch, in order within a service."""
        lost: Counter[DropReason] = Counter()
        services: dict[bytes, list[bytes]] = {}
        encode_span = self._encode_span
        for number, exchange in enumerate(exchanges):
            if not number % _RECORDS_IN_A_ROW:
                os.sched_yield()
            try:
                span = encode_span(exchange)
            except RedactionError:
                lost["redaction_failed"] += 1
            except Exception:  # noqa: BLE001 (whatever it is, it costs this record and no other)
                lost["encode_failed"] += 1
            else:
                spans = services.get(exchange.service_name)
                if spans is None:
                    spans = services[exchange.service_name] = []
                spans.append(span)
        parts = [part for name, spans in services.items() for part in self._split(name, spans, lost)]
        together = list(self._join(parts))
        return Encoded([[self._payload(some, *form) for some in together] for form in self._forms], lost)

    def _split(self, service_name: bytes, spans: list[bytes], lost: Counter[DropReason]) -> Iterator[_Part]:
        name = service_name.decode("utf-8", "replace")
        empty = max(len(resource) for resource, _ in self._forms)
        empty += len(name.encode()) + len(self._scope) + _REQUEST_OVERHEAD_BYTES
        part: list[bytes] = []
        size = empty
        for span in spans:
            needed = len(span) + _SPAN_OVERHEAD_BYTES
            if empty + needed > self._limit:
                lost["too_large"] += 1
                continue
            if size + needed > self._limit:
                yield _Part(name, part, size)
                part, size = [], empty
            part.append(span)
            size += needed
        if part:
            yield _Part(name, part, size)

    def _join(self, parts: list[_Part]) -> Iterator[list[_Part]]:
        together: list[_Part] = []
        size = 0
        for part in parts:
            if together and size + part.size > self._limit:
                yield together
                together, size = [], 0
            together.append(part)
            size += part.size
        if together:
            yield together

    def _payload(self, parts: list[_Part], resource: bytes, compression: Literal["gzip", "none"]) -> Payload:
        # Messages laid one after another are one message with all their repeated fields.
        body = b"".join(
            encode_request(encode_resource({"service.name": part.service_name}) + resource, self._scope, part.spans)
            for part in parts
        )
        records = sum(len(part.spans) for part in parts)
        if compression == "none":
            return Payload(body, records, "", len(body))
        return Payload(compressed(body), records, "gzip", len(body))
