"""How many messages a request holds, counted on the wire before it is decoded (pure).

An empty message is two bytes on the wire and 90 to 350 in memory: 64 MiB of them, which gzip makes 64 KiB of, would be 10 GB.
So they are limited as the bytes are. They are only counted, at 1 µs a field, where there can be so many short ones: in a
request that is long enough, and has as many of the bytes that begin a short one. (64 MiB of real exchanges have 1.2 million.)
"""

from google.protobuf.descriptor import Descriptor

MOST = 2_000_000
"""Of a request. 8,192 spans with 40 attributes each, which is a large one of a collector's, have 0.7 million."""

type Kinds = dict[int, "Kinds"]
"""The fields of a message that are messages themselves, by their keys on the wire; those of each."""

_LENGTH_DELIMITED = 2
_SHORT = bytes(range(8))
"""Lengths of messages that are so much larger in memory; one of each stands before such a message."""
_DEEPEST = 100
"""Levels that the decoder goes down."""


def kinds_of(descriptor: Descriptor, known: dict[str, Kinds] | None = None) -> Kinds:
    """From what the message is described by. Messages may hold their own kind, so this goes in circles."""
    known = {} if known is None else known
    if descriptor.full_name not in known:
        kinds = known[descriptor.full_name] = {}
        for field in descriptor.fields:
            if field.message_type is not None:
                kinds[field.number << 3 | _LENGTH_DELIMITED] = kinds_of(field.message_type, known)
    return known[descriptor.full_name]


def too_many(body: bytes, kinds: Kinds, most: int = MOST) -> bool:
    """Whether a message in protobuf's encoding holds more than so many others. What is malformed is for its decoder."""
    return (
        len(body) > 2 * most
        and len(body) - len(body.translate(None, _SHORT)) > most
        and messages(body, kinds, most) > most
    )


def too_many_in_json(body: bytes, most: int = MOST) -> bool:
    """The same of JSON, by its brackets: those that stand in texts count too."""
    return len(body) > 2 * most and body.count(b"{") + body.count(b"[") > most


def messages(body: bytes, kinds: Kinds, most: int) -> int:
    """How many a message holds, counted no further than to the first beyond ``most``, nor than it can be read."""
    found, at, end = 0, 0, len(body)
    outer: list[tuple[int, Kinds]] = []
    body += bytes(20)  # so that a number that is cut off has an end
    while found <= most and len(outer) <= _DEEPEST:
        if at >= end:
            if not outer:
                break
            end, kinds = outer.pop()
            continue
        key, at = _varint(body, at)
        match key & 7:
            case 0:
                _, at = _varint(body, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(body, at)
                inner = kinds.get(key)
                if inner is None:
                    at += length
                else:
                    found += 1
                    outer.append((end, kinds))
                    end, kinds = min(end, at + length), inner
            case 5:
                at += 4
            case 6 | 7:
                break
            case _:
                pass  # both ends of a group, which no version of OTLP has
    return found


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    byte = body[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while byte >= 0x80 and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at
