"""OTLP's protobuf wire format, laid by hand: the few primitives that a span needs.

Protobuf's own encoder spends its time making an object for each attribute (34 µs a record, measured); bytes that
repeat, above all attribute keys and whole attributes, need to be laid only once. The rule kept here: what is laid is
always a valid message, whatever bytes come in. Strings are valid UTF-8 (``utf8``), lengths are of what follows,
integers are cut to 64 bits.

Layouts are those of ``opentelemetry/proto/trace/v1/trace.proto`` and ``common/v1/common.proto``, version 1; wire
types of https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterable, Mapping
from struct import Struct as Layout
from typing import Final

SPAN_ATTRIBUTE: Final = b"\x4a"
"""Tag of ``Span.attributes`` (field 9)."""
PLAIN_ATTRIBUTE: Final = b"\x0a"
"""Tag of ``Resource.attributes`` (field 1)."""

_MASK: Final = (1 << 64) - 1
_DOUBLE: Final = Layout("<d").pack
_FIXED64: Final = Layout("<Q").pack


def _lay_varint(value: int) -> bytes:
    value &= _MASK
    laid = bytearray()
    while value > 127:
        laid.append(value & 127 | 128)
        value >>= 7
    laid.append(value)
    return bytes(laid)


_TABLE: Final = 4096
_VARINTS: Final = tuple(_lay_varint(value) for value in range(_TABLE))
"""Most lengths, looked up (30 ns) instead of computed (400 ns)."""
_STRING_HEADS: Final = tuple(
    _VARINTS[1 + len(laid) + value] + b"\x0a" + laid for value, laid in enumerate(_VARINTS[: _TABLE - 3])
)
"""By the length of a short string: the length of its ``AnyValue``, the tag of ``string_value``, its own length."""


def varint(value: int) -> bytes:
    """A base-128 varint. Negative values take ten bytes, as ``int64`` has it."""
    return _VARINTS[value] if 0 <= value < _TABLE else _lay_varint(value)


def fixed64(value: int) -> bytes:
    """Eight bytes, little-endian."""
    return _FIXED64(value & _MASK)


def delimited(tag: bytes, payload: bytes) -> bytes:
    """A length-delimited field: ``tag`` (field number and wire type 2), length, payload."""
    return tag + varint(len(payload)) + payload


def utf8(value: bytes) -> bytes:
    """The bytes themselves if they are UTF-8, else what they say in Latin-1, as UTF-8.

    Every byte string has an answer, and two that differ never get the same one unless one of them is UTF-8.
    """
    if value.isascii():
        return value
    try:
        value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1").encode()
    return value


def text(value: str) -> bytes:
    """UTF-8 of a text, lone surrogates as question marks: they cannot stand in a protobuf string."""
    return value.encode("utf-8", "replace")


def key(name: bytes) -> bytes:
    """The beginning of a ``KeyValue``: its key, and the tag of its value. ``name`` is UTF-8."""
    return delimited(b"\x0a", name) + b"\x12"


def string_attribute(laid_key: bytes, value: bytes, tag: bytes = SPAN_ATTRIBUTE) -> bytes:
    """An attribute with a string value (``AnyValue.string_value``). ``value`` is UTF-8 (see ``utf8``)."""
    length = len(value)
    if length < _TABLE - 3:
        head = _STRING_HEADS[length]
    else:
        laid = varint(length)
        head = varint(1 + len(laid) + length) + b"\x0a" + laid
    return tag + varint(len(laid_key) + len(head) + length) + laid_key + head + value


def int_attribute(laid_key: bytes, value: int, tag: bytes = SPAN_ATTRIBUTE) -> bytes:
    """An attribute with an integer value (``AnyValue.int_value``)."""
    laid = b"\x18" + varint(value)
    return delimited(tag, laid_key + varint(len(laid)) + laid)


def double_attribute(laid_key: bytes, value: float, tag: bytes = SPAN_ATTRIBUTE) -> bytes:
    """An attribute with a floating point value (``AnyValue.double_value``)."""
    return delimited(tag, laid_key + b"\x09\x21" + _DOUBLE(value))


def bool_attribute(laid_key: bytes, value: bool, tag: bytes = SPAN_ATTRIBUTE) -> bytes:
    """An attribute with a truth value (``AnyValue.bool_value``)."""
    return delimited(tag, laid_key + b"\x02\x10" + (b"\x01" if value else b"\x00"))


def encode_resource(attributes: Mapping[str, str]) -> bytes:
    """A ``Resource`` message."""
    return b"".join(
        string_attribute(key(text(name)), text(value), PLAIN_ATTRIBUTE) for name, value in attributes.items()
    )


def encode_scope(name: str, version: str) -> bytes:
    """An ``InstrumentationScope`` message."""
    return delimited(b"\x0a", text(name)) + delimited(b"\x12", text(version))


def encode_request(resource: bytes, scope: bytes, spans: Iterable[bytes]) -> bytes:
    """An ``ExportTraceServiceRequest`` of one ``ResourceSpans`` with one ``ScopeSpans``.

    ``resource`` and ``scope`` are messages laid by ``encode_resource`` and ``encode_scope``, ``spans`` bodies of
    ``Span`` messages. Requests may be concatenated: the bytes of several, one after another, are one request with all
    their ``ResourceSpans`` (a batch with exchanges of several services).
    """
    pieces = [b"\x0a", varint(len(scope)), scope]
    for span in spans:
        pieces += (b"\x12", varint(len(span)), span)
    # Lengths first, so that megabytes of spans are copied once and not at each level.
    scope_spans = sum(map(len, pieces))
    laid_resource = delimited(b"\x0a", resource)
    head = b"\x12" + varint(scope_spans)
    resource_spans = len(laid_resource) + len(head) + scope_spans
    return b"".join([b"\x0a", varint(resource_spans), laid_resource, head, *pieces])
