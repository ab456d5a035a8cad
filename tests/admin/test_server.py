"""The admin server on real sockets."""

import socket
from typing import Any

import httpx
import trio
from prometheus_client import CollectorRegistry

from sp_proxy.admin.app import DaemonView
from sp_proxy.admin.server import serve
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.sockets import bind_address


async def _no_reload(_cause: str) -> dict[str, Any]:
    return {"result": "unchanged"}


def view(**parts: Any) -> DaemonView:
    defaults: dict[str, Any] = {
        "not_ready": list,
        "failing_open": lambda: False,
        "registry": CollectorRegistry(),
        "status": dict,
        "settings": dict,
        "drain": lambda _cause: None,
        "reload": _no_reload,
    }
    return DaemonView(**{**defaults, **parts})


async def test_it_answers_on_every_socket_and_ends_when_cancelled():
    sockets = bind_address("admin.listen", Address("127.0.0.1", 0)) + bind_address("admin.listen", Address("::1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, view(), sockets)
            async with httpx.AsyncClient(trust_env=False) as client:
                for host, port in zip(["127.0.0.1", "[::1]"], ports, strict=True):
                    answer = await client.get(f"http://{host}:{port}/healthz/live")
                    assert answer.status_code == 200
                    assert "server" not in answer.headers
            nursery.cancel_scope.cancel()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", ports[0]))


async def test_the_answer_to_a_drain_is_sent_before_it_begins():
    sockets = bind_address("admin.listen", Address("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    asked = trio.Event()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, view(drain=lambda _cause: asked.set()), sockets)
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.post(f"{url}/drain")).status_code == 202
            await asked.wait()
            nursery.cancel_scope.cancel()


async def test_a_failing_endpoint_costs_one_answer(caplog):
    def broken() -> list[str]:
        raise RuntimeError("a fault of ours")

    sockets = bind_address("admin.listen", Address("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, view(not_ready=broken), sockets)
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{url}/healthz/ready")).status_code == 500
                assert (await client.get(f"{url}/healthz/live")).status_code == 200
            nursery.cancel_scope.cancel()
    assert "a fault of ours" in caplog.text


async def test_a_reader_that_has_stalled_does_not_keep_it_from_ending():
    sockets = bind_address("admin.listen", Address("127.0.0.1", 0))
    port = sockets[0].getsockname()[1]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, view(settings=lambda: {"settings": "x" * (32 << 20)}), sockets)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stalled:
                await stalled.send_all(b"GET /config HTTP/1.1\r\nhost: x\r\n\r\n")
                # Some of it has come, so the rest is being sent: far more than fits the sockets' buffers.
                assert await stalled.receive_some(10)
                nursery.cancel_scope.cancel()
