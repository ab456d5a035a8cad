import http.server
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sp_proxy.demo.places import Host
from sp_proxy.dev.health import DOWN, STARTING, UP, Health, probe, state_after
from sp_proxy.dev.layout import Inbound
from sp_proxy.dev.processes import Running
from sp_proxy.dev.project import Service
from sp_proxy.dev.stage import Member


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def member(port: int | None, health: str = "", name: str = "shop") -> Member:
    made = Member(Service(name, "x", port, None, health=health), Host())
    made.inbound = Inbound(port, port) if port else None
    return made


def test_a_look(port):
    assert probe(member(port)) == UP
    assert probe(member(port, "/good")) == UP
    assert probe(member(port, "/bad")) == "unhealthy (503)"


def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert probe(member(sock.getsockname()[1])) == DOWN


def test_what_has_never_been_up_is_starting():
    assert state_after(STARTING, DOWN) == STARTING
    assert state_after(UP, DOWN) == DOWN
    assert state_after(STARTING, UP) == UP


def test_states(port):
    ended = member(None, name="job")
    ended.running = Running(
        "job", [sys.executable, "-c", "raise SystemExit(3)"], os.environ, Path.cwd(), lambda *_: None
    )
    ended.running.process.wait(30)
    ended.running.finish()
    with Health([member(port), member(None, name="worker"), ended]) as health:
        deadline = time.monotonic() + 30
        while health.states()["shop"] != UP and time.monotonic() < deadline:
            time.sleep(0.02)
        assert health.states() == {"shop": UP, "worker": "running", "job": "ended (3)"}
