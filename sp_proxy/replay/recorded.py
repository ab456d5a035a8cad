"""A captured exchange as replay and mock need it (pure): read from what the backend's API answers in full.

The rule kept here: bytes of which it is not certain that they are all of a body are never taken for one.
"""

import base64
import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from sp_proxy.core.body import media_type

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
"""A method, or the name of a header field."""
VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""Of a header field."""
_UNDONE = frozenset({"", "identity", "gzip", "x-gzip", "deflate", "br", "zstd"})


class Recorded(Struct, frozen=True, kw_only=True):
    """One exchange. Field names are in lower case; a field that came twice is one, joined with ``, ``."""

    trace_id: str
    span_id: str
    session_id: str
    start_unix_ns: int
    duration_ns: int
    ttfb_ns: int
    service: str
    direction: str
    method: str
    scheme: str
    host: str
    target: str
    """With its query."""
    request_fields: tuple[tuple[str, str], ...]
    request_body: bytes
    request_flaw: str
    """Why the request cannot be told in full; empty when it can."""
    status: int
    response_fields: tuple[tuple[str, str], ...]
    response_body: bytes
    response_flaw: str
    """Likewise of the response's body."""
    response_missing: str
    """Why there is no answer to compare with, or to give again; empty when there is one."""

    @property
    def group(self) -> str:
        """Exchanges of one group are sent in their order: those of a session, else of a trace."""
        return f"session {self.session_id}" if self.session_id else f"trace {self.trace_id}"

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method} {self.target}"


def read(exchange: dict[str, Any]) -> Recorded:
    """Of one exchange in full (``GET /api/v1/exchanges/{span_id}``, or a line of the export ``jsonl``)."""
    request, response = exchange["request"], exchange["response"]
    request_fields, response_fields = _fields(request), _fields(response)
    truncated = bool(exchange["truncated"])
    request_body, request_flaw = _body(request, dict(request_fields), truncated=truncated)
    response_body, response_flaw = _body(response, dict(response_fields), truncated=truncated)
    if exchange["method"] == "HEAD" or exchange["status"] in {204, 304}:
        response_body, response_flaw = b"", ""  # their content-length tells of another answer's body
    ttfb = exchange.get("ttfb_ms")
    attributes = exchange.get("attributes", {})
    return Recorded(
        trace_id=exchange["trace_id"],
        span_id=exchange["span_id"],
        session_id=exchange["session_id"],
        start_unix_ns=exchange["start_unix_ns"],
        duration_ns=max(0, exchange["duration_ns"]),
        ttfb_ns=int(ttfb * 1e6) if isinstance(ttfb, int | float) and 0 <= ttfb < 1e9 else 0,
        service=exchange["service"],
        direction=exchange["direction"],
        method=exchange["method"],
        scheme=exchange["scheme"] or "http",
        # The summary's are cut when they are long; the attributes have all of them.
        host=_text(attributes, "url.host", exchange["host"]),
        target=_text(attributes, "url.path", exchange["path"]),
        request_fields=request_fields,
        request_body=request_body,
        request_flaw="it was still going on when it was recorded" if exchange["partial"] else request_flaw,
        status=exchange["status"],
        response_fields=response_fields,
        response_body=response_body,
        response_flaw=response_flaw,
        response_missing=_missing(exchange),
    )


def _missing(exchange: dict[str, Any]) -> str:
    if exchange["partial"]:
        return "it was still going on when it was recorded"
    if not exchange["status"]:
        return f"no answer was recorded ({exchange['error']})" if exchange["error"] else "no answer was recorded"
    if exchange["status"] < 200:
        return "the connection went on with another protocol"
    # error.type is the status itself where only that is wrong.
    if exchange["error"] and exchange["error"] != str(exchange["status"]) and not exchange["error"].startswith("grpc"):
        return f"the recorded answer did not end as it should ({exchange['error']})"
    return ""


def _text(attributes: dict[str, Any], name: str, instead: str) -> str:
    value = attributes.get(name)
    return value if isinstance(value, str) and value else instead


def _fields(message: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in message["headers"])


def _body(message: dict[str, Any], fields: dict[str, str], *, truncated: bool) -> tuple[bytes, str]:
    """The content as it was captured, and what is wrong with it."""
    view, size = message["body"], message["size"]
    if view is None:
        return b"", "" if not size else f"its body of {size} bytes was not captured"
    data: bytes
    if view["encoding"] == "base64":
        try:
            data = base64.b64decode(view["data"], validate=True)
        except ValueError:
            return b"", "its body was captured in a form that cannot be read"
    else:
        # It was turned into UTF-8 when it was captured.
        charset = media_type(fields.get("content-type", "").encode()).charset or "utf-8"
        try:
            data = view["data"].encode(charset)
        except UnicodeEncodeError:
            data = view["data"].encode(errors="replace")
    # Of a body in a content coding the size says nothing, since its content is what was captured.
    if truncated and ("content-encoding" in fields or len(data) < size):
        return data, f"its body was captured in part ({len(data)} of {size} bytes)"
    return data, ""


def still_coded(fields: tuple[tuple[str, str], ...]) -> bool:
    """Whether the captured bytes still have their content coding: it was undone wherever it was known
    (``exporter/body.py``), and a field that names one which was undone must not be sent with the content.
    """
    named = dict(fields).get("content-encoding", "").lower()
    return any(each.strip() not in _UNDONE for each in named.split(","))


def can_be_sent(name: str, value: str) -> bool:
    """Whether it is one header field, whoever stored it: nothing in it ends a line."""
    return bool(TOKEN.fullmatch(name) and VALUE.fullmatch(value))


def joined(raw: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Fields as they are captured: names in lower case, one of each, values in UTF-8 or Latin-1."""
    fields: dict[str, list[str]] = {}
    for name, value in raw:
        fields.setdefault(name.decode("latin-1").lower(), []).append(_decoded(value))
    return tuple((name, ", ".join(values)) for name, values in fields.items())


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
