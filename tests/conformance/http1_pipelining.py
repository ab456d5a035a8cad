"""Requests that do not wait for answers."""

from tests.conformance.conversation import (
    HEAD_END,
    Check,
    Record,
    Step,
    answers,
    close,
    half_close,
    pause,
    rest,
    send,
    slowly,
    until,
)
from tests.conformance.http1_checks import CHUNKED, OK, head


def numbered(number: int, method: bytes = b"GET", *fields: bytes) -> bytes:
    return head(method + b" /%d HTTP/1.1" % number, *fields)


def records(count: int) -> tuple[Record, ...]:
    return tuple(("GET", f"/{number}", 200) for number in range(count))


def pipelined(count: int) -> list[Step]:
    return [send(b"".join(numbered(number) for number in range(count)))]


MIXED = (
    numbered(0)
    + numbered(1, b"POST", b"Content-Length: 5")
    + b"hello"
    + numbered(2, b"HEAD")
    + b"\r\n"
    + numbered(3, b"PUT", CHUNKED)
    + b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    + numbered(4, b"DELETE")
    + numbered(5)
)
MIXED_ANSWERS = (
    OK
    + b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    + b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    + b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"
    + b"HTTP/1.1 204 No Content\r\n\r\n"
    + b"HTTP/1.1 200 OK\r\n\r\nuntil the end"
)
MIXED_RECORDS: tuple[Record, ...] = (
    ("GET", "/0", 200),
    ("POST", "/1", 201),
    ("HEAD", "/2", 200),
    ("PUT", "/3", 304),
    ("DELETE", "/4", 204),
    ("GET", "/5", 200),
)

PIPELINING = [
    Check("three", [*pipelined(3), until(b"done", 3), close], answers(OK * 3, count=3), records(3)),
    Check(
        "three-answered-one-by-one",
        [*pipelined(3), until(b"done", 3), close],
        [until(HEAD_END, 3), send(OK), pause(0.1), send(OK), pause(0.1), send(OK), rest, close],
        records(3),
    ),
    Check(
        "three-bytewise",
        [slowly(b"".join(numbered(n) for n in range(3)), 0.001), until(b"done", 3), close],
        answers(OK * 3, count=3),
        records(3),
        late=0.25,
    ),
    Check(
        "1000", [*pipelined(1000), until(b"done", 1000), close], answers(OK * 1000, count=1000), records(1000), late=0.5
    ),
    Check(
        "1000-answered-as-they-come",
        [*pipelined(1000), until(b"done", 1000), close],
        [*(step for n in range(1000) for step in (until(HEAD_END, n + 1), send(OK))), rest, close],
        records(1000),
        late=3.0,
    ),
    Check(
        "mixed",
        [send(MIXED), rest, close],
        [until(b"/5 HTTP"), until(HEAD_END, 7), send(MIXED_ANSWERS), close],
        MIXED_RECORDS,
    ),
    Check(
        "mixed-bytewise",
        [slowly(MIXED, 0.001), rest, close],
        [until(b"/5 HTTP"), until(HEAD_END, 7), slowly(MIXED_ANSWERS, 0.001), close],
        MIXED_RECORDS,
        late=0.25,
    ),
    Check("half-closed-behind", [*pipelined(2), half_close, rest, close], [rest, send(OK * 2), close], records(2)),
    Check(
        "answer-ends-it-early",
        [*pipelined(3), rest, close],
        [until(HEAD_END, 3), send(b"HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"), close],
        (("GET", "/0", 400), ("GET", "/1", 0, "upstream_aborted"), ("GET", "/2", 0, "upstream_aborted")),
    ),
    Check(
        "first-answer-until-close",
        [*pipelined(2), rest, close],
        [until(HEAD_END, 2), send(b"HTTP/1.1 200 OK\r\n\r\nall"), close],
        (("GET", "/0", 200), ("GET", "/1", 0, "upstream_aborted")),
    ),
    Check(
        "behind-connection-close",
        [send(numbered(0, b"GET", b"Connection: close") + numbered(1)), rest, close],
        [until(HEAD_END, 2), send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"), close],
        (("GET", "/0", 200), ("GET", "/1", 0, "upstream_aborted")),
    ),
    Check(
        "broken-behind-a-good-one",
        [send(numbered(0) + b"GET / HTTP/1.1\r\nHost : h\r\n\r\n"), until(b"done", 2), close],
        answers(OK * 2, count=2),
        (("GET", "/0", 200),),
    ),
    Check(
        "broken-chunks-behind-a-good-one",
        [send(numbered(0) + numbered(1, b"POST", b"Transfer-Encoding: chunked") + b"zz\r\n"), until(b"done", 2), close],
        answers(OK * 2, after=b"zz\r\n"),
        (("GET", "/0", 200),),
        injected=2,
    ),
    Check(
        "broken-behind-one-answered-until-close",
        [send(numbered(0) + b"GET / HTTP/1.1\r\nHost : h\r\n\r\n"), rest, close],
        [until(HEAD_END, 2), send(b"HTTP/1.1 200 OK\r\n\r\nall"), close],
        (("GET", "/0", 200),),
    ),
    Check(
        "answer-to-half-a-head",
        [send(numbered(0)), until(b"done"), send(b"GET /1 HTTP/1.1\r\nHo"), rest, close],
        [until(HEAD_END), send(OK), until(b"\r\nHo", 2), send(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), close],
        (("GET", "/0", 200),),
        late=0.2,
    ),
    Check(
        "good-behind-a-broken-one",
        [send(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + numbered(0)), until(b"done", 2), close],
        answers(OK * 2, count=2),
        (),
        injected=0,
    ),
    Check(
        "garbage-behind-a-length",
        [send(numbered(0, b"POST", b"Content-Length: 3") + b"hello"), until(b"done"), close],
        answers(OK, after=b"hello"),
        (("POST", "/0", 200),),
    ),
    Check(
        "bytes-behind-the-answer-of-an-early-close",
        [send(numbered(0)), until(b"done"), send(numbered(1)), rest, close],
        [until(HEAD_END), send(OK), until(HEAD_END, 2), close],
        (("GET", "/0", 200), ("GET", "/1", 0, "upstream_aborted")),
    ),
]
