"""The supervisor's own raw relay: when it begins and ends, and that it harms nothing."""

import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.core.exchange import Direction
from sp_proxy.core.restarts import RestartPolicy, Restarts
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.sockets import BoundListener, bind_address
from sp_proxy.supervisor.workers import Workers
from tests.netns import Namespace
from tests.requirements import require_root_tools
from tests.supervisor.daemon import WITH_FAKE_WORKERS

POLICY = RestartPolicy()


class Hopeless(Workers):
    """Workers that are all dead, until one is said to be ready."""

    def __init__(self) -> None:
        self.record = Restarts(1, POLICY, trio.current_time())
        self._others = []
        self._draining = trio.Event()
        self._changed = trio.Event()
        self.die()

    @property
    def restarts(self) -> Restarts:
        return self.record

    def drain(self) -> None:
        self._draining.set()
        self._notify()

    def die(self) -> None:
        for _ in range(2):
            self.restarts.exited(0, trio.current_time(), 0.0)
        self._notify()

    def get_ready(self) -> None:
        self.restarts.ready(0)
        self._notify()


@dataclass
class Running:
    workers: Hopeless
    failopen: FailOpen
    address: tuple[str, int]
    upstream: trio.SocketListener

    async def until_active(self, wanted: bool) -> None:
        while self.failopen.active is not wanted:
            await trio.testing.wait_all_tasks_blocked()

    async def pair(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        """A client, and the application's end of its connection."""
        client = await trio.open_tcp_stream(*self.address)
        return client, await self.upstream.accept()


@asynccontextmanager
async def running(*, transparent: bool = False, limit: int = 100, heartbeat_port: int = 0) -> AsyncIterator[Running]:
    (application,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = Address(*application.socket.getsockname())
    (sock,) = bind_address("listen.inbound", Address("127.0.0.1", 0))
    listener = BoundListener("listen.inbound", Direction.INBOUND, sock, None if transparent else target)
    with sock, trio.fail_after(20):
        async with application, trio.open_nursery() as nursery:
            workers = Hopeless()
            failopen = FailOpen(workers, [listener], LoopGuard(), limit, heartbeat_port, 0.05)
            nursery.start_soon(failopen.run)
            yield Running(workers, failopen, sock.getsockname(), application)
            nursery.cancel_scope.cancel()


async def test_it_sends_heartbeats_while_it_relays():
    (ear,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with ear, running(heartbeat_port=ear.socket.getsockname()[1]) as found:
        await found.until_active(True)
        for _ in range(3):
            await (await ear.accept()).aclose()
        found.workers.get_ready()
        await found.until_active(False)
        with trio.move_on_after(0.3):
            while True:  # what was on its way
                await (await ear.accept()).aclose()
        with trio.move_on_after(0.3) as silence:
            await ear.accept()
        assert silence.cancelled_caught


async def test_bytes_pass_both_ways_and_each_side_may_end_first():
    async with running() as run:
        client, application = await run.pair()
        async with client, application:
            await client.send_all(b"request")
            assert await application.receive_some() == b"request"
            await client.send_eof()
            assert await application.receive_some() == b""
            await application.send_all(b"answer after the half-close")
            assert await client.receive_some() == b"answer after the half-close"
            assert run.failopen.connections == 1
            await application.send_eof()
            assert await client.receive_some() == b""
        while run.failopen.connections:
            await trio.testing.wait_all_tasks_blocked()
        assert run.failopen.connection_total == 1


async def test_a_server_that_speaks_first_is_heard():
    async with running() as run:
        client, application = await run.pair()
        async with client, application:
            await application.send_all(b"220 ready\r\n")
            assert await client.receive_some() == b"220 ready\r\n"


@pytest.mark.parametrize("side", ["client", "application"])
async def test_an_abort_on_one_side_is_an_abort_on_the_other(side):
    async with running() as run:
        client, application = await run.pair()
        first, second = (client, application) if side == "client" else (application, client)
        async with client, application:
            await client.send_all(b"x")
            assert await application.receive_some() == b"x"
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await first.aclose()
            with pytest.raises(trio.BrokenResourceError):
                await second.receive_some()


async def test_an_application_that_is_not_there_refuses_through_us():
    async with running() as run:
        await run.upstream.aclose()
        client = await trio.open_tcp_stream(*run.address)
        async with client:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()


async def test_it_ends_when_a_worker_is_ready_and_its_connections_go_on():
    with capture_logs() as logs:
        async with running() as run:
            client, application = await run.pair()
            async with client, application:
                run.workers.get_ready()
                await run.until_active(wanted=False)
                # Nobody accepts now (the worker is a fiction): this one waits in the backlog.
                late = await trio.open_tcp_stream(*run.address)
                await client.send_all(b"still relayed")
                assert await application.receive_some() == b"still relayed"
                assert run.failopen.connection_total == 1
                run.workers.die()
                async with late, await run.upstream.accept() as served:
                    await served.send_all(b"hello")
                    assert await late.receive_some() == b"hello"
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("failing_open", "error"),
        ("failing_open_ended", "warning"),
        ("failing_open", "error"),
    ]


async def test_it_begins_by_patience_when_no_worker_gets_ready(autojump_clock):
    async with running() as run:
        run.workers.get_ready()
        await run.until_active(wanted=False)
        # One death is no reason yet; that nobody comes back within patience is.
        run.workers.record = Restarts(1, POLICY, trio.current_time())
        run.workers._notify()
        before = trio.current_time()
        await trio.sleep(POLICY.patience - 0.1)
        assert not run.failopen.active
        await trio.sleep(0.2)
        assert run.failopen.active
        assert trio.current_time() - before >= POLICY.patience


async def test_a_connection_to_a_transparent_listener_itself_is_closed_at_once():
    async with running(transparent=True) as run:
        async with await trio.open_tcp_stream(*run.address) as client:
            assert await client.receive_some() == b""
        assert run.failopen.refused_total == 1


async def test_an_upstream_that_is_the_listener_itself_does_not_loop():
    (sock,) = bind_address("listen.forward[0].listen", Address("127.0.0.1", 0))
    listener = BoundListener("listen.forward[0].listen", Direction.INBOUND, sock, Address(*sock.getsockname()))
    with sock, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            failopen = FailOpen(Hopeless(), [listener], LoopGuard())
            nursery.start_soon(failopen.run)
            async with await trio.open_tcp_stream(*sock.getsockname()) as client:
                await client.send_eof()
                assert await client.receive_some() == b""
            assert failopen.connection_total == 2
            assert failopen.refused_total == 1
            nursery.cancel_scope.cancel()


async def test_beyond_the_limit_connections_wait():
    async with running(limit=1) as run:
        client, application = await run.pair()
        waiting = await trio.open_tcp_stream(*run.address)
        async with waiting:
            async with client, application:
                await waiting.send_all(b"me too")
                await trio.testing.wait_all_tasks_blocked()
                assert run.failopen.connection_total == 1
            async with await run.upstream.accept() as second:
                assert await second.receive_some() == b"me too"


async def test_a_drain_ends_it_after_its_last_connection():
    (application,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    (sock,) = bind_address("listen.inbound", Address("127.0.0.1", 0))
    upstream = Address(*application.socket.getsockname())
    ended = trio.Event()
    with sock, trio.fail_after(20):
        async with application, trio.open_nursery() as nursery:
            workers = Hopeless()
            failopen = FailOpen(
                workers, [BoundListener("listen.inbound", Direction.INBOUND, sock, upstream)], LoopGuard()
            )

            async def run() -> None:
                await failopen.run()
                ended.set()

            nursery.start_soon(run)
            async with await trio.open_tcp_stream(*sock.getsockname()) as client, await application.accept() as served:
                workers.drain()
                await client.send_all(b"last words")
                assert await served.receive_some() == b"last words"
                assert not ended.is_set()
            await ended.wait()


DAEMON_USER = 1338
PORT, LISTENER = 7000, 16001
ADDRESSES = [("iptables", "127.0.0.1"), ("ip6tables", "::1")]


@contextmanager
def redirected_pod(*bypass: str) -> Iterator[tuple[Namespace, subprocess.Popen[str]]]:
    """A namespace in which connections to PORT are redirected to a daemon whose workers all die. ``bypass`` are the
    matches of the redirect rule which let the daemon's own connections through.
    """
    require_root_tools("ip", "iptables", "ip6tables", "setpriv")
    environ = {
        "FAKE_WORKER": "dies",
        "FAKE_WORKER_UNTIL": "/",
        "SP_PROXY_SP_BACKEND_URL": "http://127.0.0.1:9",
        "SP_PROXY_LISTEN__INBOUND": "off",
        "SP_PROXY_LISTEN__OUTBOUND": str(LISTENER),
        "SP_PROXY_ADMIN__ENABLED": "false",
    }
    with Namespace("failopen") as pod:
        for tool, _ in ADDRESSES:
            rule = ["-p", "tcp", "--dport", str(PORT), *bypass, "-j", "REDIRECT", "--to-ports", str(LISTENER)]
            pod.run(tool, "-t", "nat", "-A", "OUTPUT", *rule)
        daemon = pod.popen(*WITH_FAKE_WORKERS, user=DAEMON_USER, env=environ, stderr=subprocess.PIPE)
        assert daemon.stderr is not None
        while '"event": "failing_open"' not in (line := daemon.stderr.readline()):
            assert line, "the daemon has ended"
        yield pod, daemon


@pytest.mark.parametrize("tool, address", ADDRESSES)
def test_redirected_connections_reach_their_original_destination(tool, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with redirected_pod("-m", "owner", "!", "--uid-owner", str(DAEMON_USER)) as (pod, _):
        with (
            pod.call(lambda: socket.create_server((address, PORT), family=family)) as application,
            pod.call(lambda: socket.create_connection((address, PORT), timeout=20)) as client,
        ):
            application.settimeout(20)
            served, _ = application.accept()
            with served:
                client.sendall(b"question")
                assert served.recv(100) == b"question"
                served.sendall(b"answer")
                assert client.recv(100) == b"answer"
        counters = pod.run(tool, "-t", "nat", "-L", "OUTPUT", "-v", "-x", "-n").stdout
        (rule,) = [line.split() for line in counters.splitlines() if "REDIRECT" in line]
        assert int(rule[0]) == 1, "the connection was not redirected, so this test shows nothing"


@pytest.mark.parametrize("tool, address", ADDRESSES)
def test_a_redirect_rule_that_sends_our_own_connections_back_makes_no_loop(tool, address):
    with redirected_pod() as (pod, daemon):
        with pod.call(lambda: socket.create_connection((address, PORT), timeout=20)) as client:
            assert client.recv(100) == b""
        # One from the client and two that came back: the first may be the kernel's mistake. Without the guard: thousands.
        counters = pod.run(tool, "-t", "nat", "-L", "OUTPUT", "-v", "-x", "-n").stdout
        (rule,) = [line.split() for line in counters.splitlines() if "REDIRECT" in line]
        assert int(rule[0]) == 3
        assert daemon.poll() is None
