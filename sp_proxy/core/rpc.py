"""What gRPC adds to a span: ``rpc.*`` attributes, and its own status as an outcome.

A gRPC call is an HTTP POST to ``/package.Service/Method`` which nearly always answers 200; how it ended stands in
``grpc-status``, a trailer, or a header when there was no message (gRPC over HTTP/2, section *Responses*).
"""

from typing import Final

from sp_proxy.core.exchange import Direction
from sp_proxy.core.otlp import int_attribute, key, string_attribute, utf8

CONTENT_TYPE: Final = b"application/grpc"

_SYSTEM: Final = string_attribute(key(b"rpc.system"), b"grpc")
_SERVICE: Final = key(b"rpc.service")
_METHOD: Final = key(b"rpc.method")
_STATUS: Final = key(b"rpc.grpc.status_code")

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


def attributes(target: bytes, grpc_status: bytes) -> bytes:
    """Laid attributes of a call; ``grpc_status`` is empty when none came."""
    service, slash, method = target.partition(b"?")[0].removeprefix(b"/").rpartition(b"/")
    laid = _SYSTEM
    if slash:
        laid += string_attribute(_SERVICE, utf8(service)) + string_attribute(_METHOD, utf8(method))
    code = status_code(grpc_status)
    return laid + int_attribute(_STATUS, code) if code >= 0 else laid


def error(direction: Direction, grpc_status: bytes) -> str:
    """The name of the code if it means failure for this side, else empty."""
    code = status_code(grpc_status)
    if code <= 0 or (direction is Direction.INBOUND and code not in _FAULT_OF_SERVER):
        return ""
    return _CODES[code] if code < len(_CODES) else str(code)
