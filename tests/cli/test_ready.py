"""``sp-proxy ready``, over real sockets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sp_proxy.cli.main import main


@contextmanager
def daemon(*answers: tuple[int, bytes]) -> Iterator[int]:
    """Answers in this order, the last one for ever. Gives its port."""
    waiting = list(answers)

    class Daemon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.send_response(status if self.path == "/healthz/ready" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
            pass

    with HTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def asked(port: int, *arguments: str) -> int:
    return main(["ready", "--set", f"admin.listen={port}", *arguments])


READY = (200, b'{"ready": true, "reasons": [], "failing_open": false}')
STARTING = (503, b'{"ready": false, "reasons": ["relay workers", "exporter"], "failing_open": false}')


def test_it_is(capsys):
    with daemon(READY) as port:
        assert asked(port) == 0
    assert capsys.readouterr() == ("", "")


def test_it_is_not_and_why(capsys):
    with daemon(STARTING) as port:
        assert asked(port) == 1
    assert capsys.readouterr().err == "sp-proxy: not ready: relay workers, exporter\n"


def test_it_will_be():
    with daemon(STARTING, STARTING, READY) as port:
        assert asked(port, "--timeout", "60s") == 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "port, arguments, code, message",
    [
        (closed_port, [], 1, " (connection refused): no daemon runs, or its admin.listen is another one"),
        (closed_port, ["--timeout", "0.3s"], 1, "no answer on 127.0.0.1:"),
        (closed_port, ["--timeout", "soon"], 2, "--timeout"),
        (closed_port, ["--set", "admin.enabled=false"], 1, "there is nobody to ask"),
    ],
)
def test_what_hinders_is_one_line(capsys, port: Callable[[], int], arguments, code, message):
    assert asked(port(), *arguments) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"reasons": [1]}'])
def test_something_else_there_is_told(capsys, body):
    with daemon((503, body)) as port:
        assert asked(port) == 1
    assert "is not sp-proxy" in capsys.readouterr().err
