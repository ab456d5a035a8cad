"""Every way in which a connection ends, from either side, at any moment."""

from tests.conformance.conversation import (
    HEAD_END,
    Check,
    Record,
    answers,
    close,
    half_close,
    pause,
    reset,
    rest,
    send,
    stop_reading,
    until,
)
from tests.conformance.http1_checks import GET, OK, POST, head

UPLOAD = head(b"POST /t HTTP/1.1", b"Content-Length: 100")
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
ABORTED_UP: Record = ("GET", "/t", 0, "upstream_aborted")

ENDINGS = [
    Check("client-connects-and-closes", [close], [rest, close], ()),
    Check("client-connects-and-resets", [pause(0.1), reset], [rest, close], ()),
    Check("server-closes-at-once", [rest, close], [close], ()),
    Check("server-resets-at-once", [rest, close], [pause(0.1), reset], ()),
    Check("client-half-closes-at-once", [half_close, rest, close], [rest, send(b"bye"), close], ()),
    Check("server-half-closes-at-once", [rest, send(b"bye"), close], [half_close, rest, close], ()),
    Check(
        "server-half-closes-and-a-request-comes",
        [rest, send(head()), half_close, close],
        [half_close, rest, close],
        (ABORTED_UP,),
    ),
    Check("half-close-behind-the-request", [send(head()), half_close, rest, close], [rest, send(OK), close], (GET,)),
    Check(
        "half-close-before-the-answer-ends",
        [send(head()), until(b"half"), half_close, rest, close],
        [until(HEAD_END), send(HALF), rest, send(b"x" * 96), close],
        (GET,),
    ),
    Check(
        "half-close-in-the-head",
        [send(b"GET /t HT"), half_close, rest, close],
        [rest, send(b"HTTP/1.1 400 Bad\r\n\r\n"), close],
        (),
        injected=0,
    ),
    Check(
        "half-close-in-the-body",
        [send(UPLOAD + b"half"), half_close, rest, close],
        [rest, send(b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\ndone"), close],
        (("POST", "/t", 400),),
    ),
    Check(
        "server-half-closes-behind-the-answer",
        [send(head()), rest, pause(0.1), close],
        [until(HEAD_END), send(OK), half_close, rest, close],
        (GET,),
    ),
    Check(
        "server-half-closes-before-the-request-ends",
        [send(UPLOAD), rest, send(b"x" * 100), close],
        [until(HEAD_END), send(OK), half_close, rest, close],
        (POST,),
    ),
    Check(
        "client-closes-before-the-answer",
        [send(head()), pause(0.1), close],
        [until(HEAD_END), rest, close],
        (("GET", "/t", 0, "client_aborted|upstream_aborted"),),
    ),
    Check(
        "client-resets-before-the-answer",
        [send(head()), pause(0.1), reset],
        [until(HEAD_END), rest, close],
        (("GET", "/t", 0, "client_aborted"),),
    ),
    Check(
        "client-resets-in-the-answer",
        [send(head()), until(b"half"), pause(0.1), reset],
        [until(HEAD_END), send(HALF), rest, close],
        (("GET", "/t", 200, "client_aborted"),),
    ),
    Check(
        "client-resets-in-the-body",
        [send(UPLOAD + b"half"), pause(0.2), reset],
        [until(b"half"), rest, close],
        (("POST", "/t", 0, "client_aborted"),),
    ),
    Check(
        "client-resets-in-the-head",
        [send(b"GET /t HT"), pause(0.4), reset],
        [until(b"HT"), rest, close],
        (),
        injected=0,
        late=0.25,
    ),
    Check("client-resets-when-idle", [send(head()), until(b"done"), pause(0.1), reset], answers(OK), (GET,)),
    Check(
        "server-resets-before-the-answer",
        [send(head()), rest, close],
        [until(HEAD_END), pause(0.1), reset],
        (ABORTED_UP,),
    ),
    Check(
        "server-resets-in-the-answer",
        [send(head()), rest, close],
        [until(HEAD_END), send(HALF), pause(0.2), reset],
        (("GET", "/t", 200, "upstream_aborted"),),
    ),
    Check(
        "server-resets-until-close-body",
        [send(head()), rest, close],
        [until(HEAD_END), send(b"HTTP/1.1 200 OK\r\n\r\nhalf"), pause(0.2), reset],
        (("GET", "/t", 200, "upstream_aborted"),),
    ),
    Check(
        "server-resets-behind-the-answer",
        [send(head()), until(b"done"), rest, close],
        [until(HEAD_END), send(OK), pause(0.2), reset],
        (GET,),
    ),
    Check(
        "server-resets-in-the-upload",
        [send(UPLOAD + b"half"), rest, close],
        [until(b"half"), pause(0.1), reset],
        (("POST", "/t", 0, "upstream_aborted"),),
    ),
    Check(
        "server-closes-with-unread-bytes",
        [send(UPLOAD + b"x" * 100), rest, close],
        [until(HEAD_END), pause(0.2), send(OK), close],
        (POST,),
    ),
    Check(
        "server-closes-when-idle",
        [send(head()), until(b"done"), rest, close],
        [until(HEAD_END), send(OK), pause(0.2), close],
        (GET,),
    ),
    Check(
        "server-says-408-when-idle",
        [send(head()), rest, close],
        [
            until(HEAD_END),
            send(OK),
            pause(0.2),
            send(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
            close,
        ],
        (GET,),
    ),
    Check(
        "server-stops-reading",
        [send(UPLOAD), pause(0.2), send(b"x" * 100), until(b"done"), close],
        [until(HEAD_END), stop_reading, pause(0.4), send(OK), close],
        (POST,),
        marks=False,
    ),
    Check("both-close-at-once", [send(head()), until(b"done"), close], [until(HEAD_END), send(OK), close], (GET,)),
    Check("both-half-close", [half_close, rest, close], [half_close, rest, close], ()),
    Check(
        "reset-behind-a-large-answer",
        [send(head()), pause(0.3), rest, close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 20000),
            pause(0.2),
            reset,
        ],
        (("GET", "/t", 200, "upstream_aborted"),),
    ),
]
