"""What must not be (RFC 9113, section 5.4.1; RFC 7541): it reaches the other end as directly, from either side.

Only behind a block that was encoded anew the client's cannot: there the connection is reset. The server's always can.
"""

from tests.conformance.http2_blocks import REPLACED
from tests.conformance.http2_play import Script, check
from tests.conformance.http2_settings import ok
from tests.conformance.http2_wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HELLO,
    PADDED,
    PING,
    PRIORITIZED,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    Sender,
    block_frames,
    close,
    frame,
    half_close,
    rest,
    send,
    settings,
    until_bytes,
    until_ended,
)

_GOOD = Sender(huffman=False).block([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
_WHOLE = END_STREAM | END_HEADERS

BLOCKS = {
    "index_zero": b"\x80",
    "index_beyond_table": b"\xff\x20",
    "truncated_block": _GOOD + b"\x40\x0ax-a",
    "truncated_integer": b"\x7f\xff",
    "truncated_huffman": b"\x40\x8ax-a",
    "integer_too_large": b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "huffman_eos": b"\0\x01a\x84\xff\xff\xff\xff",
    "huffman_padding": b"\0\x01a\x81\0",
    "late_table_size_update": _GOOD + b"\x20",
    "table_too_large": b"\x3f\xe2\x1f" + _GOOD,
    "bomb": b"\x40\x01a\x7f\x81\x1e" + b"v" * 3968 + b"\xbe" * 12000,
}
"""Header blocks that cannot be decoded."""
_REASONS = {
    "truncated_integer": "truncated_block",
    "truncated_huffman": "truncated_block",
    "bomb": "header_list_too_large",
}
FRAMES = {
    "continuation_alone": (frame(CONTINUATION, END_HEADERS, 3, _GOOD), "h2_continuation"),
    "data_in_a_block": (frame(HEADERS, END_STREAM, 3, _GOOD) + frame(DATA, 0, 1, b"x"), "h2_interrupted_block"),
    "ping_in_a_block": (frame(HEADERS, END_STREAM, 3, _GOOD) + frame(PING, 0, 0, bytes(8)), "h2_interrupted_block"),
    "unknown_in_a_block": (frame(HEADERS, END_STREAM, 3, _GOOD) + frame(99, 0, 3, b"x"), "h2_interrupted_block"),
    "block_in_a_block": (frame(HEADERS, 1, 3, _GOOD) + frame(HEADERS, _WHOLE, 5, _GOOD), "h2_interrupted_block"),
    "continuation_of_another": (frame(HEADERS, 1, 3, _GOOD) + frame(CONTINUATION, 4, 5, b""), "h2_interrupted_block"),
    "headers_on_stream_0": (frame(HEADERS, _WHOLE, 0, _GOOD), "h2_stream_id"),
    "headers_padded_beyond": (frame(HEADERS, _WHOLE | PADDED, 3, b"\xff" + _GOOD), "h2_padding"),
    "headers_padded_wholly": (frame(HEADERS, _WHOLE | PADDED, 3, b"\x04\x82\x86\x84"), "h2_padding"),
    "headers_padded_and_empty": (frame(HEADERS, _WHOLE | PADDED, 3), "h2_padding"),
    "headers_without_their_priority": (frame(HEADERS, _WHOLE | PRIORITIZED, 3, b"\0\0\0"), "h2_padding"),
    "headers_too_large": (frame(HEADERS, _WHOLE, 3, bytes(16385)), "h2_frame_size"),
    "headers_too_large_and_not_there": (frame(HEADERS, _WHOLE, 3, _GOOD, length=70_000), "h2_frame_size"),
    "continuation_too_large": (frame(HEADERS, 1, 3, _GOOD) + frame(CONTINUATION, 4, 3, bytes(16385)), "h2_frame_size"),
    "settings_not_of_six": (frame(SETTINGS, 0, 0, b"12345"), "h2_settings"),
    "settings_not_of_six_and_not_there": (frame(SETTINGS, 0, 0, b"", length=601), "h2_settings"),
    "settings_too_large": (frame(SETTINGS, 0, 0, bytes(16386)), "h2_frame_size"),
    "reset_of_three_bytes": (frame(RST_STREAM, 0, 1, b"\0\0\0"), "h2_frame_size"),
    "reset_of_a_megabyte_not_there": (frame(RST_STREAM, 0, 1, b"", length=1 << 20), "h2_frame_size"),
}
"""Frames after which the connection cannot be followed, with the reason that is counted."""
FRAMES |= {
    "block_" + name: (frame(HEADERS, _WHOLE, 3, block), _REASONS.get(name, name)) for name, block in BLOCKS.items()
}
OF_THE_CLIENT = {
    "promise_of_a_client": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + _GOOD), "h2_push_promise"),
    "even_stream": (frame(HEADERS, _WHOLE, 4, _GOOD), "h2_stream_id"),
    "continuation_flood": (
        frame(HEADERS, END_STREAM, 3, _GOOD) + frame(CONTINUATION, 0, 3) * 5000,
        "h2_block_too_large",
    ),
}
OF_THE_SERVER = {
    "promise_too_short": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0"), "h2_padding"),
    "promise_that_cannot_be_decoded": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x80"), "index_zero"),
}
_MORE = frame(PING, 0, 0, b"and more") + b"\0\0\7and"


def _of_client(name: str, bad: bytes, reason: str, *, anew: bool) -> None:
    """It has what it wants; then it errs, and goes on."""

    def make(path: str) -> Script:
        asked = Sender().request(1, path, *(REPLACED if anew else ()))
        client = [send(HELLO, asked), until_ended(), send(bad, _MORE), half_close, rest, close]
        server = [send(settings()), until_ended(), send(Sender().answer(1)), rest, close]
        return Script(client, server, ok(path), raw=reason, reset=anew)

    make.__name__ = f"client_{name}{'_encoded_anew' if anew else ''}"
    check(make)


def _of_server(name: str, bad: bytes, reason: str, *, anew: bool) -> None:
    """Beside an answer that is complete, while the next request is open; then the client sends one more."""

    def make(path: str) -> Script:
        requests = Sender()
        asked = requests.request(1, path, *(REPLACED if anew else ())) + requests.request(3, path, ("x-a", "b"))
        last = requests.request(5, path, ("x-a", "b"))
        answer = Sender().answer(1)
        # what the client can count on is bytes: it may be told nothing that can be read
        heard = until_bytes(len(settings() + answer + bad + _MORE))
        client = [send(HELLO, asked), heard, send(last), half_close, rest, close]
        server = [send(settings()), until_ended(2), send(answer, bad, _MORE), rest, close]
        return Script(client, server, ok(path), raw=reason, injected=3 if anew else 2)

    make.__name__ = f"server_{name}{'_encoded_anew' if anew else ''}"
    check(make)


for again in (False, True):
    for key, (wrong, why) in {**FRAMES, **OF_THE_CLIENT}.items():
        _of_client(key, wrong, why, anew=again)
    for key, (wrong, why) in {**FRAMES, **OF_THE_SERVER}.items():
        _of_server(key, wrong, why, anew=again)


def _padded(name: str, wrong: bytes) -> None:
    """Content whose padding is longer than its frame."""

    def make(path: str) -> Script:
        asked = Sender().request(1, path, flags=0)
        client = [send(HELLO, asked, wrong, _MORE), half_close, rest, close]
        answer = Sender().answer(1)
        return Script(client, [send(settings()), rest, send(answer), close], injected=1, raw="h2_padding")

    make.__name__ = f"content_{name}"
    check(make)


_padded("padded_beyond", frame(DATA, PADDED, 1, b"\xffabc"))
_padded("padded_wholly", frame(DATA, PADDED | END_STREAM, 1, b"\4abc"))


@check
def content_padded_and_empty(path: str) -> Script:
    """A frame that says it is padded and has not even the length of that: an error between the ends."""
    asked = Sender().request(1, path, flags=0) + frame(DATA, PADDED, 1) + frame(DATA, END_STREAM, 1, b"x")
    client = [send(HELLO, asked), until_ended(), close]
    server = [send(settings()), until_ended(), send(Sender().answer(1)), rest, close]
    return Script(client, server, ok(path), bodies=[(b"x", b"")])


@check
def stream_opened_twice(path: str) -> Script:
    """A second head on a stream that has ended, and on one below the last: the ends' affair, however they are encoded."""
    sender = Sender()
    first = sender.request(5, path) + sender.request(5, path) + sender.request(3, path, *REPLACED)
    more = sender.request(7, path, *REPLACED) + sender.request(7, path) + sender.request(1, path)
    client = [send(HELLO, first, more), until_ended(2), close]
    server = [send(settings()), until_ended(6), send(*(Sender().answer(n) for n in (5, 7))), rest, close]
    return Script(client, server, ok(path, 2))


@check
def table_that_follows_a_block_on_a_closed_stream(path: str) -> Script:
    """Its fields are in the table all the same (section 4.3)."""
    sender = Sender()
    head = sender.request(1, path, ("x-late", "indexed"))
    lost = block_frames(1, sender.block([("x-other", "indexed too")]))
    again = sender.request(3, path, ("x-late", "indexed"), ("x-other", "indexed too"))
    client = [send(HELLO, head, lost, again), until_ended(2), close]
    server = [send(settings()), until_ended(3), send(*(Sender().answer(n) for n in (1, 3))), rest, close]
    return Script(client, server, ok(path, 2))
