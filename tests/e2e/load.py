"""Load of short connections: each is opened, asks once, reads the answer to its end. Every attempt is kept."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.e2e.harness import TIMEOUT
from tests.netns import Namespace


@dataclass(frozen=True)
class Attempt:
    """One connection. ``error`` is empty when the whole answer came."""

    begun: float
    ended: float
    error: str


@dataclass
class Load:
    """What has happened so far; times are of the monotonic clock."""

    attempts: list[Attempt] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def failures(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.error]

    def wait_for_more(self, count: int) -> None:
        """Until so many more connections which begin from now on have ended well."""
        now = time.monotonic()
        deadline = now + TIMEOUT
        while sum(not attempt.error and attempt.begun > now for attempt in list(self.attempts)) < count:
            assert time.monotonic() < deadline, self.failures[-20:]
            time.sleep(0.01)


def attempt(address: str, port: int, request: bytes) -> Attempt:
    begun = time.monotonic()
    try:
        with socket.create_connection((address, port), TIMEOUT) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(65536):
                answer += data
        error = "" if complete(answer) else f"incomplete: {answer!r}"
    except OSError as failure:
        error = type(failure).__name__
    return Attempt(begun, time.monotonic(), error)


def complete(answer: bytes) -> bool:
    """A whole answer with 200, by its content-length."""
    head, blank, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.lower().split(b"\r\n")
    lengths = [int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:")]
    return bool(blank) and b" 200 " in status and lengths == [len(body)]


@contextmanager
def load(namespace: Namespace, address: str, port: int, *, clients: int = 6, path: str = "/") -> Iterator[Load]:
    """Clients in the namespace that go on until the block ends. Leaving waits for their last answers."""
    going = Load()
    request = f"GET {path} HTTP/1.1\r\nhost: {address}:{port}\r\nconnection: close\r\n\r\n".encode()

    def client() -> None:
        while not going.over.is_set():
            going.attempts.append(attempt(address, port, request))

    with ThreadPoolExecutor(clients) as pool:
        ends = [pool.submit(namespace.call, client) for _ in range(clients)]
        try:
            yield going
        finally:
            going.over.set()
            for end in ends:
                end.result()
