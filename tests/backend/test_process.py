import os
import signal
from functools import partial

import httpx
import msgspec
import pytest
import trio

from sp_proxy.backend.model import BackendError
from sp_proxy.backend.process import Started, plain_settings, run_process
from sp_proxy.settings.backend import Backend
from tests.backend.requests import exchange_span, request_of
from tests.backend.serving import listener

SETTINGS = Backend(
    database=":memory:",
    token="s3cret",
    public_keys=["k1"],
    tenants=[{"public_key": "k2", "retention": "1h"}],
    allowed_origins=["https://app.example"],
    retention="2h",
)


def test_the_settings_survive_the_way():
    values = msgspec.json.decode(msgspec.json.encode(plain_settings(SETTINGS)))
    again = Backend.model_validate(values)
    assert again == SETTINGS
    assert again.token.get_secret_value() == "s3cret"
    assert [key.get_secret_value() for key in again.public_keys] == ["k1"]


async def test_a_child_serves_on_inherited_sockets_and_ends_with_its_task(monkeypatch):
    sock = listener()
    commands = []
    original = trio.lowlevel.open_process

    async def noting(command, **more):
        commands.append(command)
        return await original(command, **more)

    monkeypatch.setattr(trio.lowlevel, "open_process", noting)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(run_process, SETTINGS, sockets=[sock]))
        assert "s3cret" not in str(commands)
        assert url == f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/api/v1/stats")).status_code == 401
            assert (await client.get("/api/v1/stats", headers={"authorization": "Bearer s3cret"})).status_code == 200
        nursery.cancel_scope.cancel()
    # The socket is still ours: the next child refuses nothing.
    async with trio.open_nursery() as nursery:
        async with httpx.AsyncClient(timeout=20) as client, trio.open_nursery() as asking:
            asking.start_soon(client.get, f"{url}/healthz")
            await nursery.start(partial(run_process, SETTINGS, sockets=[sock]))
        nursery.cancel_scope.cancel()
    sock.close()


async def test_why_it_cannot_start(tmp_path):
    sock = listener()
    with pytest.raises(BackendError, match=r"backend\.database: cannot open .*: it is a directory"):
        await run_process(Backend(database=str(tmp_path)), sockets=[sock])
    sock.close()


async def test_a_child_that_dies_is_told(monkeypatch):
    sock = listener()
    pids = []
    original = trio.lowlevel.open_process

    async def noting(*args, **more):
        child = await original(*args, **more)
        pids.append(child.pid)
        return child

    monkeypatch.setattr(trio.lowlevel, "open_process", noting)

    async def killed():
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(run_process, SETTINGS, sockets=[sock]))
            os.kill(pids[0], signal.SIGKILL)

    with pytest.RaisesGroup(pytest.RaisesExc(BackendError, match=r"the backend ended unasked \(signal 9\)")):
        await killed()
    sock.close()


async def test_what_was_stored_survives_the_child(tmp_path):
    sock = listener()
    settings = Backend(database=str(tmp_path / "db"))
    body = request_of(exchange_span()).SerializeToString()
    for expected in (1, 2):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(run_process, settings, sockets=[sock]))
            async with httpx.AsyncClient(base_url=url) as client:
                await client.post("/v1/traces", content=body, headers={"content-type": "application/x-protobuf"})
                stats = (await client.get("/api/v1/stats")).json()
                assert (stats["spans"], stats["duplicates"]) == (1, expected - 1)
            nursery.cancel_scope.cancel()
    sock.close()


def test_started_is_one_line():
    assert b"\n" not in msgspec.json.encode(Started(error="a\nb"))
