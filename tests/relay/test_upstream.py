"""Reaching the original destination: by addresses and by names, and when nobody is there."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from sp_proxy.relay.outgoing import MAX_EARLY_BYTES
from tests.netns import Namespace
from tests.relay.bare_worker import BareWorker
from tests.relay.conversation import GET, OK, End
from tests.relay.running_worker import RunningWorker, listening, unreachable
from tests.requirements import require_root_tools


def test_a_refused_connection_is_a_reset() -> None:
    with listening() as listener:
        nowhere = listener.getsockname()
    with RunningWorker(nowhere) as worker, worker.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        worker.counter("upstream_connect_failed", 1)


class SlowNames(asyncio.SelectorEventLoop):
    """A name server that takes until ``known`` is set, and knows several addresses."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        super().__init__()
        self.known = asyncio.Event()
        self.addresses = addresses

    async def getaddrinfo(self, *_: object, **__: object) -> Any:
        await self.known.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]


def send_for_a_while(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    async def send() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(client, bytes(64 << 20)), 0.5)

    loop.run_until_complete(send())


def test_who_was_made_to_wait_before_a_name_was_known_waits_for_each_of_its_addresses() -> None:
    with listening() as nobody:
        refused = nobody.getsockname()
    with unreachable() as address, contextlib.closing(SlowNames([refused, address])) as loop:
        worker = BareWorker(loop)
        client, connection = worker.accept(("name", 80), resolve=True)
        send_for_a_while(loop, client)
        before = connection.upstream.pending
        assert before > MAX_EARLY_BYTES
        loop.known.set()
        send_for_a_while(loop, client)
        assert worker.counters["upstream_connect_failed"] == 1
        assert connection.upstream.pending == before
        connection.abort()
        assert not worker.connections
        worker.poller.stop()
        client.close()


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
