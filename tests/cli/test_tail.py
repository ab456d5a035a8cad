import json
import signal
import socket
import subprocess
import sys
from functools import partial
from typing import Any, Self

import pytest
import trio

from sp_proxy.backend.serve import serve
from sp_proxy.settings.backend import Backend
from tests.backend.requests import HOSTILE, exchange_span, partial_span
from tests.backend.serving import threaded
from tests.cli.backends import send

TAIL = [sys.executable, "-m", "sp_proxy.cli.main", "tail"]


class Tail:
    """``sp-proxy tail``, read line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*TAIL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()


def test_what_there_is_and_what_comes():
    with threaded() as url:
        send(url, *(exchange_span(at=at, path=f"/{at}") for at in range(5)), exchange_span(service="other"))
        with Tail("service:orders", "-n", "2", "--url", url) as tail:
            assert "shop.local:8080/3 " in tail.line()
            assert "shop.local:8080/4 " in tail.line()
            send(
                url, exchange_span(service="other", path="/no"), exchange_span(path=HOSTILE), exchange_span(path="/yes")
            )
            hostile = tail.line()
            assert "<script>" in hostile
            assert "\x00" not in hostile
            assert "shop.local:8080/yes " in tail.line()
            tail.process.send_signal(signal.SIGINT)
            assert tail.process.wait(20) == 130


def test_json_and_an_exchange_that_goes_on():
    ids: dict[str, Any] = {"trace": b"t" * 16, "span": b"1" * 8}
    with threaded() as url, Tail("--json", "-n", "1", "--url", url) as tail:
        send(url, exchange_span(path="/first"))
        assert json.loads(tail.line())["path"] == "/first"
        send(url, partial_span(**ids))
        assert json.loads(tail.line())["partial"] is True
        send(url, exchange_span(**ids))
        assert json.loads(tail.line())["partial"] is False


@pytest.mark.parametrize("query, column", [("status>=x", 1), ("a (b", 5)])
def test_a_wrong_query_ends_it(query, column):
    with threaded() as url, Tail(query, "--url", url) as tail:
        assert tail.process.wait(20) == 2
        assert tail.said().startswith(f"sp-proxy: column {column}: ")


async def test_it_waits_for_a_backend_that_goes_and_comes_back():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or the port is not to be had again at once
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with Tail("--json", "--url", url) as tail:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, Backend(database=":memory:"), sockets=[sock]))
            await trio.to_thread.run_sync(send, url, exchange_span(path="/before"))
            assert json.loads(await trio.to_thread.run_sync(tail.line))["path"] == "/before"
            nursery.cancel_scope.cancel()
        said = await trio.to_thread.run_sync(tail.said)
        while "waiting for the backend" not in said:
            said = await trio.to_thread.run_sync(tail.said)
        async with trio.open_nursery() as nursery:
            settings = Backend(database=":memory:", listen=f"127.0.0.1:{port}")
            await nursery.start(partial(serve, settings))
            assert "the backend is back" in await trio.to_thread.run_sync(tail.said)
            await trio.to_thread.run_sync(send, url, exchange_span(path="/after"))
            assert json.loads(await trio.to_thread.run_sync(tail.line))["path"] == "/after"
            nursery.cancel_scope.cancel()
