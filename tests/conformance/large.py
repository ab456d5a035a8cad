"""Bodies that are large enough for the kernel to move them by itself (``relay/splice.py``), and what cuts them off."""

from tests.conformance.conversation import (
    HEAD_END,
    Check,
    answers,
    close,
    half_close,
    pause,
    reset,
    rest,
    send,
    size,
    until,
)
from tests.conformance.http1_checks import CHUNKED, GET, OK, POST, head
from tests.conformance.http1_switching import SWITCHED, UPGRADING

MUCH = bytes(range(256)) * 4096 * 12
"""12 MiB: enough for the kernel to move it by itself (relay/splice.py)."""
LONG = len(MUCH)


def down(length: int = LONG) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def up(length: int = LONG) -> bytes:
    return head(b"POST /t HTTP/1.1", b"Content-Length: %d" % length)


MANY_CHUNKS = b"".join(b"4000\r\n%b\r\n" % MUCH[at : at + 0x4000] for at in range(0, LONG, 0x4000)) + b"0\r\n\r\n"

LARGE = [
    Check("download", [send(head()), size(LONG + len(down())), close], answers(down(), MUCH), (GET,), marks=False),
    Check(
        "download-chunked",
        [send(head()), until(b"\r\n0\r\n\r\n"), close],
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MANY_CHUNKS),
        (GET,),
        marks=False,
    ),
    Check(
        "download-until-close",
        [send(head()), rest, close],
        [until(HEAD_END), send(b"HTTP/1.1 200 OK\r\n\r\n", MUCH), close],
        (GET,),
        marks=False,
    ),
    Check(
        "download-and-another-request",
        [send(head()), size(LONG + len(down())), send(head()), until(b"done"), close],
        [until(HEAD_END), send(down(), MUCH), until(HEAD_END, 2), send(OK), rest, close],
        (GET, GET),
        marks=False,
    ),
    Check(
        "downloads-pipelined",
        [send(head() * 3), size(3 * (LONG + len(down()))), close],
        [until(HEAD_END, 3), send(down(), MUCH, down(), MUCH, down(), MUCH), rest, close],
        (GET,) * 3,
        marks=False,
    ),
    Check(
        "download-with-pauses",
        [send(head()), size(LONG + len(down())), close],
        [until(HEAD_END), send(down(), MUCH[: LONG // 2]), pause(0.3), send(MUCH[LONG // 2 :]), rest, close],
        (GET,),
        marks=False,
    ),
    Check(
        "download-truncated",
        [send(head()), rest, close],
        [until(HEAD_END), send(down(LONG + 1), MUCH), close],
        (("GET", "/t", 200, "upstream_aborted"),),
        marks=False,
    ),
    Check(
        "download-and-more-than-announced",
        [send(head()), rest, close],
        [until(HEAD_END), send(down(LONG - 5), MUCH), close],
        (GET,),
        marks=False,
    ),
    Check(
        "download-half-closed",
        [send(head()), half_close, rest, close],
        [rest, send(down(), MUCH), close],
        (GET,),
        marks=False,
    ),
    Check(
        "download-half-closed-meanwhile",
        [send(head()), size(1000), half_close, rest, close],
        [until(HEAD_END), send(down(), MUCH), rest, close],
        (GET,),
        marks=False,
    ),
    Check(
        "download-to-a-late-reader",
        [send(head()), pause(0.7), size(LONG + len(down())), close],
        answers(down(), MUCH),
        (GET,),
        marks=False,
    ),
    Check(
        "upload",
        [send(up(), MUCH), until(b"done"), close],
        [until(HEAD_END), until(MUCH[-1024:], 12288), send(OK), rest, close],
        (POST,),
        marks=False,
    ),
    Check(
        "upload-and-half-close",
        [send(up(), MUCH), half_close, rest, close],
        [rest, send(OK), close],
        (POST,),
        marks=False,
    ),
    Check(
        "upload-chunked",
        [send(head(b"POST /t HTTP/1.1", CHUNKED), MANY_CHUNKS), until(b"done"), close],
        [until(b"\r\n0\r\n\r\n"), send(OK), rest, close],
        (POST,),
        marks=False,
    ),
    Check(
        "upload-truncated",
        [send(up(LONG + 1), MUCH), half_close, rest, close],
        [rest, close],
        (("POST", "/t", 0, "upstream_aborted"),),
        marks=False,
    ),
    Check(
        "upload-answered-early",
        [send(up(), MUCH), until(b"done"), close],
        [until(HEAD_END), send(OK), rest, close],
        (POST,),
        marks=False,
    ),
    Check(
        "upload-to-a-late-reader",
        [send(up(), MUCH), half_close, rest, close],
        [pause(0.7), rest, send(OK), close],
        (POST,),
        marks=False,
    ),
    Check("bytes-up", [send(b"\x00" + MUCH), half_close, rest, close], [rest, send(b"thanks"), close], (), marks=False),
    Check("bytes-down", [rest, close], [send(b"hi" + MUCH), close], (), marks=False),
    Check(
        "tunnelled-both-ways",
        [send(UPGRADING), until(HEAD_END), send(MUCH), half_close, rest, close],
        [until(HEAD_END), send(SWITCHED), rest, send(MUCH), close],
        (("GET", "/t", 101),),
        marks=False,
    ),
]
CUT_OFF = [
    Check(
        "server-resets",
        [send(head()), rest, close],
        [until(HEAD_END), send(down(2 * LONG), MUCH), pause(0.2), reset],
        (("GET", "/t", 200, "upstream_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "server-resets-while-the-reader-sleeps",
        [send(head()), pause(0.7), rest, close],
        [until(HEAD_END), send(down(2 * LONG), MUCH[: 1 << 20]), pause(0.2), reset],
        (("GET", "/t", 200, "upstream_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "client-resets-in-the-upload",
        [send(up(2 * LONG), MUCH), pause(0.2), reset],
        [rest, close],
        (("POST", "/t", 0, "client_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "client-resets-in-the-download",
        [send(head()), size(1 << 20), reset],
        [until(HEAD_END), send(down(2 * LONG), MUCH), rest, close],
        (("GET", "/t", 200, "client_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "client-closes-in-the-download",
        [send(head()), size(1 << 20), close],
        [until(HEAD_END), send(down(2 * LONG), MUCH), rest, close],
        (("GET", "/t", 200, "client_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "server-closes-in-the-upload",
        [send(up(2 * LONG), MUCH), rest, close],
        [until(HEAD_END), close],
        (("POST", "/t", 0, "upstream_aborted"),),
        marks=False,
        cut=True,
    ),
    Check(
        "server-refuses-the-upload-and-closes",
        [send(up(6 * LONG), *(MUCH,) * 5), rest, close],
        [until(HEAD_END), send(OK), half_close, pause(0.5), close],
        (POST,),
        marks=False,
        cut=True,
    ),
    Check("raw-client-resets", [send(b"\x00" + MUCH), pause(0.3), reset], [rest, close], (), marks=False, cut=True),
    Check("raw-server-resets", [rest, close], [send(b"x" + MUCH), pause(0.3), reset], (), marks=False, cut=True),
]
