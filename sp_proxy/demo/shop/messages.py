"""Requests and answers as the services see them: JSON, headers by lower-case name, gzip where the peer takes it."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROPAGATED = ("traceparent", "tracestate", "x-sp-session-id")
"""What an instrumented application hands on from the request it works on to the requests it makes. Nothing else."""
_COMPRESSED_FROM = 256
"""Bytes; shorter bodies do not gain by gzip."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a service."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""

    @property
    def propagated(self) -> dict[str, str]:
        """The headers to hand on."""
        return {name: self.headers[name] for name in PROPAGATED if name in self.headers}

    def json(self) -> dict[str, Any] | None:
        """The body, if it is a JSON object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: a JSON value and a status."""

    status: int
    value: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, title: str, **details: object) -> Answer:
    """An error answer in the form of RFC 9457."""
    return Answer(status, {"title": title, "status": status, **details}, {"content-type": "application/problem+json"})


def encode(answer: Answer, accept_encoding: str) -> tuple[dict[str, str], bytes]:
    """Header fields and body on the wire."""
    body = json.dumps(answer.value, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", **answer.headers}
    if len(body) >= _COMPRESSED_FROM and "gzip" in accept_encoding:
        body = gzip.compress(body, mtime=0)
        headers |= {"content-encoding": "gzip", "vary": "accept-encoding"}
    return headers | {"content-length": str(len(body))}, body


def decode(body: bytes, content_encoding: str) -> Any:
    """The JSON value of a body; None when it is none."""
    try:
        return json.loads(gzip.decompress(body) if content_encoding == "gzip" else body)
    except (ValueError, OSError, EOFError):
        return None
