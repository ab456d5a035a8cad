"""``Expect``, upgrades and tunnels, taken and declined, and HTTP/2 with prior knowledge."""

from tests.conformance.conversation import HEAD_END, Check, answers, close, half_close, pause, rest, send, slowly, until
from tests.conformance.http1_checks import CHUNKED, GET, OK, POST, head

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECTING = head(b"POST /t HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 5")
UPGRADING = head(
    b"GET /t HTTP/1.1",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
H2C = head(
    b"GET /t HTTP/1.1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"
)
CONNECT = b"CONNECT h.example:443 HTTP/1.1\r\nHost: h.example:443\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04" + bytes(5)
PING = b"\0\0\x08\x06\0\0\0\0\0and more"

SWITCHING = [
    Check(
        "expect",
        [send(EXPECTING), until(b"Continue\r\n\r\n"), send(b"hello"), until(b"done"), close],
        [until(HEAD_END), send(CONTINUE), until(b"hello"), send(OK), rest, close],
        (POST,),
    ),
    Check(
        "expect-not-waited-for",
        [send(EXPECTING + b"hello"), until(b"done"), close],
        [until(HEAD_END), send(CONTINUE), until(b"hello"), send(OK), rest, close],
        (POST,),
    ),
    Check(
        "expect-without-100",
        [send(EXPECTING), pause(0.3), send(b"hello"), until(b"done"), close],
        [until(b"hello"), send(OK), rest, close],
        (POST,),
    ),
    Check(
        "expect-refused",
        [send(EXPECTING), rest, close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone"),
            close,
        ],
        (("POST", "/t", 417),),
    ),
    Check(
        "expect-refused-and-the-body-sent",
        [send(EXPECTING), until(b"done"), send(b"hello"), send(head()), until(b"done", 2), close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\ndone"),
            until(HEAD_END, 2),
            send(OK),
            rest,
            close,
        ],
        (("POST", "/t", 413), GET),
    ),
    Check(
        "expect-chunked",
        [
            send(head(b"POST /t HTTP/1.1", b"Expect: 100-Continue", CHUNKED)),
            until(b"Continue\r\n\r\n"),
            send(b"5\r\nhello\r\n0\r\n\r\n"),
            until(b"done"),
            close,
        ],
        [until(HEAD_END), send(CONTINUE), until(b"0\r\n\r\n"), send(OK), rest, close],
        (POST,),
    ),
    Check(
        "expect-1.0",
        [
            send(head(b"POST /t HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 5") + b"hello"),
            until(b"done"),
            close,
        ],
        answers(OK, after=b"hello"),
        (POST,),
    ),
    Check(
        "other-expectation",
        [send(head(b"GET /t HTTP/1.1", b"Expect: tea")), until(b"done"), close],
        answers(OK),
        (GET,),
    ),
    Check(
        "answer-before-the-request-ends",
        [
            send(head(b"POST /t HTTP/1.1", b"Content-Length: 10") + b"01234"),
            until(b"done"),
            send(b"56789"),
            until(b"never", 1),
            close,
        ],
        [until(b"01234"), send(OK), until(b"56789"), close],
        (POST,),
    ),
    Check(
        "refused-upload",
        [send(head(b"POST /t HTTP/1.1", b"Content-Length: 1000000") + b"0" * 1000), rest, close],
        [
            until(b"0" * 1000),
            send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"),
            half_close,
            rest,
            close,
        ],
        (("POST", "/t", 413),),
    ),
    Check(
        "upgrade",
        [send(UPGRADING), until(HEAD_END), send(b"\x81\x02hi", head(), b"\x00\xff"), until(b"bye"), close],
        [until(HEAD_END), send(SWITCHED), until(b"\x00\xff"), send(b"\x81\x03bye"), rest, close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-with-the-first-frame",
        [send(UPGRADING), until(b"hello"), send(b"\x81\x02hi"), rest, close],
        [until(HEAD_END), send(SWITCHED + b"\x81\x05hello"), until(b"hi"), close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-and-bytes-at-once",
        [send(UPGRADING + b"\x81\x02hi"), until(b"bye"), close],
        [until(b"hi"), send(SWITCHED + b"\x81\x03bye"), rest, close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-half-closed",
        [send(UPGRADING), until(HEAD_END), send(b"last"), half_close, rest, close],
        [until(HEAD_END), send(SWITCHED), rest, send(b"answer"), close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-half-closed-by-the-server",
        [send(UPGRADING), rest, send(b"last"), close],
        [until(HEAD_END), send(SWITCHED), half_close, rest, close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-declined",
        [send(UPGRADING), until(b"done"), send(head(b"GET /u HTTP/1.1")), until(b"done", 2), close],
        [until(HEAD_END), send(OK), until(HEAD_END, 2), send(OK), rest, close],
        (GET, ("GET", "/u", 200)),
    ),
    Check(
        "upgrade-declined-behind-a-pipelined-request",
        [send(UPGRADING + head(b"GET /u HTTP/1.1")), until(b"done", 2), close],
        answers(OK * 2, count=2),
        (),
        injected=1,
    ),
    Check(
        "upgrade-refused",
        [send(UPGRADING), rest, close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone"),
            close,
        ],
        (("GET", "/t", 426),),
    ),
    Check(
        "upgrade-behind-100",
        [send(UPGRADING), until(b"hi"), close],
        [until(HEAD_END), send(CONTINUE + SWITCHED + b"hi"), rest, close],
        (("GET", "/t", 101),),
    ),
    Check(
        "upgrade-with-body",
        [
            send(head(b"POST /t HTTP/1.1", b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 5") + b"hello"),
            until(b"hi"),
            send(b"raw"),
            rest,
            close,
        ],
        [until(b"hello"), send(SWITCHED + b"hi"), until(b"raw"), close],
        (("POST", "/t", 101),),
    ),
    Check(
        "upgrade-1.0",
        [send(head(b"GET /t HTTP/1.0", b"Connection: Upgrade", b"Upgrade: x")), until(b"done"), close],
        answers(OK),
        (GET,),
    ),
    Check(
        "h2c-upgrade",
        [send(H2C), until(HEAD_END), send(PREFACE + SETTINGS), until(SETTINGS), send(PING), rest, close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + SETTINGS),
            until(PING),
            close,
        ],
        (("GET", "/t", 101, "upstream_aborted"),),
    ),
    Check("h2c-upgrade-ignored", [send(H2C), until(b"done"), close], answers(OK), (GET,)),
    Check(
        "connect",
        [send(CONNECT), until(HEAD_END), send(b"\x16\x03\x01raw"), until(b"back"), close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 200 Connection established\r\n\r\n"),
            until(b"raw"),
            send(b"back"),
            rest,
            close,
        ],
        (("CONNECT", "h.example:443", 200),),
    ),
    Check(
        "connect-with-length-in-the-answer",
        [send(CONNECT), until(HEAD_END), send(head()), until(b"back"), close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            until(HEAD_END, 2),
            send(b"back"),
            rest,
            close,
        ],
        (("CONNECT", "h.example:443", 200),),
    ),
    Check(
        "connect-refused",
        [send(CONNECT), until(b"done"), send(CONNECT), until(b"back"), close],
        [
            until(HEAD_END),
            send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\ndone"),
            until(HEAD_END, 2),
            send(b"HTTP/1.1 204 OK\r\n\r\nback"),
            rest,
            close,
        ],
        (("CONNECT", "h.example:443", 407), ("CONNECT", "h.example:443", 204)),
    ),
    Check(
        "connect-refused-and-closed",
        [send(CONNECT), rest, close],
        [until(HEAD_END), send(b"HTTP/1.1 403 Forbidden\r\n\r\nno"), close],
        (("CONNECT", "h.example:443", 403),),
    ),
    Check(
        "connect-half-closed",
        [send(CONNECT), until(HEAD_END), send(b"last"), half_close, rest, close],
        [until(HEAD_END), send(b"HTTP/1.0 200 OK\r\n\r\n"), rest, send(b"answer"), close],
        (("CONNECT", "h.example:443", 200),),
    ),
    Check(
        "http2-with-prior-knowledge",
        [send(PREFACE + SETTINGS), until(SETTINGS), close],
        [until(SETTINGS), send(SETTINGS), rest, close],
        (),
    ),
    Check(
        "http2-preface-in-pieces",
        [slowly(PREFACE + SETTINGS), until(SETTINGS), close],
        [until(SETTINGS), send(SETTINGS), rest, close],
        (),
        late=0.25,
    ),
    Check(
        "http2-server-first",
        [until(SETTINGS), send(PREFACE + SETTINGS), until(SETTINGS, 2), close],
        [send(SETTINGS), until(SETTINGS), send(SETTINGS), rest, close],
        (),
    ),
]
