"""Strategies for HTTP/1.x conversations, valid ones and broken ones, and ways to play them through a tap."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.taps.rig import INJECTED, Wire

TOKENS = st.text("abcXYZ019-_.!#$%&'*+^`|~", min_size=1, max_size=8).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12).map(
    lambda text: text.encode("latin-1")
)
TARGETS = st.one_of(
    st.sampled_from([b"/", b"/a?b=c", b"http://a.example/x", b"*", b"/\xff\xfe"]),
    st.text("abc/?&=%[]|{}", max_size=20).map(lambda text: b"/" + text.encode()),
)
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"x-own"])
BODIES = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"\r"])
)
RESERVED = (b"x-sp-", b"x-service", b"x-current", b"host", b"upgrade", b"transfer", b"content-l", b"trace")

EXTENSIONS = st.sampled_from([b"", b";a", b";a=1", b' ; a="b;c"', b";x=y;z"])
CASES: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from([bytes, bytes.lower, bytes.upper, bytes.title])
TRAILERS = st.sampled_from([b"", b"", b"Digest: x\r\n", b"Grpc-Status: 0\r\nGrpc-Message:\r\n"])


@st.composite
def fields(draw: st.DrawFn, *special: tuple[bytes, bytes]) -> bytes:
    """Field lines, the special ones somewhere among others, in any case."""
    others = [
        pair
        for pair in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=4))
        if not pair[0].lower().startswith(RESERVED)
    ]
    pairs = draw(st.permutations([*others, *special]))
    blank = draw(st.sampled_from([b"", b" ", b"\t "]))
    return b"".join(draw(CASES)(name) + b":" + blank + value + b"\r\n" for name, value in pairs)


@st.composite
def chunked(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A coded body, its content and its trailers."""
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    coded = b"".join(
        draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(piece) + draw(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
        for piece in pieces
    )
    trailers = draw(TRAILERS)
    return coded + b"0" + draw(EXTENSIONS) + b"\r\n" + trailers + b"\r\n", b"".join(pieces), trailers


@dataclass
class Message:
    """One message with what a reader should find in it."""

    head: bytes
    coded: bytes = b""
    body: bytes = b""
    trailers: bytes = b""

    @property
    def data(self) -> bytes:
        return self.head + self.coded


@dataclass
class Exchanged:
    """A request, what must be forwarded of it, and its answer."""

    method: bytes
    target: bytes
    request: Message
    forwarded_head: bytes
    interim: bytes
    response: Message
    status: int
    until_close: bool = False
    waits: bool = False
    """The client sends nothing more until it has been answered (it asked for an upgrade)."""
    empty_lines: bytes = b""

    @property
    def sent(self) -> bytes:
        return self.empty_lines + self.request.data

    @property
    def forwarded(self) -> bytes:
        return self.empty_lines + self.forwarded_head + self.request.coded

    @property
    def answer(self) -> bytes:
        return self.interim + self.response.data


@st.composite
def exchanges(draw: st.DrawFn, *, last: bool = False, replaced: bool = True) -> Exchanged:
    method, target = draw(METHODS), draw(TARGETS)
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    special = [(b"Host", b"a.example")] if draw(st.booleans()) else []
    framing = draw(st.sampled_from(["none", "none", "fixed", "chunked"]))
    coded = body = trailers = b""
    if framing == "fixed":
        coded = body = draw(BODIES)
        special.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked" and version == b"1.1":
        coded, body, trailers = draw(chunked())
        special.append((b"Transfer-Encoding", draw(st.sampled_from([b"chunked", b"Chunked", b"gzip, chunked"]))))
    waits = draw(st.integers(0, 5)) == 0
    if waits:
        special.append((b"Upgrade", b"h2c"))
    number = b""
    if replaced and draw(st.booleans()):
        number = draw(st.sampled_from([b"4", b"none"]))
        special += [(b"x-sp-num", number), (b"x-sp-service-name", b"other")]
    lines = draw(fields(*special))
    first = b"%b %b HTTP/%b\r\n" % (method, target, version)
    kept = b"".join(
        line + b"\r\n"
        for line in lines.split(b"\r\n")[:-1]
        if not line.lower().startswith((b"x-sp-num:", b"x-sp-service-name:"))
    )
    added = INJECTED.replace(b"x-sp-num: 1", b"x-sp-num: 5") if number == b"4" else INJECTED
    response, status, until_close = draw(responses(method, last=last))
    return Exchanged(
        method,
        target,
        Message(first + lines + b"\r\n", coded, body, trailers),
        first + kept + added + b"\r\n",
        b"".join(
            draw(
                st.lists(
                    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nA: b\r\n\r\n"]), max_size=2
                )
            )
        ),
        response,
        status,
        until_close,
        waits,
        b"\r\n" * draw(st.sampled_from([0, 0, 0, 1, 2])),
    )


@st.composite
def responses(draw: st.DrawFn, method: bytes, *, last: bool) -> tuple[Message, int, bool]:
    status = draw(st.sampled_from([200, 200, 201, 204, 304, 404, 500, 600]))
    framing = draw(st.sampled_from(["fixed", "chunked", "close" if last else "fixed"]))
    special = []
    coded = body = trailers = b""
    if framing == "fixed":
        coded = body = draw(BODIES)
        special.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        coded, body, trailers = draw(chunked())
        special.append((b"Transfer-Encoding", b"chunked"))
    else:
        coded = body = draw(BODIES)
    bodyless = method == b"HEAD" or status in {204, 304}
    if bodyless:
        coded = body = trailers = b""
    if draw(st.integers(0, 3)) == 0:
        special.append((b"Traceparent", b"00-abc"))
    reason = draw(st.sampled_from([b" OK", b" ", b"", b" \xe4 b"]))
    head = b"HTTP/1.1 %d%b\r\n" % (status, reason) + draw(fields(*special)) + b"\r\n"
    return Message(head, coded, body, trailers), status, framing == "close" and not bodyless


@st.composite
def conversations(draw: st.DrawFn, *, replaced: bool = True) -> list[Exchanged]:
    before = draw(st.lists(exchanges(replaced=replaced), max_size=3))
    return [*before, draw(exchanges(last=True, replaced=replaced))]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("cs"), st.sampled_from([1, 1, 2, 3, 9, 20, 50, 200, 0, 0, 0, -1, -1, -2, -3])),
        st.just(("t", 0)),
    ),
    max_size=60,
)
"""Who sends how many bytes; 0: up to the end of the next head; a negative number: so many bytes less. ``t`` is a timeout."""


def reach(data: bytes, at: int, size: int) -> int:
    """Where a step ends that begins at ``at``."""
    if size > 0:
        return min(at + size, len(data))
    end = data.find(b"\r\n\r\n", at)
    return max(at, end + 4 + size) if end >= 0 else len(data)


def play(wire: Wire, conversation: list[Exchanged], steps: list[tuple[str, int]], *, timeouts: bool) -> Wire:
    """Send the conversation in these steps, each moved forward as far as causality allows; the rest at once."""
    sent = b"".join(each.sent for each in conversation)
    answers = b"".join(each.answer for each in conversation)
    heads, bodies, ends = [], [], []
    at = answered = 0
    for each in conversation:
        heads.append(at + len(each.empty_lines) + len(each.request.head))
        at += len(each.sent)
        bodies.append(at)
        answered += len(each.answer)
        ends.append(answered)
    client_at = server_at = 0

    def client_limit() -> int:
        for each, body, end in zip(conversation, bodies, ends, strict=True):
            if each.waits and server_at < end:
                return body
        return len(sent)

    def server_limit() -> int:
        return max((end for head, end in zip(heads, ends, strict=True) if head <= client_at), default=0)

    rest = [("c", len(sent)), ("s", len(answers))] * len(conversation)
    for what, size in [*steps, *rest]:
        if what == "t" and timeouts:
            wire.timeout()
        elif what == "c" and (end := min(reach(sent, client_at, size), client_limit())) > client_at:
            wire.client(sent[client_at:end])
            client_at = end
        elif what == "s" and (end := min(reach(answers, server_at, size), server_limit())) > server_at:
            wire.server(answers[server_at:end])
            server_at = end
    assert (client_at, server_at) == (len(sent), len(answers))
    return wire.client_eof().server_eof().close()


NASTY = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"\x00",
        b" ",
        b":",
        b"\t",
        b"\xff",
        b"\r\n ",
        b"\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"\r\nContent-Length: 3",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\nUpgrade: x",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 S\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"0\r\n\r\n",
        b"5",
        b";",
        b"fffffffffffffff",
    ]
)
MUTATIONS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 12), st.one_of(NASTY, st.just(b""))), max_size=5)


def mutated(data: bytes, mutations: list[tuple[int, int, bytes]]) -> bytes:
    """The data with pieces of it replaced."""
    for place, length, piece in mutations:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data
