"""The formats by name: what stands before, between and behind the exchanges of an export (pure)."""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from sp_proxy.backend.detail import exchange_view
from sp_proxy.backend.export.commands import curl, httpie
from sp_proxy.backend.export.har import CREATOR, entry
from sp_proxy.backend.export.otlp_json import resource_spans
from sp_proxy.backend.model import SpanRecord

_encode = msgspec.json.Encoder().encode


class Format(Struct, frozen=True):
    """One format."""

    media_type: str
    suffix: str
    """Of a file's name."""
    one: Callable[[SpanRecord], bytes]
    """A span; all are exchanges unless ``any_span`` says otherwise."""
    head: bytes = b""
    between: bytes = b""
    tail: bytes = b""
    any_span: bool = False
    """Spans that are no exchanges can be told too: of a whole trace they are."""


def line(record: SpanRecord) -> bytes:
    """An exchange in full, as the API answers it, on one line."""
    return _encode(full(record)) + b"\n"


def full(record: SpanRecord) -> dict[str, object]:
    """An exchange in full."""
    assert record.exchange is not None
    view = exchange_view(record, record.exchange)
    return {**msgspec.structs.asdict(record.exchange), **msgspec.structs.asdict(view)}


def _har(record: SpanRecord) -> bytes:
    assert record.exchange is not None
    return _encode(entry(record.exchange, exchange_view(record, record.exchange)))


def _curl(record: SpanRecord) -> bytes:
    assert record.exchange is not None
    return curl(record.exchange, exchange_view(record, record.exchange)).encode(errors="replace")


def _httpie(record: SpanRecord) -> bytes:
    assert record.exchange is not None
    return httpie(record.exchange, exchange_view(record, record.exchange)).encode(errors="replace")


FORMATS = {
    "har": Format(
        "application/json",
        "har",
        _har,
        head=b'{"log":{"version":"1.2","creator":' + _encode(CREATOR) + b',"entries":[',
        between=b",\n",
        tail=b"]}}\n",
    ),
    "curl": Format("text/plain; charset=utf-8", "sh", _curl, between=b"\n"),
    "httpie": Format("text/plain; charset=utf-8", "sh", _httpie, between=b"\n"),
    "otlp": Format(
        "application/json",
        "otlp.json",
        lambda record: _encode(resource_spans(record)),
        head=b'{"resourceSpans":[',
        between=b",\n",
        tail=b"]}\n",
        any_span=True,
    ),
    "jsonl": Format("application/jsonl", "jsonl", line),
}
