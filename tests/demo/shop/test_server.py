import http.client
import json
import socket
from contextlib import closing

import pytest

from sp_proxy.demo.shop.inventory import Inventory
from sp_proxy.demo.shop.messages import Answer, Request
from tests.demo.shop.serving import serving


class Echo:
    """Answers with what it was asked."""

    name = "echo"
    closed = 0

    def answer(self, request: Request) -> Answer:
        return Answer(200, {"method": request.method, "target": request.target, "body": request.body.decode()})

    def close(self) -> None:
        type(self).closed += 1


def test_one_connection_serves_many_requests():
    with serving(Echo) as address, closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
        ports = set()
        for number in range(3):
            connection.request("POST", f"/{number}", b"x" * number)
            assert connection.sock is not None
            ports.add(connection.sock.getsockname()[1])
            answer = connection.getresponse()
            assert answer.version == 11
            assert answer.getheader("server") == "echo/1.0"
            assert json.loads(answer.read())["body"] == "x" * number
    assert len(ports) == 1


def test_a_connection_has_a_service_of_its_own_which_is_closed():
    before = Echo.closed
    with serving(Echo) as address, socket.create_connection(address, timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        while sock.recv(65536):
            pass
    assert Echo.closed == before + 1


@pytest.mark.parametrize(
    "field, status",
    [("content-length: x", 411), ("transfer-encoding: chunked", 413), (f"content-length: {2 << 20}", 413)],
)
def test_bodies_that_it_does_not_read_end_the_connection(field, status):
    with serving(Inventory) as address, socket.create_connection(address, timeout=5) as sock:
        sock.sendall(f"POST /stock/ESP-250 HTTP/1.1\r\nhost: a\r\n{field}\r\n\r\n".encode())
        received = b""
        while data := sock.recv(65536):
            received += data
    assert received.startswith(f"HTTP/1.1 {status} ".encode())


def test_head_and_body_leave_in_one_segment():
    """Two would meet delayed acknowledgements."""
    with serving(Echo) as address, socket.create_connection(address, timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert sock.recv(65536).endswith(b'"body": ""}')


def test_a_probe_is_answered_without_the_service():
    with serving(Echo) as address, closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {"status": "ok"})
