import os
import socket

import pytest
import trio
from structlog.testing import capture_logs

from sp_proxy.backend import serve as module
from sp_proxy.backend.model import BackendError
from sp_proxy.backend.serve import bind, serve, url_of
from sp_proxy.settings.backend import Backend
from tests.backend.requests import exchange_span, request_of
from tests.backend.serving import backend, listener, live, stat, until

PROTOBUF = {"content-type": "application/x-protobuf"}


async def failing(settings, sockets=None):
    with pytest.raises(BackendError) as caught:
        await serve(settings, sockets=sockets)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_other_addresses_need_a_token():
    sock = listener("0.0.0.0")
    message = await failing(Backend(database=":memory:"), [sock])
    assert message.startswith("backend.token: required, since the backend listens on 0.0.0.0")
    assert sock.fileno() == -1
    async with backend("0.0.0.0", token="secret") as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_an_address_in_use():
    taken = listener()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    message = await failing(Backend(database=":memory:", listen=address))
    assert message == f"backend.listen: cannot listen on {address}: address already in use"
    taken.close()


async def test_a_database_that_cannot_be_opened_leaves_no_socket_behind(tmp_path):
    sock = listener()
    message = await failing(Backend(database=str(tmp_path)), [sock])
    assert message == f"backend.database: cannot open {tmp_path}: it is a directory"
    assert sock.fileno() == -1


async def test_an_unused_address_is_bound_and_released():
    free = listener()
    port = free.getsockname()[1]
    free.close()
    (sock,) = bind(Backend(listen=f"127.0.0.1:{port}"))
    assert url_of(sock) == f"http://127.0.0.1:{port}"
    sock.close()


@pytest.mark.parametrize("host, shown", [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")])
def test_urls(host, shown):
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    sock = listener(host)
    assert url_of(sock) == f"http://{shown}:{sock.getsockname()[1]}"
    sock.close()


async def test_old_spans_go_by_themselves(monkeypatch):
    monkeypatch.setattr(module, "EXPIRE_INTERVAL", 0.05)
    with capture_logs() as logs:
        async with backend(retention="100ms") as client:
            body = request_of(exchange_span()).SerializeToString()
            assert (await client.post("/v1/traces", content=body, headers=PROTOBUF)).status_code == 200

            async def expired():
                return {"event": "spans_expired", "count": 1, "log_level": "info"} in logs

            await until(expired)
            assert await stat(client, "expired") == 1
            assert (await client.get("/api/v1/exchanges")).json()["exchanges"] == []


async def test_a_full_database_loses_its_oldest(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "EXPIRE_INTERVAL", 0.05)
    async with backend(database=str(tmp_path / "db"), max_database_size="1MiB") as client:

        async def send(path, count):
            spans = [exchange_span(path=path, response_body=os.urandom(2000).hex()) for _ in range(count)]
            await client.post("/v1/traces", content=request_of(*spans).SerializeToString(), headers=PROTOBUF)

        await send("/oldest", 100)
        for _ in range(10):
            await send("/new", 100)

        async def within_the_limit():
            return await stat(client, "expired") > 0 and await stat(client, "bytes") <= 1 << 20

        await until(within_the_limit)
        assert (await client.get("/api/v1/exchanges?path=/oldest")).json()["exchanges"] == []
        assert (await client.get("/api/v1/exchanges?path=/new")).json()["exchanges"] != []


async def test_the_end_is_prompt_with_a_page_open():
    with trio.fail_after(15):
        async with backend() as client, live(client) as events:
            await client.get("/")
            assert await events.block() == ": listening"
            started = trio.current_time()
    assert trio.current_time() - started < 5
