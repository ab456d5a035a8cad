"""Daemons that answer, that refuse, that are silent and that are something else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sp_proxy.backend import daemons as module
from sp_proxy.backend.daemons import Daemons
from sp_proxy.settings.backend import Daemon
from sp_proxy.settings.types import Address
from tests.backend.serving import backend
from tests.backend.test_health import STATUS, config


class Admin(ThreadingHTTPServer):
    """An admin server with answers of ours."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            server: Admin

            def do_GET(self) -> None:
                self.server.asked.append(self.path)
                status, body = answers.get(self.path, (404, b""))
                self.send_response(status)
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server_address[1])


@contextmanager
def admin(**answers: tuple[int, bytes]) -> Iterator[Admin]:
    with Admin({f"/{name}": answer for name, answer in answers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def patient(monkeypatch):
    monkeypatch.setattr(module, "TIME_LIMIT", 60.0)


async def test_daemons_are_told_in_the_order_of_the_settings(patient):
    rules = {"http": {"server": [{"path": "^/api/"}]}}
    with (
        admin(status=(200, STATUS), config=(200, config(collectionRules=rules))) as one,
        admin(status=(200, STATUS), config=(403, b"{}")) as shy,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        nobody = Address(*probe.getsockname())
        probe.close()
        settings = [Daemon(address=one.address, name="orders"), Daemon(address=nobody), Daemon(address=shy.address)]
        told = await Daemons(settings).health()
    assert [(each.name, each.address) for each in told] == [
        ("orders", str(one.address)),
        (str(nobody), str(nobody)),
        (str(shy.address), str(shy.address)),
    ]
    first, gone, last = told
    assert first.status is not None
    assert first.status.rules[0].text == "path ^/api/"
    assert gone.status is None
    assert gone.problem
    assert last.status is not None
    assert last.status.rules[0].text == ""


async def test_they_are_not_asked_by_every_page(patient, monkeypatch):
    with admin(status=(200, STATUS)) as one:
        daemons = Daemons([Daemon(address=one.address)])
        monkeypatch.setattr(module, "KEPT", 1e9)
        assert await daemons.health() == await daemons.health()
        assert one.asked == ["/status", "/config"]
        monkeypatch.setattr(module, "KEPT", 0.0)
        await daemons.health()
        assert one.asked == ["/status", "/config"] * 2


@pytest.mark.parametrize(
    "answer, problem",
    [
        ((200, b"<html>"), "what answers there is not the admin server of sp-proxy"),
        ((500, b""), "answered 500"),
        ((302, b""), "answered 302"),
        ((200, b" " * (5 << 20)), "its answer is larger than 4 MiB"),
    ],
    ids=["a page", "an error", "a redirect", "endless"],
)
async def test_what_is_no_daemon_is_a_problem(patient, answer, problem):
    with admin(status=answer) as one:
        (told,) = await Daemons([Daemon(address=one.address)]).health()
    assert (told.problem, told.status) == (problem, None)


async def test_one_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "TIME_LIMIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (told,) = await Daemons([Daemon(address=Address(*silent.getsockname()))]).health()
    assert (told.problem, told.status) == ("no answer within 0 seconds", None)


async def test_the_api_tells_them(patient):
    with admin(status=(200, STATUS)) as one:
        async with backend(daemons=[{"address": str(one.address), "name": "orders"}]) as client:
            (told,) = (await client.get("/api/v1/daemons")).json()["daemons"]
            assert told["name"] == "orders"
            assert told["status"]["deliveries"][0]["accepted"] == 10
            assert (await client.get("/api/v1/daemons?x=1")).status_code == 400
    async with backend() as client:
        assert (await client.get("/api/v1/daemons")).json() == {"daemons": []}
