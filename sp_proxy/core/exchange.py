r"""The record of one exchange: the value that crosses the channel from a worker to the exporter.

A worker puts raw bytes in and parses as little as it can; the exporter, off the traffic's path, makes a span of
them (``core/spans.py``). Field blocks of every protocol version have one shape, ``b"Name: value\r\n"`` lines.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from msgspec import Struct


class Direction(StrEnum):
    """Seen from the local workload (Istio's words). Inbound exchanges become SERVER spans, outbound CLIENT spans."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


ErrorType = Literal[
    "",  # the exchange ended as its protocol says
    "client_aborted",  # the downstream connection ended before the response did
    "upstream_aborted",  # the upstream connection ended before the response did (no response, or a truncated one)
    "upstream_unreachable",  # no upstream connection could be made
    "protocol_error",  # the connection went raw in the middle of this exchange
]


if TYPE_CHECKING:
    Body = bytes | bytearray
else:
    Body = bytes
"""A tap may put a ``bytearray`` in, uncopied; msgpack encodes it as it is, and what is decoded is always ``bytes``.
msgspec refuses a union of the two at run time.
"""


class WebSocketMessage(Struct, frozen=True, array_like=True, gc=False):
    """One message of a WebSocket connection (RFC 6455)."""

    from_client: bool
    end_unix_ns: int
    """When its last byte was seen."""
    binary: bool
    size: int
    """Payload bytes on the wire: of a compressed message, its compressed size."""
    content: bytes = b""
    """Decompressed, cut at a limit; empty where it could not be kept."""
    complete: bool = True
    """``content`` is all of it. Sizes do not tell: of a compressed message, ``size`` is another one's."""


class WebSocketSummary(Struct, frozen=True, array_like=True):
    """What passed through a WebSocket connection after its handshake."""

    client_messages: int
    client_bytes: int
    """Payload bytes on the wire of all messages, those of control frames not included."""
    server_messages: int
    server_bytes: int
    close_code: int
    """Of the first close frame; 0 when there was none, or none in it."""
    messages: tuple[WebSocketMessage, ...] = ()
    """The first ones, in the order in which they ended."""


class MessageCounts(Struct, frozen=True, array_like=True, gc=False):
    """Length-prefixed messages of a gRPC call, as far as they have passed."""

    request: int
    response: int


class Partial(Struct, frozen=True, array_like=True, gc=False):
    """Of an exchange that is recorded twice, as it went on for long: before its end, and when it has ended."""

    span_id: bytes
    """8 bytes: the id of the record that is made before the end. ``Exchange.span_id`` is the whole one's, in both."""
    ongoing: bool = False
    """This is the one before the end."""
    request_open: bool = False
    """More of the request may follow."""
    response_open: bool = False
    """More of the response may follow."""


class Exchange(Struct, frozen=True, array_like=True, gc=False):
    """One request with its response (RFC 9110 section 3.4), as forwarded upstream and as received from there.

    ``request_fields`` holds the header fields as they were *forwarded*: injected ones included, replaced ones gone.
    Bodies are on-the-wire payload (transfer coding removed, content coding kept), cut at the capture limit; the sizes
    are the true ones. ``response_fields`` is the final response's, as received; ``status`` is 0 when there was none.
    """

    direction: Direction
    start_unix_ns: int
    """First byte of the request head seen; wall clock."""
    ttfb_ns: int
    """From start to the first byte of the final response's head; -1 when there was none."""
    duration_ns: int
    """From start to the last byte of the response seen."""
    trace_id: bytes
    """16 bytes."""
    span_id: bytes
    """8 bytes: the id that was injected, so the next hop's parent."""
    parent_span_id: bytes
    """8 bytes, or empty for a root."""
    session_id: bytes
    service_name: bytes
    scheme: Literal["http", "https"]
    protocol_version: str
    """``1.0``, ``1.1`` or ``2``."""
    method: bytes
    target: bytes
    """The request target as sent (RFC 9112 section 3.2), with its query."""
    authority: bytes
    """``Host`` or ``:authority`` as sent; empty when there was none."""
    request_fields: bytes
    request_body: Body
    request_body_size: int
    status: int
    response_fields: bytes
    response_body: Body
    response_body_size: int
    client_address: str
    client_port: int
    server_address: str
    """The original destination, which is also the upstream peer."""
    server_port: int
    request_trailers: bytes = b""
    response_trailers: bytes = b""
    error: ErrorType = ""
    rule: str = ""
    """The collection rule that selected it, as ``server[0]``; empty where no rules are configured."""
    websocket: WebSocketSummary | None = None
    """Of a handshake whose connection's messages were watched: the exchange then ends with the connection."""
    grpc: MessageCounts | None = None
    """Of a gRPC call whose messages were counted."""
    partial: Partial | None = None
    """None for nearly all: what has one record only."""
    tags: tuple[tuple[str, str], ...] = ()
    """Of addons, names and values."""
    name: str = ""
    """Of the span, where an addon gave it another one than the target."""
