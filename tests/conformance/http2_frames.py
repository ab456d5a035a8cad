"""Frames that are not the proxy's affair, and content with its flow control (RFC 9113, section 6; RFC 9218, section 7)."""

from collections.abc import Sequence

from tests.conformance.http2_blocks import REPLACED
from tests.conformance.http2_play import Make, Record, Script, check
from tests.conformance.http2_settings import WINDOW, ok, serves
from tests.conformance.http2_wire import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    HELLO,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    Sender,
    close,
    frame,
    rest,
    send,
    settings,
    until_ended,
    until_kind,
)

ERROR_CODES = (*range(14), 255, 0xFFFFFFFF)
_PASSING = {
    "priority": frame(PRIORITY, 0, 5, b"\x80\0\0\3\x20") + frame(PRIORITY, 0, 7, b"\0\0\0\7\x20"),
    "priority_update": frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1, i") + frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x09"),
    "alternative_services": frame(10, 0, 0, b'\0\0h2="other:443"') + frame(10, 0, 1, b"\0\0clear"),
    "origin": frame(12, 0, 0, b"\0\x0ehttp://orders:80"[:16]),
    "unknown_kinds": b"".join(frame(kind, 0xFF, kind, bytes(kind)) for kind in range(17, 256)),
    "unknown_kind_of_16384": frame(0xEE, 5, 1, b"\1" * 16384),
    "reserved_bit": frame(PRIORITY, 0, 0x80000005, b"\0\0\0\0\x10") + frame(WINDOW_UPDATE, 0, 0x80000000, b"\0\0\0\1"),
    "unknown_flags": frame(PING, 0xFE, 0, b"12345678") + frame(WINDOW_UPDATE, 0xFF, 0, b"\0\0\0\1"),
    "pings": b"".join(frame(PING, number & 1, 0, number.to_bytes(8)) for number in range(300)),
    "content_of_streams_that_are_not_open": frame(DATA, 0, 99, b"x") + frame(DATA, PADDED, 99, b"\x02x\0\0"),
}
"""For the proxy nothing but bytes, wherever they stand between two blocks. For the ends some of them are errors."""


def _passing(name: str, data: bytes) -> None:
    def make(path: str) -> Script:
        sender = Sender()
        answers = Sender()
        client = [
            send(HELLO, data, sender.request(1, path, flags=0), data, frame(DATA, END_STREAM, 1, b"in"), data),
            send(sender.request(3, path, *REPLACED), data, sender.request(5, path), data),
            until_ended(3),
            until_kind(GOAWAY),
            close,
        ]
        replies = [
            *(data, answers.answer(1, flags=0), data, frame(DATA, END_STREAM, 1, b"out"), data),
            *(answers.answer(3), data, answers.answer(5), data, frame(GOAWAY, 0, 0, bytes(8))),
        ]
        bodies = [(b"in", b"out"), (b"", b""), (b"", b"")]
        return Script(
            client, [send(settings()), until_ended(3), send(*replies), rest, close], ok(path, 3), bodies=bodies
        )

    make.__name__ = f"passing_{name}"
    check(make)


for passing, data in _PASSING.items():
    _passing(passing, data)


@check
def ping_answered(path: str) -> Script:
    """Both ways, while a stream waits."""
    ping = frame(PING, 0, 0, b"\0\1\2\3\4\5\6\7")
    pong = frame(PING, ACK, 0, b"\0\1\2\3\4\5\6\7")
    client = [send(HELLO, Sender().request(1, path), ping), until_kind(PING, 2), send(pong), until_ended(), close]
    answer = Sender().answer(1)
    server = [send(settings(), ping), until_kind(PING), send(pong), until_kind(PING, 2), send(answer), rest, close]
    return Script(client, server, ok(path))


def _goaway(name: str, *frames: bytes, from_client: bool) -> None:
    """The streams that are open finish."""

    def make(path: str) -> Script:
        asked = Sender().request(1, path, flags=0)
        end = frame(DATA, END_STREAM, 1, b"all")
        answer = Sender().answer(1)
        if from_client:
            client = [send(HELLO, asked, *frames, end), until_ended(), close]
            server = [send(settings()), until_ended(), send(answer), rest, close]
        else:
            client = [send(HELLO, asked), until_kind(GOAWAY, len(frames)), send(end), rest, close]
            server = [send(settings()), until_kind(HEADERS), send(*frames), until_ended(), send(answer), close]
        return Script(client, server, ok(path))

    make.__name__ = f"goaway_{name}"
    check(make)


_last = (0x7FFFFFFF).to_bytes(4)
for who in (True, False):
    side = "client" if who else "server"
    _goaway(f"of_the_{side}", frame(GOAWAY, 0, 0, bytes(8)), from_client=who)
    _goaway(
        f"with_debug_data_of_the_{side}", frame(GOAWAY, 0, 0, _last + b"\0\0\0\x0b" + b"why" * 5000), from_client=who
    )
_goaway(
    "in_two_steps",
    frame(GOAWAY, 0, 0, _last + bytes(4)),
    frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4)),
    from_client=False,
)


@check
def goaway_refuses_the_last_stream(path: str) -> Script:
    """What the server will not process gets no answer, and the connection ends in order."""
    sender = Sender()
    client = [send(HELLO, sender.request(1, path), sender.request(3, path)), rest, close]
    last = frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4))
    server = [send(settings()), until_ended(2), send(last, Sender().answer(1)), close]
    return Script(client, server, [*ok(path), ("GET", path, 0, "upstream_aborted")])


def _reset(name: str, *, by_client: bool, answered: bool) -> None:
    """With every code; the connection goes on."""

    def make(path: str) -> Script:
        sender, answers = Sender(), Sender()
        streams = range(1, 2 * len(ERROR_CODES), 2)
        resets = [frame(RST_STREAM, 0, each, code.to_bytes(4)) for each, code in zip(streams, ERROR_CODES, strict=True)]
        asked = [sender.request(each, path, flags=0) + frame(DATA, 0, each, b"part") for each in streams]
        heads = [answers.answer(each, flags=0) + frame(DATA, 0, each, b"some") for each in streams] if answered else []
        last = 2 * len(ERROR_CODES) + 1
        final = sender.request(last, path)
        begun = until_kind(DATA, len(heads))
        if by_client:
            client = [send(HELLO, *asked), begun, send(*resets, final), until_ended(), close]
            end = [until_ended(1 + len(resets)), send(answers.answer(last)), rest, close]
            server = [send(settings()), until_kind(DATA, len(asked)), send(*heads), *end]
        else:
            client = [send(HELLO, *asked), until_ended(len(resets)), send(final), until_ended(1 + len(resets)), close]
            heard = until_kind(DATA, len(asked))
            server = [
                send(settings()),
                heard,
                send(*heads, *resets),
                until_ended(),
                send(answers.answer(last)),
                rest,
                close,
            ]
        error = "client_aborted" if by_client else "upstream_aborted"
        status = 200 if answered else 0
        records: Sequence[Record] = [("GET", path, status, error)] * len(resets)
        return Script(client, server, [*records, *ok(path)])

    make.__name__ = f"reset_{name}"
    check(make)


_reset("by_the_client", by_client=True, answered=False)
_reset("by_the_server", by_client=False, answered=False)
_reset("by_the_client_in_the_answer", by_client=True, answered=True)
_reset("by_the_server_in_the_answer", by_client=False, answered=True)


@check
def reset_behind_a_whole_answer(path: str) -> Script:
    """An upload that nobody wants: the answer counts (section 8.1)."""
    client = [
        send(HELLO, Sender().request(1, path, method="POST", flags=0), frame(DATA, 0, 1, b"part")),
        until_ended(2),
        close,
    ]
    answer = Sender().answer(1, status=413)
    server = [send(settings()), until_kind(DATA), send(answer, frame(RST_STREAM, 0, 1, bytes(4))), rest, close]
    return Script(client, server, ok(path, method="POST", status=413))


@check
def reset_of_streams_that_are_not_there(path: str) -> Script:
    resets = b"".join(frame(RST_STREAM, 0, each, b"\0\0\0\x08") for each in (0, 2, 99, 1))
    sender = Sender()
    client = [send(HELLO, resets, sender.request(3, path)), until_ended(), close]
    server = [send(settings()), until_ended(5), send(Sender().answer(3)), rest, close]
    return Script(client, server, ok(path))


def _padded(size: int, content: bytes) -> Make:
    """Padding is no content."""

    def make(path: str) -> Script:
        piece = bytes((size,)) + content + bytes(size)
        frames = frame(DATA, PADDED, 1, piece), frame(DATA, PADDED | END_STREAM, 1, piece)
        sender = Sender()
        client = [send(HELLO, sender.request(1, path, flags=0), *frames), until_ended(), close]
        server = [send(settings()), until_ended(), send(Sender().answer(1, flags=0), *frames), rest, close]
        return Script(client, server, ok(path), bodies=[(content * 2, content * 2)])

    make.__name__ = f"content_padded_{size}_{len(content)}"
    return make


for number in (0, 1, 255):
    check(_padded(number, b""))
    check(_padded(number, b"x" * 300))


@check
def content_in_empty_frames(path: str) -> Script:
    pieces = b"".join(frame(DATA, 0, 1, b"") + frame(DATA, 0, 1, bytes((65 + n,))) for n in range(26))
    end = frame(DATA, END_STREAM, 1, b"")
    client = [send(HELLO, Sender().request(1, path, flags=0), pieces, end), until_ended(), close]
    server = [send(settings()), until_ended(), send(Sender().answer(1, flags=0), pieces, end), rest, close]
    letters = bytes(range(65, 91))
    return Script(client, server, ok(path), bodies=[(letters, letters)])


@check
def window_that_is_opened_late(path: str) -> Script:
    """The server lets nothing come until it says so, stream by stream and then for the connection, and the client likewise."""
    sender, answers = Sender(), Sender()
    update = frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\5") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\5")
    client = [
        send(PREFACE, settings((WINDOW, 0)), sender.request(1, path, flags=0)),
        until_kind(WINDOW_UPDATE, 2),
        send(SETTINGS_ACK, frame(DATA, 0, 1, b"first")),
        until_kind(WINDOW_UPDATE, 4),
        send(frame(DATA, END_STREAM, 1, b"later")),
        until_kind(HEADERS),
        send(update),
        until_kind(DATA),
        send(settings((WINDOW, 100))),
        until_ended(),
        close,
    ]
    server = [
        send(settings((WINDOW, 0))),
        until_kind(HEADERS),
        send(update),
        until_kind(DATA),
        send(update),
        until_ended(),
        send(SETTINGS_ACK, answers.answer(1, flags=0)),
        until_kind(WINDOW_UPDATE, 2),
        send(frame(DATA, 0, 1, b"reply")),
        until_kind(SETTINGS, 3),
        send(frame(DATA, END_STREAM, 1, b"more")),
        rest,
        close,
    ]
    return Script(client, server, ok(path), bodies=[(b"firstlater", b"replymore")])


@check
def window_updates_at_their_limits(path: str) -> Script:
    """Zero and too much are errors between the ends."""
    odd = b"".join(
        frame(WINDOW_UPDATE, 0, each, size) for each in (0, 1, 7) for size in (bytes(4), b"\xff\xff\xff\xff")
    )
    script = serves()
    return Script([send(HELLO, odd, Sender().request(1, path), odd), until_ended(), close], script, ok(path))
