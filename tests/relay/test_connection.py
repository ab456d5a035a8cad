"""The same conversation directly and through a real worker, compared on both ends."""

import asyncio
import contextlib
import select
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.connection import GAVE_UP_AFTER, Connection
from sp_proxy.relay.listener import Listener
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.relay.poller import Poller
from sp_proxy.relay.stream import MAX_EARLY_BYTES
from sp_proxy.taps.context import Endpoints
from sp_proxy.taps.discard import Discard
from tests.netns import Namespace
from tests.relay.running_worker import RunningWorker, listening
from tests.requirements import require_root_tools

RESET = struct.pack("ii", 1, 0)


@dataclass
class End:
    """One end of a conversation: a socket and what it saw."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    end: str = ""

    def __post_init__(self) -> None:
        self.port: int = self.sock.getsockname()[1]

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def receive(self, size: int) -> None:
        """Exactly so many bytes, or until the end."""
        while len(self.received) < size and not self.end:
            self._receive_some()

    def until(self, token: bytes) -> None:
        while token not in self.received and not self.end:
            self._receive_some()

    def rest(self) -> None:
        while not self.end:
            self._receive_some()

    def _receive_some(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.end = "reset"
        except TimeoutError:
            self.end = "timeout"
        else:
            self.received += data
            if not data:
                self.end = "eof"

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


Script = Callable[[End], None]


def converse(address: tuple[str, int], listener: socket.socket, client: Script, server: Script) -> tuple[End, End]:
    """Run both scripts; the ends as they were left."""
    ends: list[End] = []

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(10)
        end = End(sock)
        ends.append(end)
        server(end)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    sock = socket.create_connection(address, timeout=10)
    near = End(sock)
    client(near)
    thread.join(15)
    assert not thread.is_alive()
    for end in (near, ends[0]):
        end.sock.close()
    return near, ends[0]


def without_injection(data: bytes) -> bytes:
    """The bytes without the lines that are injected."""
    lines = data.split(b"\r\n")
    ours = (b"x-sp-", b"x-service-name:", b"x-current-service:", b"tracestate:", b"traceparent:")
    return b"\r\n".join(line for line in lines if not line.startswith(ours))


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def _get(end: End) -> None:
    end.send(GET)
    end.until(b"ok")
    end.close()


def _ok(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(OK)
    end.rest()


def _half_close_after_request(end: End) -> None:
    end.send(GET)
    end.half_close()
    end.rest()


def _answer_after_eof(end: End) -> None:
    end.rest()
    end.send(OK)
    end.close()


def _until_close(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.0 200 OK\r\n\r\nsome")
    end.send(b"thing")
    end.close()


def _truncated(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    end.close()


def _truncated_by_reset(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    time.sleep(0.1)  # the bytes must have left before the reset discards them
    end.reset()


def _get_and_rest(end: End) -> None:
    end.send(GET)
    end.rest()


def _reset_at_once(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.reset()


def _abort_in_answer(end: End) -> None:
    end.send(GET)
    end.until(b"200")
    time.sleep(0.1)
    end.reset()


def _endless_answer(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    end.rest()


def _server_first(end: End) -> None:
    end.send(b"220 mail.example ESMTP\r\n")
    end.until(b"EHLO")
    end.send(b"250 ok\r\n")
    end.rest()


def _smtp(end: End) -> None:
    end.until(b"220")
    end.until(b"\r\n")
    end.send(b"EHLO me\r\n")
    end.until(b"250 ok\r\n")
    end.close()


def _one_letter(end: End) -> None:
    end.send(b"G")
    end.until(b"got it")
    end.close()


def _answers_one_letter(end: End) -> None:
    end.receive(1)
    end.send(b"got it")
    end.rest()


def _early_answer(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    end.rest()
    end.close()


def _big_upload(end: End) -> None:
    end.send(b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n0123456789")
    end.until(b"big")
    end.send(b"9876543210")
    end.half_close()
    end.rest()


def _websocket(end: End) -> None:
    end.send(b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    end.until(b"\r\n\r\n")
    end.send(b"\x81\x02hi" + GET)
    end.until(b"yo")
    end.close()


def _websocket_server(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    end.until(GET)
    end.send(b"\x81\x02yo")
    end.rest()


def _malformed(end: End) -> None:
    end.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    end.until(b"ok")
    end.close()


def _bare_lf(end: End) -> None:
    end.send(b"GET / HTTP/1.1\nHost: h\n\n")
    end.until(b"ok")
    end.close()


def _ok_after_lf(end: End) -> None:
    end.until(b"\n\n")
    end.send(OK)
    end.rest()


CONVERSATIONS: dict[str, tuple[Script, Script]] = {
    "get": (_get, _ok),
    "half-close-after-request": (_half_close_after_request, _answer_after_eof),
    "body-until-close": (_get_and_rest, _until_close),
    "truncated-answer": (_get_and_rest, _truncated),
    "truncated-by-reset": (_get_and_rest, _truncated_by_reset),
    "reset-instead-of-answer": (_get_and_rest, _reset_at_once),
    "client-aborts": (_abort_in_answer, _endless_answer),
    "server-speaks-first": (_smtp, _server_first),
    "one-letter": (_one_letter, _answers_one_letter),
    "answer-before-the-request-ends": (_big_upload, _early_answer),
    "websocket": (_websocket, _websocket_server),
    "two-framings": (_malformed, _ok),
    "bare-lf": (_bare_lf, _ok_after_lf),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_both_ends_see_what_they_see_directly(name: str) -> None:
    client, server = CONVERSATIONS[name]
    with listening() as listener:
        direct = converse(listener.getsockname(), listener, client, server)
        with RunningWorker(listener.getsockname()) as worker:
            relayed = converse(worker.address, listener, client, server)
    for one, other in zip(direct, relayed, strict=True):
        assert without_injection(bytes(other.received)) == bytes(one.received)
        assert other.end == one.end


def test_a_refused_connection_is_a_reset() -> None:
    with listening() as listener:
        nowhere = listener.getsockname()
    with RunningWorker(nowhere) as worker, worker.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        worker.counter("upstream_connect_failed", 1)


def test_a_connection_to_a_transparent_listener_itself_is_closed_at_once() -> None:
    with RunningWorker(None) as worker:
        with contextlib.suppress(ConnectionResetError), worker.connect() as client:  # even while connecting
            client.settimeout(5)
            assert client.recv(1) == b""
        worker.counter("refused:not_redirected", 1)
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


def _ask(worker: RunningWorker) -> bytes:
    with worker.connect() as client:
        client.sendall(GET)
        return client.recv(1)


def test_a_listener_whose_upstream_is_itself_does_not_loop() -> None:
    with RunningWorker("itself") as worker:
        with pytest.raises(ConnectionResetError):  # whenever it is heard
            _ask(worker)
        worker.wait(lambda: worker.counters.get("refused:loop") == 1)
        assert worker.counters["connections"] <= 3
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


def test_a_slow_head_is_forwarded_after_the_detect_timeout_and_still_injected() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHo")
        server, _ = listener.accept()
        server.settimeout(5)
        with server:
            assert server.recv(1000) == b"GET /slow HTTP/1.1\r\nHo"
            client.sendall(b"st: h\r\n\r\n")
            end = End(server)
            end.until(b"\r\n\r\n")
            assert b"x-sp-service-name: orders\r\n" in end.received
            end.send(OK)
            near = End(client)
            near.until(b"ok")
            worker.wait(lambda: len(worker.exchanges) == 1)
            assert worker.exchanges[0].target == b"/slow"


@pytest.mark.parametrize("size, spliced", [(49152, True), (16384, False)])
def test_a_long_body_goes_through_the_kernel_if_its_pieces_are_not_small(size: int, spliced: bool) -> None:
    """Sender, relay and receiver take turns: no read is larger than a piece."""
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (200 * size))
        server, _ = listener.accept()
        server.settimeout(10)
        with server:
            end = End(server)
            end.until(b"\r\n\r\n")
            head = len(end.received)
            for number in range(1, 201):
                client.sendall(bytes(size))
                end.receive(head + number * size)
            end.send(OK)
            near = End(client)
            near.until(b"ok")
            worker.counter("captured", 1)
            assert worker.counters.get("splices", 0) == spliced


def test_a_slow_reader_makes_the_sender_wait_and_loses_nothing() -> None:
    size = 64 * 1024 * 1024
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            End(server).until(b"\r\n\r\n")
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            server.settimeout(1.0)
            sent = 0
            piece = bytes(1 << 20)
            with contextlib.suppress(TimeoutError):
                while sent < size:
                    sent += server.send(piece)
            assert sent < size  # it was made to wait
            server.settimeout(10)

            def send_the_rest() -> None:
                left = size - sent
                while left:
                    left -= server.send(piece[:left])

            thread = threading.Thread(target=send_the_rest)
            thread.start()
            total = 0
            while total < size:
                total += len(client.recv(1 << 20))
            thread.join(10)
        worker.wait(lambda: len(worker.exchanges) == 1)
        assert worker.exchanges[0].response_body_size == size
        assert len(worker.exchanges[0].response_body) == 65536


def test_a_client_s_reset_reaches_a_server_that_does_not_read() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker:
        client = worker.connect()
        client.setblocking(False)
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n")
        server, _ = listener.accept()
        with server:
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):  # until nobody takes any more
                    client.send(bytes(1 << 20))
                    time.sleep(0.001)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            poll = select.poll()
            poll.register(server, 0)
            assert poll.poll(30_000)[0][1] & select.POLLERR
            worker.wait(lambda: worker.gauges.get("connections_open") == 0)
            assert worker.counters["not_taken:reset"] == 1


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


def test_clients_that_go_at_once_do_not_close_what_is_not_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    """A descriptor that is closed twice is another connection's the second time."""
    with listening() as listener, RunningWorker(listener.getsockname()) as worker:
        for _ in range(40):
            clients = [worker.connect() for _ in range(100)]
            for client in clients:
                End(client).reset()
            listener.settimeout(0)
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
        worker.wait(lambda: worker.gauges["connections_open"] == 0)
    assert capfd.readouterr().err == ""


def test_refused_requests_leave_nothing_behind() -> None:
    """Refused before the upstream connection was there: neither end may stay open."""
    with listening() as listener, RunningWorker(listener.getsockname(), options={"strict": "reject"}) as worker:
        for _ in range(40):
            with worker.connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")
                end = End(client)
                end.rest()
                assert end.received.startswith(b"HTTP/1.1 400 ")
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


@contextlib.contextmanager
def unreachable() -> Iterator[tuple[str, int]]:
    """An address where connecting takes for ever: its queue of connections that nobody accepts is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.mark.parametrize("leave", [End.reset, End.close])
def test_a_client_that_goes_while_upstream_is_being_connected_is_noticed(leave: Callable[[End], None]) -> None:
    with unreachable() as address, RunningWorker(address) as worker:
        client = End(worker.connect())
        client.send(GET)
        worker.wait(lambda: worker.gauges.get("connections_open") == 1)
        time.sleep(GAVE_UP_AFTER * 1.2)  # what a client does that half-closes behind its request, it does sooner
        leave(client)
        worker.wait(lambda: worker.gauges.get("connections_open") == 0)
        assert [record.error for record in worker.exchanges] == ["client_aborted"]


def test_a_client_that_half_closes_while_upstream_is_being_connected_waits() -> None:
    with unreachable() as address, RunningWorker(address) as worker, worker.connect() as sock:
        client = End(sock)
        client.send(GET)
        client.half_close()
        worker.counter("connections", 1)
        time.sleep(GAVE_UP_AFTER * 2)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_much_from_a_client_that_waits_for_upstream_stays_with_the_kernel() -> None:
    with unreachable() as address, RunningWorker(address) as worker, worker.connect() as sock:
        sock.settimeout(1)
        sent = 0
        piece = bytes(1 << 20)
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += sock.send(piece)
        assert sent < 64 << 20
        worker.wait(lambda: worker.gauges.get("connections_open") == 1)
        assert worker.gauges["resident_memory_bytes"] < 60 << 20


class SlowNames(asyncio.SelectorEventLoop):
    """A name server that takes until ``known`` is set, and knows several addresses."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        super().__init__()
        self.known = asyncio.Event()
        self.addresses = addresses

    async def getaddrinfo(self, *_: object, **__: object) -> Any:
        await self.known.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]


class Office:
    """What a connection asks of its worker, without a tap."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller = Poller(loop)
        self.config = WorkerConfig(1, -1, (), HeaderConfig("orders"), PolicyConfig(), buffer_size=65536)
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.connections: set[Connection] = set()
        self.loop_guard = LoopGuard()
        self.detection = self
        self.tap: Any = None
        self.tasks: list[asyncio.Task[None]] = []

    def first_tap(self, _: Endpoints) -> Any:
        return self.tap

    def own(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(self.loop.create_task(coroutine))

    def accept(self, name: tuple[str, int], *, resolve: bool) -> tuple[socket.socket, Connection]:
        """A client, and its connection, which goes to this name."""
        with listening() as listener:
            client = socket.create_connection(listener.getsockname())
            sock, source = listener.accept()
            to = Listener(listener, cast("Any", None), name, resolve)
        sock.setblocking(False)
        client.setblocking(False)
        connection = Connection(cast("Any", self), to)
        connection.accept(sock, source)
        return client, connection


def send_for_a_while(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    async def send() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(client, bytes(64 << 20)), 0.5)

    loop.run_until_complete(send())


def test_who_was_made_to_wait_before_a_name_was_known_waits_for_each_of_its_addresses() -> None:
    with listening() as nobody:
        refused = nobody.getsockname()
    with unreachable() as address, contextlib.closing(SlowNames([refused, address])) as loop:
        office = Office(loop)
        client, connection = office.accept(("name", 80), resolve=True)
        send_for_a_while(loop, client)
        before = connection.upstream.pending
        assert before > MAX_EARLY_BYTES
        loop.known.set()
        send_for_a_while(loop, client)
        assert office.counters["upstream_connect_failed"] == 1
        assert connection.upstream.pending == before
        connection.abort()
        assert not office.connections
        office.poller.stop()
        client.close()


class FaultyTap(Discard):
    """Fails where nothing is to be forwarded."""

    def close(self, error: str) -> None:
        raise RuntimeError(error)

    def drain(self, *, patient: bool) -> bytes:
        raise RuntimeError(patient)


@pytest.mark.parametrize("drained", [False, True])
def test_a_tap_that_fails_at_the_end_keeps_no_connection_open(drained: bool) -> None:
    with listening() as origin, contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        office = Office(loop)
        office.tap = FaultyTap()
        client, connection = office.accept(origin.getsockname(), resolve=False)
        if drained:
            connection.drain(patient=True)
            assert connection.tap is None
            assert office.counters["tap_faults"] == 2  # to drain, and to close
        End(client).reset()
        deadline = loop.time() + 5
        while office.connections:
            loop.run_until_complete(asyncio.sleep(0.01))
            assert loop.time() < deadline
        assert connection.downstream.sock.fileno() == connection.upstream.sock.fileno() == -1
        assert office.counters["tap_faults"] == 1 + drained
        office.poller.stop()


def test_an_upstream_address_with_a_scope_is_connected_to() -> None:
    require_root_tools("ip")
    with Namespace("scope") as namespace:
        namespace.run("ip", "address", "add", "fe80::1/64", "dev", "lo")

        def connect() -> bytes:
            with socket.socket(socket.AF_INET6) as origin:
                origin.bind(("fe80::1", 0, 0, socket.if_nametoindex("lo")))
                origin.listen()
                port = origin.getsockname()[1]
                with RunningWorker(("fe80::1%lo", port)) as worker, worker.connect() as client:
                    origin.settimeout(10)
                    client.sendall(GET)
                    server, _ = origin.accept()
                    with server:
                        End(server).until(b"\r\n\r\n")
                        server.sendall(OK)
                        return client.recv(1000)

        assert namespace.call(connect) == OK


def test_a_named_upstream_is_tried_at_all_its_addresses() -> None:
    # the machine's name for 127.0.0.1 may also mean ::1, where nobody listens
    with (
        listening() as listener,
        RunningWorker(("localhost", listener.getsockname()[1])) as worker,
        worker.connect() as client,
    ):
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            End(server).until(b"\r\n\r\n")
            server.sendall(OK)
            end = End(client)
            end.until(b"ok")
            assert end.received == OK


def test_a_name_that_does_not_exist_is_a_reset() -> None:
    with RunningWorker(("no-such-host.invalid", 80)) as worker, worker.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        worker.counter("upstream_connect_failed", 1)
