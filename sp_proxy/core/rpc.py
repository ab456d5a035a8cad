"""What gRPC adds to a span: ``rpc.*`` attributes, and its own status as an outcome.

A gRPC call is an HTTP POST to ``/package.Service/Method`` which nearly always answers 200; how it ended stands in
``grpc-status``, a trailer, or a header when there was no message (gRPC over HTTP/2, section *Responses*).
"""

from collections.abc import Mapping
from typing import Final

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.grpc_messages import count
from sp_proxy.core.otlp import int_attribute, key, string_attribute, utf8

CONTENT_TYPE: Final = b"application/grpc"

_SYSTEM: Final = string_attribute(key(b"rpc.system"), b"grpc")
_SERVICE: Final = key(b"rpc.service")
_METHOD: Final = key(b"rpc.method")
_STATUS: Final = key(b"rpc.grpc.status_code")
_REQUESTS: Final = key(b"rpc.requests_per_rpc")
_RESPONSES: Final = key(b"rpc.responses_per_rpc")
"""No attribute of the conventions counts messages; these are their metrics' names without the side."""
_TEXT: Final = b"application/grpc-web-text"

_CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
_FAULT_OF_SERVER: Final = frozenset({2, 4, 12, 13, 14, 15})
"""Codes that fail a SERVER span (semantic conventions for gRPC); a CLIENT span fails with any but OK."""


def is_grpc(content_type: bytes) -> bool:
    """Whether a request's content type is gRPC's."""
    return content_type[: len(CONTENT_TYPE)].lower() == CONTENT_TYPE


def status_code(value: bytes) -> int:
    """The number in ``grpc-status``; -1 when there is none."""
    return int(value) if value.isdigit() and len(value) <= 9 else -1


def messages(
    x: Exchange,
    request: Mapping[bytes, tuple[bytes, bytes, bytes]],
    response: Mapping[bytes, tuple[bytes, bytes, bytes]],
) -> tuple[int, int]:
    """Messages of the request and of the response, by its fields; -1 where nobody has counted them.

    The HTTP/2 tap counts as they pass. Over HTTP/1 (gRPC-Web) they are counted in bodies that are there in full.
    """
    if x.grpc is not None:
        return x.grpc.request, x.grpc.response
    sides = ((request, x.request_body, x.request_body_size), (response, x.response_body, x.response_body_size))
    first, second = (
        -1 if len(body) < size or b"content-encoding" in fields or _is_text(fields) else count(bytes(body))
        for fields, body, size in sides
    )
    return first, second


def _is_text(fields: Mapping[bytes, tuple[bytes, bytes, bytes]]) -> bool:
    """gRPC-Web's base64."""
    return b"content-type" in fields and fields[b"content-type"][2].lower().startswith(_TEXT)


def attributes(target: bytes, grpc_status: bytes, counts: tuple[int, int] = (-1, -1)) -> bytes:
    """Laid attributes of a call; ``grpc_status`` is empty when none came, ``counts`` as of ``messages``."""
    service, slash, method = target.partition(b"?")[0].removeprefix(b"/").rpartition(b"/")
    laid = _SYSTEM
    if slash:
        laid += string_attribute(_SERVICE, utf8(service)) + string_attribute(_METHOD, utf8(method))
    code = status_code(grpc_status)
    for laid_key, number in ((_STATUS, code), (_REQUESTS, counts[0]), (_RESPONSES, counts[1])):
        if number >= 0:
            laid += int_attribute(laid_key, number)
    return laid


def error(direction: Direction, grpc_status: bytes) -> str:
    """The name of the code if it means failure for this side, else empty."""
    code = status_code(grpc_status)
    if code <= 0 or (direction is Direction.INBOUND and code not in _FAULT_OF_SERVER):
        return ""
    return _CODES[code] if code < len(_CODES) else str(code)
