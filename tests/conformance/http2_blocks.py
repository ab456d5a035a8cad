"""Header blocks: how they are cut into frames (RFC 9113, sections 4.3, 6.2, 6.10) and encoded (RFC 7541)."""

import hpack
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.conformance.http2_play import Make, Script, check
from tests.conformance.http2_settings import MAX_FRAME, MAX_LIST, ok, serves
from tests.conformance.http2_wire import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    HELLO,
    PADDED,
    PREFACE,
    PRIORITIZED,
    PUSH_PROMISE,
    SETTINGS,
    Sender,
    block_frames,
    close,
    frame,
    request_fields,
    rest,
    send,
    settings,
    until_ended,
    until_kind,
)

REPLACED = (
    ("x-sp-service-name", "another"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "x-sp-traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01,v=1"),
    ("x-sp-num", "3"),
)
"""What a request has behind another of our kind: it is taken away, and every block from there on encoded anew."""
_huffman = hpack.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


def asks(path: str, *requests: bytes, count: int = 0) -> Script:
    """Requests one behind the other, each answered."""
    number = count or len(requests)
    return Script([send(HELLO, *requests), until_ended(number), close], serves(number), ok(path, number))


def _split(name: str, *sizes: int) -> None:
    def make(path: str) -> Script:
        sender = Sender()
        first = block_frames(1, sender.block(request_fields(path, ("x-a", "b"))), sizes=sizes)
        second = block_frames(3, sender.block(request_fields(path, ("x-a", "b"))), sizes=sizes[:2])
        return asks(path, first, second)

    make.__name__ = f"block_in_{name}"
    check(make)


_split("two", 10)
_split("single_bytes", *([1] * 40))
_split("empty_then_all", 0, 0, 0)
_split("empties_between", 5, 0, 0, 5, 0)


@check
def block_over_hundreds_of_continuations(path: str) -> Script:
    """A byte in each: what an encoder could do that is not out for harm."""
    block = Sender().block(request_fields(path, ("x-a", "b" * 1000)))
    return asks(path, block_frames(1, block, sizes=[1] * (len(block) - 1)))


@check
def block_over_two_continuations_of_16384(path: str) -> Script:
    block = Sender(huffman=False).block(request_fields(path, ("x-a", "b" * 40_000)))
    return asks(path, block_frames(1, block, sizes=[16384, 16384]))


def _padding(size: int, *, priority: bool) -> Make:
    def make(path: str) -> Script:
        sender = Sender()
        requests = []
        for stream in (1, 3):
            block = sender.block(request_fields(path, ("x-a", "b")))
            before = b"\x80\0\0\0\x10" if priority else b""
            flags = PADDED | END_STREAM | END_HEADERS | (PRIORITIZED if priority else 0)
            requests.append(
                frame(HEADERS, flags, stream, bytes((size,)) + before + block + bytes(size)),
            )
        return asks(path, *requests)

    make.__name__ = f"padding_{size}{'_with_priority' if priority else ''}"
    return make


for number in (0, 1, 255):
    check(_padding(number, priority=False))
    check(_padding(number, priority=True))


@check
def padding_and_continuation(path: str) -> Script:
    block = Sender().block(request_fields(path))
    first = frame(HEADERS, PADDED | END_STREAM, 1, b"\x09" + block[:4] + bytes(9))
    return asks(path, first + frame(CONTINUATION, END_HEADERS, 1, block[4:]))


@check
def priority_kept_when_encoded_anew(path: str) -> Script:
    sender = Sender()
    flags = END_STREAM | PRIORITIZED
    first = block_frames(1, sender.block(request_fields(path, *REPLACED)), flags=flags, before=b"\0\0\0\0\xff")
    second = block_frames(3, sender.block(request_fields(path)), flags=flags, before=b"\x80\0\0\1\x07", sizes=[3])
    return asks(path, first, second)


def _literals(name: str, *values: bytes) -> None:
    """Fields as they come on the wire, behind those of a request; the same again behind what must be replaced."""

    def make(path: str) -> Script:
        requests = []
        for stream, more in ((1, ()), (3, REPLACED), (5, ())):
            plain = Sender(huffman=False).block([])
            for key, value in request_fields(path, *more):
                plain += b"\0" + _plain(str(key).encode()) + _plain(str(value).encode())
            requests.append(block_frames(stream, plain + b"".join(values)))
        return asks(path, *requests)

    make.__name__ = f"field_{name}"
    check(make)


def _plain(text: bytes) -> bytes:
    return _integer(len(text), 7, 0) + text


def _huff(text: bytes) -> bytes:
    coded = _huffman(text)
    return _integer(len(coded), 7, 0x80) + coded


def _integer(value: int, bits: int, first: int, *, padding: int = 0) -> bytes:
    """RFC 7541, section 5.1; ``padding``: so many octets more than needed."""
    mask = (1 << bits) - 1
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


_literals("never_indexed", b"\x10" + _plain(b"password") + _plain(b"secret"))
_literals("never_indexed_huffman", b"\x10" + _huff(b"password") + _huff(b"secret"))
_literals("never_indexed_static_name", _integer(23, 4, 0x10) + _plain(b"Basic abc"))  # authorization
_literals("never_indexed_whole_static_field", _integer(16, 4, 0x10) + _plain(b"gzip, deflate"))
_literals("without_indexing_static_name", _integer(58, 4, 0) + _huff(b"agent"))
_literals("huffman_all_that_is_text", b"\0" + _huff(b"x-a") + _huff(bytes(range(32, 127))))
_literals("huffman_obs_text", b"\0" + _huff(b"x-a") + _huff(bytes(range(128, 256))))
_literals("huffman_empty", b"\0" + _huff(b"x-a") + b"\x80")
_literals("empty_value", b"\0" + _plain(b"x-a") + b"\0")
for length in range(1, 9):
    _literals(f"huffman_padding_of_{length}", b"\0" + _plain(b"x-a") + _huff(b"a" * length))  # five bits each
_literals(
    "lengths_of_127_and_more", b"\0" + _plain(b"x-a") + _plain(b"v" * 127) + b"\0" + _huff(b"x-b") + _huff(b"v" * 400)
)
_literals(
    "integer_with_needless_octets",
    b"\0" + _plain(b"x-a") + _integer(200, 7, 0, padding=2) + b"v" * 200,
    _integer(58, 4, 0, padding=1) + _plain(b"agent"),
)
_literals("blanks_around_a_value", b"\0" + _plain(b"x-a") + _plain(b"  v\t"))
_literals("upper_case_name", b"\0" + _plain(b"X-Upper") + _plain(b"v"))  # malformed: the ends' affair
_literals("name_with_a_colon", b"\0" + _plain(b"x:sp-num: 3") + _plain(b"v"))
_literals("connection", b"\0" + _plain(b"connection") + _plain(b"close"))
_literals("te_gzip", b"\0" + _plain(b"te") + _plain(b"gzip"))
_literals("pseudo_field_behind_others", b"\0" + _plain(b":protocol") + _plain(b"websocket"))
_literals("unknown_pseudo_field", b"\0" + _plain(b":unknown") + _plain(b"x"))


@check
def field_value_with_line_breaks(path: str) -> Script:
    """Malformed: the ends' affair (section 8.2.1). Such a request is neither injected nor captured."""
    bad = [block_frames(1 + 2 * n, Sender().block(request_fields(path, ("x-a", v)))) for n, v in enumerate("\r\n\0")]
    script = asks(path, *bad, Sender().request(7, path))
    return Script(script.client, script.server, ok(path))


@check
def pseudo_field_twice(path: str) -> Script:
    """Malformed likewise (section 8.3): nobody can tell which of them it was."""
    bad = block_frames(1, Sender().block([*request_fields("/one"), (":path", "/two")]))
    script = asks(path, bad, Sender().request(3, path))
    return Script(script.client, script.server, ok(path))


@check
def indexed_with_eviction(path: str) -> Script:
    """Entries that come, are used again, and are pushed out; one that is larger than the table empties it."""
    sender = Sender()
    requests = []
    for number in range(60):
        more = [(f"x-{number % 7}", f"{number % 11}" * 40), ("x-same", "of all"), (f"x-{number}", "v" * 200)]
        if number == 30:
            more.append(("x-whole-table", "v" * 5000))
        requests.append(sender.request(1 + 2 * number, path, *more))
    return asks(path, *requests)


@check
def indexed_until_replaced_in_the_middle(path: str) -> Script:
    """The table goes on being used after blocks are encoded anew, by trailers too; cookies stay in their crumbs."""
    sender = Sender()
    requests = []
    for number in range(20):
        more = [("cookie", "a=b"), ("x-n", str(number % 3)), ("cookie", "c=d"), ("cookie", "a=b")]
        if number in {7, 11, 12}:
            more += REPLACED
        stream = 1 + 2 * number
        head = sender.request(stream, path, *more, flags=0)
        requests.append(head + sender.trailers(stream, ("x-end", str(number % 2))))
    return asks(path, *requests)


@check
def table_size_updates_in_one_block(path: str) -> Script:
    """The smallest of several, then the last (RFC 7541, section 4.2), before and after blocks are encoded anew."""
    plain = [Sender(huffman=False).block(request_fields(path, *more)) for more in ((), REPLACED, (), ())]
    updates = [b"\x20\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f", b"\x3f\x45\x20\x3f\xe1\x1f", b"\x3f\xe1\x1f"]
    requests = [block_frames(1 + 2 * n, updates[n] + plain[n]) for n in range(4)]
    return asks(path, *requests)


@check
def trailers_that_are_empty(path: str) -> Script:
    sender = Sender()
    requests = [
        sender.request(stream, path, *more, flags=0) + block_frames(stream, b"")
        for stream, more in ((1, ()), (3, REPLACED), (5, ()))
    ]
    return asks(path, *requests)


def _large(size: int, *, replaced: bool) -> Make:
    """Blocks at the limits, both ways."""

    def make(path: str) -> Script:
        most = settings((MAX_FRAME, 1 << 20), (MAX_LIST, 1 << 24))
        value = "v" * (size - 200)
        requests = Sender(huffman=False)
        asked = [
            block_frames(
                stream, requests.block(request_fields(path, *more, ("x-large", value))), sizes=[16384] * (size // 20000)
            )
            for stream, more in ((1, ()), (3, REPLACED if replaced else ()), (5, ()))
        ]
        sender = Sender(huffman=False)
        answers = [
            block_frames(
                stream, sender.block([(":status", "200"), ("x-large", value)]), sizes=[16384] * (size // 20000)
            )
            for stream in (1, 3, 5)
        ]
        client = [send(PREFACE, most), until_kind(SETTINGS), send(*asked), until_ended(3), close]
        server = [send(most), until_ended(3), send(*answers), rest, close]
        captured = size < 131072
        return Script(client, server, ok(path, 3 if captured else 0), injected=3)

    make.__name__ = f"large_{size}{'_replaced' if replaced else ''}"
    return make


for number in (16384, 65536, 130_000, 140_000, 1_000_000):
    check(_large(number, replaced=False))
    check(_large(number, replaced=True))


@check
def block_larger_than_anybody_takes(path: str) -> Script:
    """Nobody's block, but nobody's harm either: it passes unread."""
    most = settings((MAX_FRAME, 1 << 20), (MAX_LIST, 1 << 24))
    requests = Sender(huffman=False)
    asked = block_frames(1, requests.block(request_fields("/", ("x-large", "v" * 1_100_000))), sizes=[16384] * 60)
    client = [send(PREFACE, most), until_kind(SETTINGS), send(asked), until_ended(), close]
    server = [send(most), until_kind(HEADERS), until_kind(CONTINUATION, 60), send(Sender().answer(1)), rest, close]
    return Script(client, server, raw="h2_block_too_large")


@check
def answers_with_traceparent(path: str) -> Script:
    """They get one more, whatever their blocks look like; the table goes on."""
    sender = Sender()
    fields = [
        (":status", "200"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-a", "b"),
    ]
    blocks = [sender.block(fields) for _ in range(4)]
    answers = [
        block_frames(1, blocks[0]),
        frame(HEADERS, PADDED | END_STREAM | END_HEADERS, 3, b"\x05" + blocks[1] + bytes(5)),
        block_frames(5, blocks[2], sizes=[1, 0, 1], flags=END_STREAM | PRIORITIZED, before=b"\0\0\0\0\x10"),
        block_frames(7, blocks[3]),
    ]
    requests = Sender()
    client = [send(HELLO, *(requests.request(1 + 2 * n, path) for n in range(4))), until_ended(4), close]
    return Script(client, [send(settings()), until_ended(4), send(*answers), rest, close], ok(path, 4))


@check
def promises(path: str) -> Script:
    """A push with its own block over several frames, padded; the table of both ends goes on."""
    sender = Sender()
    promised = sender.block(request_fields("/style", ("x-a", "b")))
    first = frame(PUSH_PROMISE, PADDED, 1, b"\x03\0\0\0\2" + promised[:5] + bytes(3))
    promise = first + frame(CONTINUATION, END_HEADERS, 1, promised[5:])
    whole = frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\4" + sender.block(request_fields("/style", ("x-a", "b"))))
    answers = sender.answer(1, ("x-a", "b")) + sender.answer(2, ("x-b", "c")) + sender.answer(4, ("x-b", "c"))
    client = [send(HELLO, Sender().request(1, path)), until_ended(3), close]
    server = [send(settings()), until_ended(), send(promise, whole, answers), rest, close]
    return Script(client, server, ok(path))
