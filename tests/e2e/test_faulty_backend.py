"""The traffic while the backend misbehaves, for each fault of the matrix (``tests/exporter/fault_matrix.py``): the real
daemon, real connections through it. Every exchange is answered, on the connection that it was asked on, while the fault
is met; then the backend is well, and every exchange is where the kind of fault says.

Uploads may take a minute here, and an exchange a sixth of it: traffic that waited for one would be seen, on a busy machine
too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import trio

from tests.certificate_authority import CertificateAuthority
from tests.exporter.fault_matrix import FAULTS, Fault
from tests.exporter.test_wrong_certificates import CERTIFICATES
from tests.misbehaving_backend import Backend, Stream, answer, open_backend
from tests.origin import origin
from tests.supervisor.daemon import REAL, Daemon, running_daemon

CONNECTIONS = 4
BEFORE, DURING = 8, 16
"""Exchanges that make the daemon meet the fault, and those that are measured while it does."""
UPLOAD_SECONDS = 60
EXCHANGE_SECONDS = 10.0
MEET_SECONDS = 30.0


@dataclass
class Books:
    """What became of the exchanges so far."""

    captured: int
    accepted: int
    rejected: int
    dropped: dict[str, int]

    def since(self, before: "Books") -> "Books":
        dropped = {reason: count - before.dropped.get(reason, 0) for reason, count in self.dropped.items()}
        return Books(
            self.captured - before.captured,
            self.accepted - before.accepted,
            self.rejected - before.rejected,
            {reason: count for reason, count in dropped.items() if count},
        )


def settings(backend: Backend, directory: Path, authority: CertificateAuthority) -> dict[str, Any]:
    patience = dict.fromkeys(("connect_timeout", "write_timeout", "read_timeout", "timeout"), f"{UPLOAD_SECONDS}s")
    return {
        "sp_backend_url": backend.url,
        "public_key": "pk-secret",
        "batch": {"max_records": 4, "flush_timeout": "20ms"},
        "retry": {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "1h"},
        "upload": {"concurrency": 2, "ca_file": str(authority.ca_file), **patience},
        "spool": {"directory": str(directory / "spool")},
    }


class Traffic:
    """Connections through the daemon, kept for all of a test."""

    def __init__(self, streams: list[trio.SocketStream]) -> None:
        self._streams = streams
        self.asked = 0

    @classmethod
    @asynccontextmanager
    async def through(cls, daemon: Daemon) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            yield cls([await stack.enter_async_context(await daemon.connect()) for _ in range(CONNECTIONS)])

    async def exchanges(self, count: int) -> None:
        """So many, all answered as the origin does."""
        async with trio.open_nursery() as nursery:
            for number, stream in enumerate(self._streams):
                nursery.start_soon(self._ask, stream, len(range(number, count, CONNECTIONS)))

    async def _ask(self, stream: trio.SocketStream, count: int) -> None:
        for _ in range(count):
            self.asked += 1
            with trio.fail_after(EXCHANGE_SECONDS):
                await stream.send_all(b"GET /shop?n=%d HTTP/1.1\r\nhost: shop.example\r\n\r\n" % self.asked)
                received = b""
                while not received.endswith(b"\r\n\r\nok"):
                    data = await stream.receive_some()
                    assert data, "the connection has ended"
                    received += data
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")


async def look(daemon: Daemon) -> tuple[Books, dict[str, Any]]:
    document = (await daemon.get("/status")).json()
    assert document["balanced"], document
    assert document["lost_before_the_exporter"] == {}
    (exporter,) = document["exporters"]
    return Books(*(exporter[key] for key in ("captured", "accepted", "rejected", "dropped"))), exporter


async def settled(daemon: Daemon, captured: int) -> Books:
    """When all exchanges came in and none waits."""
    with trio.fail_after(MEET_SECONDS):
        while True:
            books, exporter = await look(daemon)
            if books.captured >= captured and not exporter["waiting"] + exporter["spooled"]:
                return books
            await trio.sleep(0.02)


async def anew(backend: Backend) -> None:
    """No connection of before goes on."""
    await backend.go_down()
    await backend.come_up()


class Meetings:
    """Counts the requests that meet a fault."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.met = trio.Event()

    async def behave(self, stream: Stream) -> bool:
        self.met.set()
        return await self._fault.behave(stream)


def check(name: str, fault: Fault, books: Books) -> None:
    match fault.kind:
        case "retried":
            assert (books.accepted, books.rejected, books.dropped) == (books.captured, 0, {}), name
        case "refused":
            assert set(books.dropped) == {"permanent_error"}, name
            assert books.accepted + books.dropped["permanent_error"] == books.captured, name
            assert books.rejected == 0, name
        case "taken":
            assert (books.accepted + books.rejected, books.dropped) == (books.captured, {}), name
            assert bool(books.rejected) == bool(fault.rejected), name


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("kind", ["retried", "refused", "taken"])
async def test_the_traffic_goes_on_whatever_the_answers_are(kind, authority, tmp_path):
    faults = {name: fault for name, fault in FAULTS.items() if fault.kind == kind}
    assert len(faults) > 5
    async with origin() as upstream, open_backend() as backend:
        config = settings(backend, tmp_path, authority)
        async with (
            running_daemon(upstream, config, directory=tmp_path, command=REAL) as daemon,
            Traffic.through(daemon) as traffic,
        ):
            for name, fault in faults.items():
                before = await settled(daemon, traffic.asked)
                meetings = Meetings(fault)
                backend.otherwise = meetings.behave
                await traffic.exchanges(BEFORE)
                with trio.fail_after(MEET_SECONDS):
                    await meetings.met.wait()
                await traffic.exchanges(DURING)
                await look(daemon)
                backend.otherwise = answer()
                await anew(backend)  # some would hold their connection for a minute
                books = (await settled(daemon, traffic.asked)).since(before)
                assert books.captured == BEFORE + DURING
                check(name, fault, books)


def refuse(_: CertificateAuthority, __: CertificateAuthority) -> None:
    """Nobody listens."""


OBSTACLES: dict[str, tuple[Callable[[CertificateAuthority, CertificateAuthority], Any], str]] = {
    "connections are refused": (refuse, "failed"),
    **CERTIFICATES,
}


async def test_the_traffic_goes_on_whoever_answers(authority, tmp_path, tmp_path_factory):
    """Refused connections, and certificates of the wrong authority, name and time: nothing is sent before they are right."""
    stranger = CertificateAuthority(tmp_path_factory.mktemp("stranger"), "somebody else")
    ours = authority.server("127.0.0.1")
    async with origin() as upstream, open_backend(tls=ours) as backend:
        config = settings(backend, tmp_path, authority)
        async with (
            running_daemon(upstream, config, directory=tmp_path, command=REAL) as daemon,
            Traffic.through(daemon) as traffic,
        ):
            for name, (make, says) in OBSTACLES.items():
                before = await settled(daemon, traffic.asked)
                received = len(backend.received)
                await backend.go_down()
                backend.tls = make(authority, stranger)
                if backend.tls is not None:
                    await backend.come_up()
                await traffic.exchanges(BEFORE)
                with trio.fail_after(MEET_SECONDS):
                    while says not in (await look(daemon))[1]["last_error"]:  # noqa: ASYNC110 (another process says it)
                        await trio.sleep(0.02)
                await traffic.exchanges(DURING)
                assert len(backend.received) == received, name
                if backend.tls is not None:
                    await backend.go_down()
                backend.tls = ours
                await backend.come_up()
                books = (await settled(daemon, traffic.asked)).since(before)
                assert books == Books(BEFORE + DURING, BEFORE + DURING, 0, {}), name
