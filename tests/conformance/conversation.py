"""Conversations between a client and a server, step by step, and what either end sees of them.

A ``Check`` is played once over a direct connection and once for each way through the daemon; both ends must have seen the
same bytes, the same end of the connection, at the same time. Steps are functions of an ``End``, so a check reads as a script:

    Check("get", [send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"), until(b"ok"), close], answers(OK), [("GET", "/", 200)])
"""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

RESET = struct.pack("ii", 1, 0)
TIMEOUT = 20.0
_INJECTED = re.compile(
    rb"(?:x-sp-service-name|x-service-name|x-current-service|tracestate|x-sp-num|traceparent): [^\r\n]*\r\n"
)
INJECTED_ONCE = b"x-sp-service-name: shop\r\n"


@dataclass
class End:
    """One end of a connection, and what it has seen."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    ended: str = ""
    """How its incoming bytes ended: ``eof``, ``reset``, ``timeout``, or not at all."""
    marks: list[float] = field(default_factory=list)
    """When each awaited thing had come, by the monotonic clock."""

    change: Callable[[bytes], bytes] = bytes
    """Applied to each piece that is sent."""
    broken: bool = False
    """Sending has failed, which takes the place of the reset in what is read next."""

    def take(self, enough: Callable[[], bool]) -> None:
        while not self.ended and not enough():
            try:
                data = self.sock.recv(1 << 18)
            except ConnectionResetError:
                self.ended = "reset"
            except TimeoutError:
                self.ended = "timeout"
            except OSError as error:
                self.ended = str(error)
            else:
                self.received += data
                if not data:
                    self.ended = "eof"
        self.marks.append(time.monotonic())

    @property
    def how(self) -> str:
        """How its connection ended."""
        return "reset" if self.broken and self.ended == "eof" else self.ended

    @property
    def plain(self) -> bytes:
        """What came, without the lines that the daemon adds."""
        return _INJECTED.sub(b"", bytes(self.received))


Step = Callable[[End], None]
Record = tuple[str, str, int] | tuple[str, str, int, str]
"""Method, target, status, and the error if there is one (or one of several: ``a|b``)."""


def send(*pieces: bytes) -> Step:
    """Each piece in a segment of its own, as far as the kernel sees to that; a broken connection is seen by who reads."""

    def step(end: End) -> None:
        try:
            for piece in pieces:
                end.sock.sendall(end.change(piece))
        except OSError:
            end.broken = True

    return step


def slowly(data: bytes, seconds: float = 0.004, size: int = 1) -> Step:
    """A few bytes at a time."""

    def step(end: End) -> None:
        said = end.change(data)
        with suppress(OSError):
            for at in range(0, len(said), size):
                end.sock.sendall(said[at : at + size])
                time.sleep(seconds)

    return step


def until(token: bytes, count: int = 1) -> Step:
    """Until the token has come so often."""

    def step(end: End) -> None:
        end.take(lambda: end.received.count(token) >= count)

    return step


def size(number: int) -> Step:
    """Until so many bytes have come; not for ends behind an injection."""
    return lambda end: end.take(lambda: len(end.received) >= number)


def pause(seconds: float) -> Step:
    return lambda _: time.sleep(seconds)


def rest(end: End) -> None:
    """Everything up to the end."""
    end.take(lambda: False)


def half_close(end: End) -> None:
    with suppress(OSError):
        end.sock.shutdown(socket.SHUT_WR)


def stop_reading(end: End) -> None:
    with suppress(OSError):
        end.sock.shutdown(socket.SHUT_RD)


def close(end: End) -> None:
    end.sock.close()


def reset(end: End) -> None:
    end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.sock.close()


HEAD_END = b"\r\n\r\n"


def answers(*pieces: bytes, after: bytes = HEAD_END, count: int = 1) -> list[Step]:
    """A server that answers when it has seen the request, and leaves the closing to the client."""
    return [until(after, count), send(*pieces), rest, close]


def answers_and_closes(*pieces: bytes, after: bytes = HEAD_END, count: int = 1) -> list[Step]:
    return [until(after, count), send(*pieces), close]


@dataclass(frozen=True)
class Check:
    """``records``: those that must come out, in the order of the requests."""

    name: str
    client: Sequence[Step]
    server: Sequence[Step]
    records: Sequence[Record] = ()
    injected: int = -1
    """How many heads are injected into; as many as there are records by default."""
    late: float = 0.0
    """Seconds by which the daemon may be later than a direct connection, beyond the usual allowance."""
    marks: bool = True
    cut: bool = False
    """A reset may overtake what was sent before it: only what both runs have is compared."""

    def __str__(self) -> str:
        return self.name


@dataclass
class Played:
    """A conversation that is over."""

    begun: float
    client: End
    server: End
    address: tuple[str, str]
    """The client's address and port."""


def play(
    check: Check,
    connect: Callable[[], socket.socket],
    listener: socket.socket,
    change: Callable[[bytes], bytes] = bytes,
) -> Played:
    """``connect`` returns a connection to wherever the client connects to; ``listener`` is the server's; ``change`` is applied to
    what the client sends.
    """
    accepted: list[End] = []
    errors: list[BaseException] = []
    listener.settimeout(TIMEOUT)

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            sock.settimeout(TIMEOUT)
            end = End(sock)
            accepted.append(end)
            for step in check.server:
                step(end)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with connect() as sock:
        sock.settimeout(TIMEOUT)
        host, port = sock.getsockname()[:2]
        begun = time.monotonic()
        client = End(sock, change=change)
        for step in check.client:
            step(client)
        thread.join()
    if errors:
        raise errors[0]
    accepted[0].sock.close()
    return Played(begun, client, accepted[0], (host, str(port)))


ALLOWANCE = 0.15
"""Seconds that a noisy machine may make of nothing."""


def differences(check: Check, direct: Played, relayed: Played) -> list[str]:
    found = []
    for side in ("client", "server"):
        one: End = getattr(direct, side)
        other: End = getattr(relayed, side)
        seen = other.plain if side == "server" else bytes(other.received)
        wanted = bytes(one.received)
        if check.cut:
            both = min(len(seen), len(wanted))
            seen, wanted = seen[:both], wanted[:both]
        if seen != wanted:
            found.append(f"{side} received {_shown(seen)} instead of {_shown(wanted)}")
        if other.how != one.how:
            found.append(f"{side} saw the end {other.how or 'not'} instead of {one.how or 'not'}")
        late = [
            (there - relayed.begun) - (here - direct.begun) for here, there in zip(one.marks, other.marks, strict=False)
        ]
        if check.marks and late and max(late) > ALLOWANCE + check.late:
            found.append(f"{side} was late by {', '.join(f'{x:.3f}' for x in late)} s")
    injected = relayed.server.received.count(INJECTED_ONCE)
    expected = len(check.records) if check.injected < 0 else check.injected
    if injected != expected:
        found.append(f"{injected} heads were injected into instead of {expected}")
    return found


def _shown(data: bytes) -> str:
    return f"{len(data)}: {data[:300]!r}…{data[-60:]!r}" if len(data) > 400 else repr(data)
