"""Replay of the demo's traffic: to the demo's shop it makes no difference, and a change that was planted there is named."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, override

import pytest

from sp_proxy.demo.shop.inventory import Inventory
from sp_proxy.demo.shop.messages import Answer, Request
from sp_proxy.demo.shop.server import Server

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
ENTRY = "service:orders direction:inbound"
CARRY = ["--carry", "$.order_id", "--carry", "$.charge_id"]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    """The backend of a demo whose customers have done everything that they do."""
    command = [PROGRAM, "demo", "--forward", "--requests", "40"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            url = next(line.split()[1] for line in demo.stdout if line.startswith("dashboard ")).rstrip("/")
            drain = threading.Thread(target=demo.stdout.read)
            drain.start()
            eventually(lambda: len(exchanges(url)) >= 40, "the customers are served")
            yield url
        finally:
            demo.terminate()
            demo.wait(60)
            drain.join()


def eventually(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def exchanges(url: str) -> list[dict[str, Any]]:
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", "/api/v1/exchanges?limit=1000&service=orders&direction=inbound")
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())["exchanges"]
        return found


class ChangedInventory(Inventory):
    """The planted change: a mug costs ten cents more."""

    @override
    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        text = json.dumps(answer.value).replace('"9.50"', '"9.60"')
        return Answer(answer.status, json.loads(text), answer.headers)


@contextmanager
def shop(inventory: type[Inventory]) -> Iterator[str]:
    """A shop of its own, with no daemon; its order numbers begin anew."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(socket.create_server(("127.0.0.1", 0)), inventory))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        stack.callback(server.shutdown)
        words = ["--inventory", f"127.0.0.1:{server.socket.getsockname()[1]}"]
        for role in ("payment", "orders"):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            started = start(role, listening, words)
            stack.callback(started.wait, 30)
            stack.callback(started.terminate)
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            words += [f"--{role}", address]
        yield f"http://{address}"


def start(role: str, listening: socket.socket, words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sp_proxy.demo.shop", role, "--listen-fd", str(listening.fileno()), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=[listening.fileno()])


def replay(backend: str, to: str, *words: str) -> tuple[int, str]:
    command = [PROGRAM, "replay", ENTRY, "--to", to, "--url", backend, "--fast", "--unsafe", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_replay_of_the_demo_against_the_demo(backend):
    with shop(Inventory) as there:
        code, out = replay(backend, there, *CARRY)
        # Sessions run side by side: without what is carried over, orders have other numbers.
        again, differences = replay(backend, there)
    assert code == 0, out
    total = re.fullmatch(r"(\d+) sent, (\d+) as recorded, 0 different, 0 not sent\n", out)
    assert total
    assert int(total[1]) == int(total[2]) >= 40
    assert again == 1
    assert "$.order_id" in differences


def test_a_planted_change_is_named(backend, tmp_path):
    page = tmp_path / "page.html"
    with shop(ChangedInventory) as there:
        code, out = replay(backend, there, *CARRY, "--html", str(page))
    assert code == 1
    changed = {tuple(found) for found in re.findall(r" (GET|POST) (/\S+) +(\$\S+) +\"(\S+)\" +\"(\S+)\"", out)}
    assert ("GET", "/catalog?page=1", "$.products[2].price", "9.50", "9.60") in changed
    assert ("POST", "/orders", "$.total", "25.30", "25.40") in changed
    assert {place for _, _, place, _, _ in changed} == {"$.products[2].price", "$.total"}
    assert "$.products[2].price" in page.read_text()
