"""Bodies of 1 GiB through real redirect rules: a worker keeps none of it but what is captured, and counts all of it."""

import random
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.contract import check_span
from tests.e2e.harness import TIMEOUT
from tests.e2e.servers import SocketServer

BLOCK = (
    random.Random(1).randbytes(512 << 10).hex().translate(str.maketrans(string.digits, "ghijklmnop")).encode("ascii")
)
"""Letters only: among random digits a detector finds what looks like a card's number."""
COUNT = 1024
TOTAL = len(BLOCK) * COUNT
MAX_GROWTH = 20 << 20
CAPTURED = 65536
FRAMINGS = {
    "content-length": (b"content-length: %d" % TOTAL, BLOCK, b""),
    "chunked": (b"transfer-encoding: chunked", b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK), b"0\r\n\r\n"),
}
"""Header field, what is sent COUNT times, and what comes last."""


def pump(connection: socket.socket, framing: str) -> None:
    _, piece, last = FRAMINGS[framing]
    for _ in range(COUNT):
        connection.sendall(piece)
    connection.sendall(last)


def swallow(connection: socket.socket, framing: str, begun: bytes) -> None:
    """Reads a body to its end; every byte must be the one that was sent. ``begun`` came with the head."""
    _, piece, last = FRAMINGS[framing]
    expected = memoryview(piece * 2)
    at = len(begun)
    assert begun == expected[:at]
    end = len(piece) * COUNT
    buffer = memoryview(bytearray(len(piece)))
    while at < end:
        size = connection.recv_into(buffer, min(len(piece), end - at))
        assert size
        start = at % len(piece)
        assert buffer[:size] == expected[start : start + size]
        at += size
    if last:
        assert connection.recv(len(last), socket.MSG_WAITALL) == last


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(4096)
        assert received
        data += received
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def anonymous_memory(pid: int) -> int:
    """What a process has in memory that is not a file's, in bytes (proc(5), RssAnon)."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


@contextmanager
def watched_memory(pid: int) -> Iterator[Callable[[], int]]:
    """Samples it all the time; what is given tells the largest growth since the beginning."""
    before = anonymous_memory(pid)
    samples = [before]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.01):
            samples.append(anonymous_memory(pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: max(samples) - before
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("side", ["request", "response"])
def test_a_gigabyte(site: Site, side: str, framing: str):
    site.redirect("nft")
    path = f"/{side}/{framing}"
    field = FRAMINGS[framing][0]
    small = b"content-length: 2"

    def serve(connection: socket.socket) -> None:
        head, rest = read_head(connection)
        assert head.startswith(b"POST /")
        if side == "request":
            swallow(connection, framing, rest)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n%b\r\n\r\n" % (small if side == "request" else field)
        )
        if side == "request":
            connection.sendall(b"ok")
        else:
            pump(connection, framing)

    def ask() -> None:
        with socket.create_connection((site.pod.ipv4, server.port), TIMEOUT) as connection:
            fields = b"content-type: text/plain\r\n%b" % (field if side == "request" else b"content-length: 0")
            connection.sendall(b"POST %b HTTP/1.1\r\nhost: pod\r\n%b\r\n\r\n" % (path.encode(), fields))
            if side == "request":
                pump(connection, framing)
            head, rest = read_head(connection)
            assert head.startswith(b"HTTP/1.1 200 ")
            if side == "response":
                swallow(connection, framing, rest)

    (worker,) = site.daemon.workers
    with SocketServer(site.pod, serve) as server, watched_memory(worker) as growth:
        begun = time.monotonic()
        site.outside.call(ask)
        seconds = time.monotonic() - begun
        exchange = site.daemon.exchange_where(path=path)
    print(f"{side}, {framing}: {TOTAL / seconds / 1e6:.0f} MB/s, {growth() / 1e6:.1f} MB more")
    assert growth() < MAX_GROWTH
    check_span(exchange, "inbound", "shop", 200)
    assert exchange["attributes"][f"http.{side}.body.size"] == TOTAL == 1 << 30
    assert exchange["truncated"]
    assert exchange["attributes"]["sp.body.truncated"] is True
    assert exchange[side]["body"]["data"] == BLOCK[:CAPTURED].decode()
