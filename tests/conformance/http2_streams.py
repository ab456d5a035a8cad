"""Exchanges: interim and final answers, trailers, tunnels, many streams at a time (RFC 9113, section 8; RFC 8441), gRPC's
messages, and connections that end before their time.
"""

import struct

from tests.conformance.http2_blocks import REPLACED
from tests.conformance.http2_play import Make, Record, Script, check
from tests.conformance.http2_settings import CONNECT_PROTOCOL, MAX_STREAMS, ok, serves
from tests.conformance.http2_wire import (
    DATA,
    END_STREAM,
    HEADERS,
    HELLO,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Field,
    Sender,
    Step,
    block_frames,
    close,
    frame,
    half_close,
    request_fields,
    reset,
    rest,
    send,
    settings,
    until_bytes,
    until_ended,
    until_kind,
)


@check
def trailers_both_ways(path: str) -> Script:
    requests, answers = Sender(), Sender()
    asked = b"".join(
        requests.request(stream, path, *more, method="POST", flags=0)
        + frame(DATA, 0, stream, b"in")
        + requests.trailers(stream, ("x-sum", "12"), ("x-a", "b"))
        for stream, more in ((1, ()), (3, REPLACED), (5, ()))
    )
    answered = b"".join(
        answers.answer(stream, flags=0)
        + frame(DATA, 0, stream, b"out")
        + answers.trailers(stream, ("x-end", "yes"), ("x-sum", "12"))
        for stream in (1, 3, 5)
    )
    client = [send(HELLO, asked), until_ended(3), close]
    server = [send(settings()), until_ended(3), send(answered), rest, close]
    trailers = [(b"x-sum: 12\r\nx-a: b\r\n", b"x-end: yes\r\nx-sum: 12\r\n")] * 3
    return Script(client, server, ok(path, 3, "POST"), bodies=[(b"in", b"out")] * 3, trailers=trailers)


@check
def trailers_in_many_frames(path: str) -> Script:
    requests, answers = Sender(), Sender()
    head = requests.request(1, path, flags=0)
    asked = head + block_frames(1, requests.block([("x-sum", "12")]), sizes=[1, 0, 2])
    head = answers.answer(1, flags=0)
    answered = head + block_frames(1, answers.block([("x-end", "yes")]), sizes=[1, 0, 2])
    server = [send(settings()), until_kind(HEADERS, 2), until_ended(), send(answered), rest, close]
    trailers = [(b"x-sum: 12\r\n", b"x-end: yes\r\n")]
    return Script([send(HELLO, asked), until_ended(), close], server, ok(path), trailers=trailers)


@check
def interim_answers(path: str) -> Script:
    answers = Sender()
    interim = b"".join(
        answers.answer(1, ("link", f"</{number}>"), status=status, flags=0)
        for number, status in enumerate((100, 102, 103, 103, 199))
    )
    asked = Sender().request(1, path, ("expect", "100-continue"), method="POST", flags=0)
    client = [send(HELLO, asked), until_kind(HEADERS, 5), send(frame(DATA, END_STREAM, 1, b"in")), until_ended(), close]
    final = answers.answer(1, status=201, flags=0) + frame(DATA, END_STREAM, 1, b"out")
    server = [send(settings()), until_kind(HEADERS), send(interim), until_ended(), send(final), rest, close]
    return Script(client, server, ok(path, 1, "POST", 201), bodies=[(b"in", b"out")])


def _status(status: int, method: str = "GET", *fields: Field) -> Make:
    def make(path: str) -> Script:
        client = [send(HELLO, Sender().request(1, path, method=method)), until_ended(), close]
        server = [send(settings()), until_ended(), send(Sender().answer(1, *fields, status=status)), rest, close]
        return Script(client, server, ok(path, 1, method, status))

    make.__name__ = f"answer_{status}_to_{method.lower()}"
    return make


check(_status(200, "HEAD", ("content-length", "1000")))
check(_status(204, "DELETE"))
check(_status(304, "GET", ("content-length", "1000"), ("etag", '"a"')))
check(_status(200, "OPTIONS"))
check(_status(503, "PATCH"))
check(_status(200, "M-SEARCH"))
check(_status(599))


@check
def answer_before_the_request_has_ended(path: str) -> Script:
    asked = Sender().request(1, path, method="POST", flags=0)
    client = [send(HELLO, asked), until_ended(), send(frame(DATA, END_STREAM, 1, b"late")), close]
    server = [send(settings()), until_kind(HEADERS), send(Sender().answer(1)), rest, close]
    return Script(client, server, ok(path, 1, "POST"), bodies=[(b"late", b"")])


@check
def answer_without_status(path: str) -> Script:
    """Malformed: the ends' affair; there is no exchange to tell of."""
    sender = Sender()
    client = [send(HELLO, sender.request(1, path), sender.request(3, path)), until_ended(2), close]
    answers = Sender()
    bad = block_frames(1, answers.block([("x-a", "b")]))
    server = [send(settings()), until_ended(2), send(bad, answers.answer(3, ("x-a", "b"))), rest, close]
    return Script(client, server, ok(path), injected=2)


@check
def requests_without_all_of_their_pseudo_fields(path: str) -> Script:
    """Malformed likewise, but readable: captured as far as they go."""
    sender = Sender()
    fields = request_fields(path)
    kept = [[each for each in fields if each[0] != left] for left in (":scheme", ":authority")]
    requests = [block_frames(1 + 2 * n, sender.block(each)) for n, each in enumerate(kept)]
    client = [send(HELLO, *requests), until_ended(2), close]
    return Script(client, serves(2), ok(path, 2))


def _tunnel(name: str, fields: list[Field], status: int, recorded: int) -> None:
    def make(path: str) -> Script:
        target = path if any(key == ":path" for key, _ in fields) else f"{path[1:]}:80"
        here = [(key, path if key == ":path" else target if key == ":authority" else value) for key, value in fields]
        requests, answers = Sender(), Sender()
        opened = block_frames(1, requests.block(here), flags=0)
        client = [
            send(PREFACE, settings((CONNECT_PROTOCOL, 1))),
            until_kind(SETTINGS),
            send(opened, frame(DATA, 0, 1, b"\x81\x02hi")),
            until_kind(DATA),
            send(frame(DATA, END_STREAM, 1, b"bye")),
            until_ended(),
            send(requests.request(3, path)),
            until_ended(2),
            close,
        ]
        server = [
            send(settings((CONNECT_PROTOCOL, 1))),
            until_kind(DATA),
            send(answers.answer(1, status=status, flags=0), frame(DATA, 0, 1, b"\x81\x02yo")),
            until_ended(),
            send(frame(DATA, END_STREAM, 1, b"end")),
            until_ended(2),
            send(answers.answer(3)),
            rest,
            close,
        ]
        records = [("CONNECT", target, status, ""), *ok(path)]
        content = (b"\x81\x02hi", b"") if recorded == 2 else (b"\x81\x02hibye", b"\x81\x02yoend")
        return Script(client, server, records, bodies=[content, (b"", b"")])

    make.__name__ = f"tunnel_{name}"
    check(make)


_connect: list[Field] = [(":method", "CONNECT"), (":authority", "")]
_websocket: list[Field] = [
    *((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")),
    *((":path", ""), (":authority", "orders:80"), ("sec-websocket-version", "13")),
]
_tunnel("connect", _connect, 200, 2)
_tunnel("connect_refused", _connect, 407, 4)
_tunnel("websocket", _websocket, 200, 2)
_tunnel("websocket_refused", _websocket, 403, 4)


@check
def a_thousand_streams_interleaved(path: str) -> Script:
    """All open at a time; content in pieces round robin; answered from the last to the first."""
    count = 1000
    streams = range(1, 2 * count, 2)
    requests, answers = Sender(), Sender()
    heads = b"".join(requests.request(each, path, ("x-n", str(each)), method="POST", flags=0) for each in streams)
    pieces = b"".join(frame(DATA, 0, each, b"%d," % each) for _ in range(3) for each in streams)
    ends = b"".join(frame(DATA, END_STREAM, each, b"end") for each in reversed(streams))
    answered = b"".join(answers.answer(each, ("x-n", str(each)), flags=0) for each in reversed(streams))
    client = [send(HELLO), until_kind(SETTINGS), send(heads, pieces, ends), until_ended(count), close]
    server = [send(settings((MAX_STREAMS, 5000))), until_ended(count), send(answered, pieces, ends), rest, close]
    bodies = [(b"%d," % each * 3 + b"end",) * 2 for each in streams]
    return Script(client, server, ok(path, count, "POST"), bodies=[(one, other) for one, other in bodies])


def _message(content: bytes) -> bytes:
    return struct.pack(">BI", 0, len(content)) + content


@check
def grpc_messages_cut_anywhere(path: str) -> Script:
    """Messages over frames and frames over messages; a status in the trailers, one in the only block, one that is late."""
    call: tuple[Field, ...] = (
        *(("content-type", "application/grpc+proto"), ("te", "trailers"), ("grpc-timeout", "10S")),
        *(("trace-bin", "AAEC/w"), ("grpc-encoding", "identity"), ("user-agent", "grpc-c/1")),
    )
    stream = b"".join(_message(bytes((65 + n,)) * n) for n in range(40))
    requests, answers = Sender(), Sender()
    head = requests.request(1, path, *call, method="POST", flags=0)
    asked = head + b"".join(frame(DATA, 0, 1, stream[at : at + 7]) for at in range(0, len(stream), 7))
    asked += frame(DATA, END_STREAM, 1, b"")
    asked += requests.request(3, path, *call, *REPLACED, method="POST", flags=0) + frame(DATA, END_STREAM, 3, stream)
    grpc = ("content-type", "application/grpc")
    answered = answers.answer(1, grpc, flags=0)
    answered += b"".join(frame(DATA, 0, 1, stream[at : at + 11]) for at in range(0, len(stream), 11))
    answered += answers.trailers(1, ("grpc-status", "0"), ("grpc-message", "caf%C3%A9"), ("details-bin", "AAEC/w"))
    answered += answers.answer(3, grpc, ("grpc-status", "7"), ("grpc-message", "no"))
    client = [send(HELLO, asked), until_ended(2), close]
    server = [send(settings()), until_ended(2), send(answered), rest, close]
    trailers = [(b"", b"grpc-status: 0\r\ngrpc-message: caf%C3%A9\r\ndetails-bin: AAEC/w\r\n"), (b"", b"")]
    bodies = [(stream, stream), (stream, b"")]
    return Script(client, server, ok(path, 2, "POST"), bodies=bodies, trailers=trailers)


@check
def grpc_deadline(path: str) -> Script:
    """The client has waited long enough and says so; the server's late answer is nobody's."""
    asked = Sender().request(1, path, ("grpc-timeout", "1m"), method="POST")
    gone = frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
    client = [send(HELLO, asked, gone), until_kind(DATA), close]
    answer = Sender().answer(1, flags=0) + frame(DATA, END_STREAM, 1, b"late")
    server = [send(settings()), until_kind(RST_STREAM), send(answer), rest, close]
    return Script(client, server, [("POST", path, 0, "client_aborted")])


# ---- ends before their time


@check
def client_resets_the_connection(path: str) -> Script:
    client = [send(HELLO, Sender().request(1, path)), until_kind(DATA), reset]
    answer = Sender().answer(1, flags=0) + frame(DATA, 0, 1, b"some")
    server = [send(settings()), until_ended(), send(answer), rest, close]
    return Script(client, server, [("GET", path, 200, "client_aborted")])


@check
def server_resets_the_connection(path: str) -> Script:
    client = [send(HELLO, Sender().request(1, path)), rest, close]
    server = [send(settings()), until_ended(), reset]
    return Script(client, server, [("GET", path, 0, "upstream_aborted")])


@check
def server_closes_in_the_answer(path: str) -> Script:
    """Cut off in the middle of a frame: what has come of it arrives."""
    client = [send(HELLO, Sender().request(1, path)), rest, close]
    answer = Sender().answer(1, flags=0) + frame(DATA, END_STREAM, 1, b"half", length=10)
    server = [send(settings()), until_ended(), send(answer), close]
    return Script(client, server, [("GET", path, 200, "upstream_aborted")])


def _cut_off(name: str, data: bytes) -> None:
    """One end closes in the middle of a frame that is held to be seen whole."""

    def of_client(path: str) -> Script:
        client = [send(HELLO, Sender().request(1, path)), until_ended(), send(data), half_close, rest, close]
        server = [send(settings()), until_ended(), send(Sender().answer(1)), rest, close]
        return Script(client, server, ok(path))

    def of_server(path: str) -> Script:
        client = [send(HELLO, Sender().request(1, path)), rest, close]
        return Script(client, [send(settings()), until_ended(), send(Sender().answer(1), data), close], ok(path))

    of_client.__name__, of_server.__name__ = f"cut_off_{name}_by_the_client", f"cut_off_{name}_by_the_server"
    check(of_client)
    check(of_server)


_cut_off("frame_header", b"\0\0\x10\1")
_cut_off("headers", frame(HEADERS, 5, 3, b"\x82\x86", length=100))
_cut_off("block", frame(HEADERS, 1, 3, b"\x82\x86"))
_cut_off("settings", frame(SETTINGS, 0, 0, b"\0\1\0", length=12))
_cut_off("reset", frame(RST_STREAM, 0, 1, b"\0\0", length=4))


# ---- not quite HTTP/2


@check
def upgrade_from_http1(path: str) -> Script:
    """RFC 7540, section 3.2: the request in HTTP/1.1, its answer on stream 1, which is the record's."""
    ask = f"GET {path} HTTP/1.1\r\nhost: orders\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    answer = switch + settings() + Sender().answer(1, flags=0) + frame(DATA, END_STREAM, 1, b"over h2c")
    done = b"over h2c"

    def until_done(token: bytes) -> Step:
        return lambda peer: peer.take(lambda: token in peer.received)

    client = [send(ask.encode()), until_done(done), send(HELLO), close]
    server = [until_done(b"\r\n\r\n"), send(answer), until_done(HELLO), rest, close]
    return Script(client, server, [("GET", path, 200, "")], injected=0)


def _not_http2(path: str) -> list[Record]:
    return [("GET", path, 0, "protocol_error")]


@check
def server_that_speaks_http1(path: str) -> Script:
    """Its refusal of the preface reaches the client as it is."""
    refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n"
    client = [send(HELLO, Sender().request(1, path)), rest, close]
    return Script(
        client, [until_bytes(24), until_ended(), send(refusal), close], _not_http2(path), raw="h2_server_preface"
    )


@check
def server_that_speaks_http1_behind_another_of_ours(path: str) -> Script:
    refusal = b"HTTP/1.0 505 No\r\n\r\n" * 1000
    client = [send(HELLO, Sender().request(1, path, *REPLACED)), rest, close]
    return Script(client, [until_ended(), send(refusal), close], _not_http2(path), raw="h2_server_preface")


@check
def server_with_a_few_bytes_of_something_else(path: str) -> Script:
    """Fewer than a frame's header, and it waits for an answer to them."""
    client = [send(HELLO, Sender().request(1, path)), until_bytes(5), half_close, rest, close]
    return Script(client, [until_ended(), send(b"220 a"), rest, close], _not_http2(path), raw="h2_server_preface")


@check
def server_that_says_nothing(path: str) -> Script:
    client = [send(HELLO, Sender().request(1, path)), rest, close]
    return Script(client, [until_ended(), close], [("GET", path, 0, "upstream_aborted")])


@check
def server_whose_first_frame_is_no_settings(path: str) -> Script:
    """An error that the client will see to."""
    client = [send(HELLO, Sender().request(1, path)), rest, close]
    server = [until_ended(), send(Sender().answer(1)), close]
    return Script(client, server, _not_http2(path), raw="h2_server_preface")


@check
def client_that_begins_anew(path: str) -> Script:
    """A second preface is no frame that anybody sends: 0x505249 bytes of an unknown kind."""
    client = [send(HELLO, PREFACE, settings()), rest, close]
    return Script(client, [send(settings()), until_bytes(24 + 9 + 24 + 9), close])


@check
def almost_the_preface(path: str) -> Script:
    wrong = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!" + settings()
    return Script([send(wrong), rest, close], [until_bytes(len(wrong)), send(b"what?"), close], raw="h2_preface")
