"""What tells the two spans of an exchange that went on for long apart (contract section 4).

The whole exchange's span has the id that was injected, which the next hop's spans name as their parent. The one that was
sent before the end is of another type, so that nobody who counts exchanges counts it, and has an id of its own; it is the
other one's child, and so linked to it before that is there (as Logfire's *pending spans* are).
"""

from typing import Final

from msgspec import structs

from sp_proxy.core.exchange import Exchange, Partial
from sp_proxy.core.otlp import bool_attribute, key, string_attribute

_TYPE: Final = key(b"sp.span.type")
WHOLE: Final = string_attribute(_TYPE, b"extract")
_ONGOING: Final = string_attribute(_TYPE, b"partial") + bool_attribute(key(b"sp.partial"), True)
_PARENT: Final = key(b"sp.partial.parent_span_id")
_SPAN: Final = key(b"sp.partial.span_id")


def marked(exchange: Exchange, partial: Partial, laid: bytes) -> tuple[Exchange, bytes]:
    """The exchange with the ids of its span, and ``laid``, which begins with ``WHOLE``, with what says which it is."""
    if not partial.ongoing:
        return exchange, laid + string_attribute(_SPAN, _hex(partial.span_id))
    laid = _ONGOING + laid[len(WHOLE) :]
    if exchange.parent_span_id:
        laid += string_attribute(_PARENT, _hex(exchange.parent_span_id))
    return structs.replace(exchange, span_id=partial.span_id, parent_span_id=exchange.span_id), laid


def _hex(span_id: bytes) -> bytes:
    return span_id.hex().encode()
