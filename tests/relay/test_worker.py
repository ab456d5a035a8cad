"""A worker's life: it says what it does, and ends when it is told to or when its supervisor is gone."""

import contextlib
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from sp_proxy.relay.worker import SPARE_DESCRIPTORS, max_connections
from tests.relay.conversation import GET, OK, End
from tests.relay.running_worker import RunningWorker, listening


def test_it_reports_totals_and_gauges() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            assert server.recv(4096)
            worker.counter("requests:captured", 1)
            assert worker.counters["connections"] == 1
            assert worker.gauges["connections_open"] == 1
            assert 10 << 20 < worker.gauges["resident_memory_bytes"] < 64 << 20


def test_it_has_reported_when_it_says_that_it_is_ready() -> None:
    """One that is stopped in the next instant is known to have reported, and missed."""
    with RunningWorker("itself") as worker:
        assert worker.reported_first


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told(how: signal.Signals) -> None:
    with RunningWorker(("127.0.0.1", 9)) as worker:
        worker.process.send_signal(how)
        assert worker.process.wait(10) == 0
        assert worker.drained.wait(5)


def test_a_signal_for_its_supervisor_means_nothing_to_it() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker:
        worker.process.send_signal(signal.SIGHUP)
        with worker.connect() as client:
            client.sendall(GET)
            with listener.accept()[0] as server:
                assert exchange(client, server) == OK
        assert worker.process.poll() is None


def test_it_ends_when_its_supervisor_is_gone_and_gives_up_the_port() -> None:
    with RunningWorker(("127.0.0.1", 9)) as worker:
        worker.channel.shutdown(socket.SHUT_RDWR)
        assert worker.process.wait(10) == 0
        with socket.create_server(worker.address[:2]):
            pass


def test_without_descriptors_connections_wait() -> None:
    """None is reset, and all are served when there are descriptors again."""
    with listening() as listener, RunningWorker(listener.getsockname(), descriptors=SPARE_DESCRIPTORS + 20) as worker:
        clients = [worker.connect() for _ in range(25)]
        for client in clients:
            client.sendall(GET)
        worker.wait(lambda: worker.gauges.get("connections_open") == 10 and worker.counters["accept_failed"] > 0)
        served: set[socket.socket] = set()
        while len(served) < len(clients):
            with listener.accept()[0] as server:
                server.settimeout(10)
                assert server.recv(4096)
                server.sendall(OK)
                (client,) = select.select([each for each in clients if each not in served], [], [], 10)[0]
                assert client.recv(4096) == OK
                client.close()
                served.add(client)
        assert worker.process.poll() is None
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


@pytest.mark.parametrize(
    "descriptors, connections",
    [(64, 1), (66, 1), (1024, 480), (1 << 20, 524256), (resource.RLIM_INFINITY, sys.maxsize)],
)
def test_how_many_connections_descriptors_are_good_for(descriptors: int, connections: int) -> None:
    assert max_connections(descriptors) == connections


def test_it_imports_nothing_heavy() -> None:
    heavy = ("mitmproxy", "trio", "pydantic", "google.protobuf", "httpx", "yaml", "rich")
    code = f"import sys, sp_proxy.relay.worker; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_retired_it_accepts_no_more_and_ends_with_its_last_connection() -> None:
    with listening() as listener, RunningWorker(listener.getsockname(), options={"grace_period": 0.2}) as worker:
        used, silent = worker.connect(), worker.connect()
        servers = [listener.accept()[0] for _ in range(2)]
        used.sendall(GET)
        (server,) = select.select(servers, [], [], 10)[0]
        exchange(used, server)
        worker.process.send_signal(signal.SIGUSR1)
        worker.wait(lambda: not accepts(worker.address))
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(1.0)  # far beyond the grace period: nobody is hurried
        used.sendall(GET)
        assert b"connection: close" in exchange(used, server).lower()
        # One that had said nothing is told soon after it has begun to speak.
        (other,) = [each for each in servers if each is not server]
        told = b""
        while b"connection: close" not in told.lower():
            silent.sendall(GET)
            told = exchange(silent, other)
        for each in (used, silent, *servers, listener):
            each.close()
        assert worker.process.wait(10) == 0
        assert worker.drained.wait(5)
        assert len(worker.exchanges) > 3


def test_retired_it_can_still_be_told_to_end() -> None:
    with listening() as listener, RunningWorker(listener.getsockname(), options={"grace_period": 0.2}) as worker:
        client = worker.connect()
        server, _ = listener.accept()
        client.sendall(GET)
        with server:
            assert server.recv(4096)  # in the middle of an exchange
            worker.process.send_signal(signal.SIGUSR1)
            worker.wait(lambda: not accepts(worker.address))
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(10) == 0
        client.close()


def test_retired_it_does_not_look_at_what_comes_for_others() -> None:
    """The listening socket lives on in the supervisor: the kernel forgets it only when it is asked to."""
    with (
        listening() as listener,
        RunningWorker(listener.getsockname(), supervised=True) as worker,
        worker.connect(),
    ):
        listener.accept()[0].close()
        served, server = worker.connect(), listener.accept()[0]
        served.sendall(GET)
        assert exchange(served, server) == OK
        worker.process.send_signal(signal.SIGUSR1)
        told = b""
        while b"connection: close" not in told.lower():
            served.sendall(GET)
            told = exchange(served, server)
        with worker.connect():  # waits in the queue
            before = worker.cpu_seconds()
            time.sleep(1.5)
            assert worker.cpu_seconds() - before < 0.15
        served.close()
        server.close()


def test_what_waits_costs_nothing() -> None:
    """Idle, half-closed, full, and spliced to somebody who does not read, some of it with an end or a reset behind it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening())
        worker = stack.enter_context(RunningWorker(listener.getsockname()))

        def conversation(said: bytes) -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(worker.connect())
            server = stack.enter_context(listener.accept()[0])
            client.sendall(said)
            if said:
                assert server.recv(4096)
            server.settimeout(0.2)
            return client, server

        conversation(b"")
        conversation(GET)[0].shutdown(socket.SHUT_WR)
        conversation(GET)[1].shutdown(socket.SHUT_WR)
        for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"):
            for end in ("none", "server", "both", "reset"):
                client, server = conversation(GET)
                server.sendall(head)
                with contextlib.suppress(TimeoutError):
                    server.sendall(bytes(64 << 20))
                if end == "both":
                    client.shutdown(socket.SHUT_WR)
                if end in {"server", "both"}:
                    server.shutdown(socket.SHUT_WR)
                if end == "reset":
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    server.close()
        worker.wait(lambda: worker.counters.get("splices", 0) >= 4)
        before = worker.cpu_seconds()
        time.sleep(1.5)
        assert worker.cpu_seconds() - before < 0.15


def exchange(client: socket.socket, server: socket.socket) -> bytes:
    """Answer the request that was sent; the answer as the client gets it."""
    assert server.recv(4096)
    server.sendall(OK)
    client.settimeout(10)
    return client.recv(4096)


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=10).close()
    except OSError:
        return False
    return True


def test_sigterm_lets_exchanges_finish_and_tells_the_client_to_close() -> None:
    with (
        listening() as listener,
        RunningWorker(listener.getsockname()) as worker,
        worker.connect() as busy,
        worker.connect() as idle,
    ):
        servers = []
        for client in (busy, idle):
            client.sendall(GET)
            server, _ = listener.accept()
            server.settimeout(10)
            End(server).until(b"\r\n\r\n")
            servers.append(server)
        servers[1].sendall(OK)
        End(idle).until(b"ok")
        worker.process.terminate()
        assert idle.recv(100) == b""  # after half a second of idleness
        servers[0].sendall(OK)
        end = End(busy)
        end.until(b"ok")
        assert end.received == OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        assert busy.recv(100) == b""
        assert worker.process.wait(10) == 0
        assert worker.drained.wait(5)
        assert len(worker.exchanges) == 2
        for server in servers:
            server.close()


def test_a_second_sigterm_ends_at_once() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            worker.process.terminate()
            worker.wait(lambda: worker.gauges.get("connections_open") == 1)
            time.sleep(0.2)  # two signals in one moment are one signal
            worker.process.terminate()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert worker.process.wait(10) == 0
        assert [record.error for record in worker.exchanges] == ["upstream_aborted"]
