"""The beginning of a connection and its settings (RFC 9113, sections 3.4, 6.5; RFC 7541, sections 4.2, 6.3)."""

from tests.conformance.http2_play import Make, Script, check
from tests.conformance.http2_wire import (
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    HELLO,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    Sender,
    Step,
    block_frames,
    close,
    frame,
    half_close,
    pause,
    request_fields,
    rest,
    send,
    settings,
    slowly,
    until,
    until_bytes,
    until_ended,
    until_kind,
)

TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, WINDOW, MAX_FRAME, MAX_LIST, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8


def ok(path: str, count: int = 1, method: str = "GET", status: int = 200) -> list[tuple[str, str, int, str]]:
    return [(method, path, status, "")] * count


def serves(count: int = 1, hello: bytes = settings() + SETTINGS_ACK, content: bytes = b"ok") -> list[Step]:
    """A server that answers each request when all of them have come, and lets the client close."""
    sender = Sender()
    answers = [
        sender.answer(1 + 2 * number, ("content-type", "text/plain"), flags=0)
        + frame(DATA, END_STREAM, 1 + 2 * number, content)
        for number in range(count)
    ]
    return [send(hello), until_ended(count), send(*answers), rest, close]


@check
def preface_byte_by_byte(path: str) -> Script:
    hello = HELLO + SETTINGS_ACK + Sender().request(1, path, ("x-a", "b"))
    return Script([slowly(hello), until_ended(), close], serves(), ok(path))


def _preface_in_two(at: int) -> Make:
    """Longer apart than anybody holds a first word (``relay.detect_timeout``)."""

    def make(path: str) -> Script:
        hello = HELLO + Sender().request(1, path)
        return Script([send(hello[:at]), pause(0.3), send(hello[at:]), until_ended(), close], serves(), ok(path))

    make.__name__ = f"preface_in_two_at_{at}"
    return make


for place in (1, 5, 16, 17, 20):
    check(_preface_in_two(place))


def _preface_cut(at: int) -> Make:
    def make(path: str) -> Script:
        hello = HELLO + Sender().request(1, path)
        client = [send(hello[:at]), slowly(hello[at : at + 1]), send(hello[at + 1 :]), until_ended(), close]
        return Script(client, serves(), ok(path))

    make.__name__ = f"preface_cut_at_{at}"
    return make


for place in (1, 3, 14, 16, 18, 23, 24, 25, 32, 33, 34):
    check(_preface_cut(place))


def _server_first(cut: int) -> Make:
    """The server does not wait for the client's preface, and its first frames come in two pieces."""

    def make(path: str) -> Script:
        first = settings((MAX_STREAMS, 100), (WINDOW, 1 << 20)) + frame(8, 0, 0, b"\0\x0f\0\0")
        sender = Sender()
        server = [
            send(first[:cut]),
            until_kind(HEADERS),
            send(first[cut:], SETTINGS_ACK, sender.answer(1, ("x-a", "b"))),
            rest,
            close,
        ]
        client = [until_bytes(cut), send(HELLO, Sender().request(1, path)), until_ended(), close]
        return Script(client, server, ok(path))

    make.__name__ = f"server_speaks_first_{cut}_bytes"
    return make


for place in (1, 4, 9, 12, 21, 25, 30, 34):
    check(_server_first(place))


@check
def settings_with_unknown_identifiers(path: str) -> Script:
    odd = settings((0, 0), (7, 7), (9, 1), (0xFFFF, 0xFFFFFFFF), (0x0A0A, 1), (MAX_STREAMS, 3), (MAX_STREAMS, 4))
    client = [send(PREFACE, odd, SETTINGS_ACK, Sender().request(1, path)), until_ended(), close]
    return Script(client, serves(hello=odd + SETTINGS_ACK), ok(path))


@check
def settings_many_in_one_frame(path: str) -> Script:
    many = settings(*((0x1000 + number, number) for number in range(2000)))
    client = [send(PREFACE, many, SETTINGS_ACK, Sender().request(1, path)), until_ended(), close]
    return Script(client, serves(hello=many + SETTINGS_ACK), ok(path))


@check
def settings_acknowledged_with_a_payload(path: str) -> Script:
    """FRAME_SIZE_ERROR is the ends' affair."""
    client = [send(HELLO, frame(SETTINGS, 1, 0, b"\0\1\0\0\0\0"), Sender().request(1, path)), until_ended(), close]
    return Script(client, serves(), ok(path))


def _table_size(size: int) -> Make:
    """The server announces a table size, the client uses it from its next block on, at its limit."""

    def make(path: str) -> Script:
        sender = Sender()
        first = sender.request(1, path, ("x-a", "1"))
        sender.encoder.header_table_size = min(size, 1 << 20)
        more = [sender.request(3 + 2 * n, path, *((f"x-{n}-{k}", "v" * 50) for k in range(20))) for n in range(8)]
        again = sender.request(19, path, ("x-0-0", "v" * 50), ("x-7-19", "v" * 50), ("x-a", "1"))
        client = [send(HELLO, first), until_kind(SETTINGS), send(SETTINGS_ACK, *more, again), until_ended(10), close]
        return Script(client, serves(10, hello=settings((TABLE_SIZE, size)) + SETTINGS_ACK), ok(path, 10))

    make.__name__ = f"table_size_{size}"
    return make


for number in (0, 1, 31, 32, 100, 4096, 4097, 65536, 1 << 20, 0xFFFFFFFF):
    check(_table_size(number))


def _table_size_of_the_client(size: int) -> Make:
    """The same for what the server sends."""

    def make(path: str) -> Script:
        requests = Sender()
        asked = b"".join(requests.request(1 + 2 * n, path) for n in range(6))
        sender = Sender()
        sender.encoder.header_table_size = min(size, 1 << 20)
        answers = b"".join(
            sender.answer(1 + 2 * n, *((f"x-{n // 2}-{k}", "v" * 50) for k in range(20))) for n in range(6)
        )
        client = [send(PREFACE, settings((TABLE_SIZE, size)), asked), until_ended(6), close]
        server = [send(settings()), until_ended(6), send(SETTINGS_ACK, answers), rest, close]
        return Script(client, server, ok(path, 6))

    make.__name__ = f"table_size_of_the_client_{size}"
    return make


for number in (0, 65536, 1 << 20):
    check(_table_size_of_the_client(number))


@check
def table_size_changes_midway(path: str) -> Script:
    """65536, 0 and 4096 again; each time the client says so at the beginning of its next block, and fills the table."""
    sender = Sender()
    stream = 1
    client: list[Step] = [send(HELLO)]
    server: list[Step] = [send(settings())]
    answers = Sender()
    for number, size in enumerate((65536, 0, 4096, 8192, 100)):
        sender.encoder.header_table_size = size
        asked = b""
        for _ in range(3):
            asked += sender.request(stream, path, ("x-a", "b"), *((f"x-{number}", str(k) * 99) for k in range(9)))
            stream += 2
        client += [until_kind(SETTINGS, number + 2), send(SETTINGS_ACK, asked), until_ended(3 * number + 3)]
        server += [
            send(settings((TABLE_SIZE, size))),
            until_ended(3 * number + 3),
            send(*(answers.answer(stream - 6 + 2 * k) for k in range(3))),
        ]
    return Script([*client, close], [*server, rest, close], ok(path, 15))


@check
def table_shrinks_while_blocks_are_on_their_way(path: str) -> Script:
    """The client has not seen the smaller size when it uses the larger one that it was allowed."""
    sender = Sender()
    client = [
        send(HELLO),
        until_kind(SETTINGS),
        until_kind(SETTINGS, 2),
    ]
    first = sender.request(1, path)
    sender.encoder.header_table_size = 8192
    late = sender.request(3, path, *((f"x-{k}", "v" * 80) for k in range(50)))
    last = sender.request(5, path, ("x-1", "v" * 80))
    client = [*client, send(first, late, last), until_ended(3), close]
    server = [
        send(settings((TABLE_SIZE, 8192)), settings((TABLE_SIZE, 0))),
        until_ended(3),
        send(*(Sender().answer(stream) for stream in (1, 3, 5))),
        rest,
        close,
    ]
    return Script(client, server, ok(path, 3))


@check
def frames_of_16_mib(path: str) -> Script:
    """Both ends allow the largest frames there are, and use them for content, for a header block and for what is unknown."""
    large = settings((MAX_FRAME, (1 << 24) - 1), (WINDOW, (1 << 31) - 1), (MAX_LIST, 1 << 24))
    window = frame(8, 0, 0, (0x7FFF0000 - 65535).to_bytes(4))
    sender = Sender(huffman=False)
    head = sender.request(1, path, ("x-large", "v" * 100_000), method="POST", flags=0)
    body = bytes(range(256)) * 65535
    unknown = frame(0x42, 0xFF, 7, body)
    answer = Sender().answer(1, flags=0)
    client = [
        send(PREFACE, large, window),
        until_kind(SETTINGS),
        send(SETTINGS_ACK, head, unknown, frame(DATA, END_STREAM, 1, body)),
        until_ended(),
        close,
    ]
    server = [send(large, window), until_ended(), send(answer, unknown, frame(DATA, END_STREAM, 1, body)), rest, close]
    return Script(client, server, ok(path, method="POST"), bodies=[(body[:65536], body[:65536])])


@check
def a_large_header_list_is_not_made_too_large(path: str) -> Script:
    """What the origin says it takes is what it gets: a request at the limit goes on without our fields, one below with them."""
    fields = request_fields(path, ("x-pad", ""))
    size = sum(len(name) + len(value) + 32 for name, value in fields)
    sender = Sender()
    fits = block_frames(1, sender.block(request_fields(path, ("x-pad", "v" * (4096 - size)))))
    small = block_frames(3, sender.block(request_fields(path, ("x-pad", "v" * 10))))
    replaced = block_frames(5, sender.block(request_fields(path, ("x-pad", "v" * (3900 - size)), ("x-sp-num", "3"))))
    client = [send(HELLO), until_kind(SETTINGS), send(SETTINGS_ACK, fits, small, replaced), until_ended(3), close]
    return Script(client, serves(3, hello=settings((MAX_LIST, 4096))), ok(path, 3), injected=1)


@check
def half_closed_client(path: str) -> Script:
    client = [send(HELLO, SETTINGS_ACK, Sender().request(1, path)), half_close, rest, close]
    sender = Sender()
    server = [
        send(settings(), SETTINGS_ACK),
        rest,
        send(sender.answer(1, flags=0), frame(DATA, END_STREAM, 1, b"ok")),
        close,
    ]
    return Script(client, server, ok(path))


@check
def half_closed_server(path: str) -> Script:
    """The server has said all that it will; the client may still send."""
    requests = Sender()
    head = requests.request(1, path, method="POST", flags=0)
    client = [send(HELLO, SETTINGS_ACK, head), rest, send(frame(DATA, END_STREAM, 1, b"late")), close]
    server = [send(settings(), SETTINGS_ACK), until_kind(HEADERS), send(Sender().answer(1)), half_close, rest, close]
    return Script(client, server, ok(path, method="POST"))


@check
def continuation_cut_anywhere(path: str) -> Script:
    """A block over many frames, which arrive a few bytes at a time."""
    block = Sender().block(request_fields(path, ("x-a", "b" * 100)))
    frames = block_frames(1, block, sizes=[0, 1, 2, 3, 0, 0, 10])
    assert frames.count(bytes((CONTINUATION,))) >= 6
    return Script([send(HELLO, SETTINGS_ACK), slowly(frames, 3), until_ended(), close], serves(), ok(path))


@check
def nothing_but_the_preface(path: str) -> Script:
    return Script([send(HELLO), until(bool), close], [send(settings()), rest, close])
