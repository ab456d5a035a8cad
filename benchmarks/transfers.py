"""Our own clients, where wrk has none: bodies of 100 MiB over one connection, and connections that only stay open."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

from benchmarks.origin import HUGE_BYTES
from benchmarks.processes import BenchmarkError

DEADLINE_SECONDS = 10.0
"""For one large body."""
IDLE_SECONDS = 30.0
"""For opening idle connections; the slowest proxies take 5 ms for one."""
_PIECE = 1 << 20
_SPARE_DESCRIPTORS = 256


def download(port: int, *, prefix: str = "") -> float:
    """Receive the 100 MiB answer on a fresh connection; seconds from the request to its last byte."""
    buffer = bytearray(_PIECE)
    with _connected(port) as sock, memoryview(buffer) as view:
        start = time.perf_counter()
        sock.sendall(_head("GET", f"{prefix}/huge"))
        head, rest = _read_head(sock)
        _expect_ok(head)
        left = HUGE_BYTES - len(rest)
        while left > 0:
            count = sock.recv_into(view)
            if not count:
                raise BenchmarkError(f"the answer ended {left} bytes too early")
            left -= count
            _within(start)
        return time.perf_counter() - start


def upload(port: int, *, prefix: str = "") -> float:
    """Send a body of 100 MiB on a fresh connection; seconds from the request to its answer's head."""
    piece = bytes(range(256)) * (_PIECE // 256)
    with _connected(port) as sock:
        start = time.perf_counter()
        sock.sendall(_head("POST", f"{prefix}/upload", f"content-length: {HUGE_BYTES}\r\n"))
        for _ in range(HUGE_BYTES // _PIECE):
            sock.sendall(piece)
            _within(start)
        head, _ = _read_head(sock)
        _expect_ok(head)
        return time.perf_counter() - start


def possible_connections(wanted: int) -> int:
    """As many as a proxy may have of which each needs two descriptors, by the hard limit; our own limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, (hard - _SPARE_DESCRIPTORS) // 2)


@contextlib.contextmanager
def idle_connections(port: int, count: int, *, prefix: str = "") -> Iterator[int]:
    """This many connections, each of which has had one answer; or as many as the time allows. Gives their number."""
    with contextlib.ExitStack() as stack:
        start = time.monotonic()
        for number in range(count):
            sock = stack.enter_context(_connected(port))
            sock.sendall(_head("GET", f"{prefix}/small", target_query=f"?n={number % 256}"))
            head, rest = _read_head(sock)
            _expect_ok(head)
            left = _content_length(head) - len(rest)
            while left > 0 and (piece := sock.recv(left)):
                left -= len(piece)
            if time.monotonic() - start > IDLE_SECONDS:
                count = number + 1
                break
        yield count


@contextlib.contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    try:
        with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield sock
    except OSError as error:
        raise BenchmarkError(f"the connection failed: {error}") from error


def _head(method: str, target: str, fields: str = "", *, target_query: str = "") -> bytes:
    return f"{method} {target}{target_query} HTTP/1.1\r\nhost: bench.local\r\n{fields}\r\n".encode()


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise BenchmarkError("the connection ended without an answer")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise BenchmarkError("an answer without content-length")


def _expect_ok(head: bytes) -> None:
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise BenchmarkError(f"the answer was {head.splitlines()[0].decode(errors='replace')}")


def _within(start: float) -> None:
    if time.perf_counter() - start > DEADLINE_SECONDS:
        raise BenchmarkError(f"a body of 100 MiB took more than {DEADLINE_SECONDS:g} s")
