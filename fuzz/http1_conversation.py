"""One input of the fuzzer as a conversation through the HTTP/1.x tap, and what must hold for every one of them.

An input is a byte of options and then pieces, each ended by 0xF5 (a byte that stands in no UTF-8 text): its first byte says
who sends it (``s``: the server, ``t``: nobody, the time is up, all others: the client), the rest is sent. So the corpus
can be read and written by hand.
"""

import re

from sp_proxy.taps.context import Signal
from tests.taps.rig import Wire

SEPARATOR = b"\xf5"
_STRICT, _SMALL = 1, 2
_HEAD_LIMITS = (131072, 96)
_CHUNK_LINE = 16384
_CONTRACT_LINES = re.compile(rb"(?i)(?<=\n)(?:x-sp-service-name|x-sp-num|tracestate|traceparent):[^\n]*\n").sub
_LAST_LINE = re.compile(rb"[^\n]*\Z").sub


def _rest(data: bytes) -> bytes:
    """All but the lines which the tap may add or take away."""
    return _CONTRACT_LINES(b"", data)


def _begins(data: bytes, begin: bytes) -> bool:
    """Whether it begins so, an unfinished last line left out (it may be one that would be taken away)."""
    return _rest(data).startswith(_rest(_LAST_LINE(b"", begin)))


def check(data: bytes) -> None:
    """Play the input. Raises AssertionError, or whatever the tap raises, if a rule of ``taps/http1.py`` is broken."""
    options, pieces = data[:1] or b"\0", data[1:].split(SEPARATOR)
    strict = bool(options[0] & _STRICT)
    limit = _HEAD_LIMITS[bool(options[0] & _SMALL)]
    wire = Wire(strict=strict, max_head_size=limit, max_body_size=32)
    sent, answers = bytearray(), bytearray()
    for piece in pieces:
        who, content = piece[:1], piece[1:]
        if who == b"t":
            wire.timeout()
        elif who == b"s":
            answers += content
            wire.server(content)
        else:
            sent += content
            wire.client(content)
        assert wire.http1.held <= 2 * (max(limit, _CHUNK_LINE) + len(content)), "buffers are bounded"
    up, down = wire.up, wire.down
    wire.client_eof().server_eof().close()
    if wire.ended is None or wire.ended is Signal.RAW:
        up, down = wire.up, wire.down
        assert (_rest(up), _rest(down)) == (_rest(bytes(sent)), _rest(bytes(answers))), "forwarded as it came"
    elif wire.ended is not Signal.HTTP2:
        answer = wire.http1.answer
        assert strict, "nothing is refused otherwise"
        assert _begins(bytes(sent), up), "what passes is the beginning of what came"
        assert _begins(bytes(answers), down[: len(down) - len(answer)]), "as upstream said it, then our answer"
    assert wire.counters["captured"] == len(wire.records)
    for record in wire.records:
        assert record.method + b" " + record.target + b" HTTP/1." in sent, "captured is only what happened"
        assert len(record.request_body) <= 32 >= len(record.response_body)
        assert record.status == 0 or b" %d" % record.status in answers
