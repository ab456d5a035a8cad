"""One captured exchange as the backend exports it (``jsonl``), read back into what decisions are made of (pure)."""

import base64
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from sp_proxy.core.body import media_type
from sp_proxy.core.exchange import Direction

_TRAILERS = ("http.request.trailer.", "http.response.trailer.")


class Body(Struct, frozen=True):
    """A body as it was sent to the backend, and what it was made of."""

    content: bytes
    content_type: bytes
    sent: bytes
    """Text, or base64."""


class Captured(Struct, frozen=True):
    """An exchange as far as it is known: what redaction took out of it is not."""

    direction: Direction | None
    """None: the sender did not tell."""
    method: bytes
    target: bytes
    authority: bytes
    request_headers: tuple[tuple[str, str], ...]
    response_headers: tuple[tuple[str, str], ...]
    trailers: tuple[tuple[str, str], ...]
    request_body: Body | None
    response_body: Body | None
    complete: bool
    """No body is longer than what was captured of it."""
    trace_id: bytes
    """32 hex digits."""
    failed: bool
    start_unix_ns: int
    duration_ns: int
    service: str
    answered: bool

    @property
    def line(self) -> str:
        """For a person."""
        words = (self.method, self.authority + self.target)
        return " ".join(word.decode("utf-8", "replace") for word in words)

    @property
    def size(self) -> int:
        """Captured bytes, about."""
        heads = sum(len(name) + len(value) + 4 for name, value in (*self.request_headers, *self.response_headers))
        return heads + sum(len(body.content) for body in (self.request_body, self.response_body) if body)


def read(line: dict[str, Any]) -> Captured:
    """One line of the export. Raises KeyError, TypeError or ValueError for what is none."""
    attributes: dict[str, Any] = line["attributes"]
    complete = not line["truncated"]
    # The summary's texts are cut, and made for lists; the attributes are what was sent.
    target = str(attributes.get("http.request.header.:path", line["path"]))
    return Captured(
        direction=Direction(line["direction"]) if line["direction"] in set(Direction) else None,
        method=str(line["method"]).encode(),
        target=target.encode("utf-8", "surrogateescape"),
        authority=str(attributes.get("url.host", line["host"])).encode("utf-8", "surrogateescape"),
        request_headers=_headers(line["request"]),
        response_headers=_headers(line["response"]),
        trailers=tuple(
            (name.removeprefix(prefix), str(value))
            for prefix in _TRAILERS
            for name, value in attributes.items()
            if name.startswith(prefix)
        ),
        request_body=_body(line["request"]["body"]),
        response_body=_body(line["response"]["body"]),
        complete=complete,
        trace_id=str(line["trace_id"]).encode(),
        failed=bool(line["failed"]),
        start_unix_ns=int(line["start_unix_ns"]),
        duration_ns=int(line["duration_ns"]),
        service=str(line["service"]),
        answered=bool(line["status"]),
    )


def lower_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Fields as the rules look at them: a lower-cased block with a leading CRLF."""
    return (
        ("\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)).lower().encode("utf-8", "surrogateescape")
    )


def _headers(message: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in message["headers"])


def _body(view: dict[str, Any] | None) -> Body | None:
    if view is None:
        return None
    data, content_type = str(view["data"]), str(view["content_type"]).encode()
    sent = data.encode("utf-8", "surrogateescape")
    if view["encoding"] == "text":
        return Body(sent, content_type, sent)
    try:
        return Body(base64.b64decode(data, validate=True), content_type, sent)
    except ValueError:
        # Said to be no text by its type, and yet sent as text.
        return Body(sent, content_type if media_type(content_type).is_text else b"text/plain", sent)
