"""Look-ups by a real mitm worker, of a real backend; destinations are played by hand."""

import socket
from typing import Any

import pytest
from mitmproxy.http import Headers, Request

from sp_proxy.core.exchange import Direction
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.inject.config import InjectConfig
from sp_proxy.inject.wire import Stored
from sp_proxy.mitm.config import FlowScriptConfig
from sp_proxy.mitm.inject import response_of, unfit
from tests.backend.requests import exchange_span
from tests.cli.backends import holding
from tests.mitm.origins import Origin, read_until
from tests.mitm.running_mitm import RunningMitm

HOST = "payment:8080"
OUT: dict[str, Any] = {"direction": "outbound", "host": HOST}
JSON = {"http.request.header.content-type": "application/json"}
ORDER = '{"amount":5,"card":"[REDACTED]"}'


@pytest.fixture(scope="module")
def backend():
    with holding(
        exchange_span(path="/stored", response_body='{"stored":true}', more={"http.response.header.x-a": "1"}, **OUT),
        exchange_span(path="/charge", method="POST", request_body=ORDER, status=402, more=JSON, **OUT),
    ) as url:
        yield url


@pytest.fixture(scope="module")
def worker(backend):
    redaction = RedactionConfig(rules=(RuleConfig(json_paths=("$.card",)),))
    config = InjectConfig(f"{backend}/v1/inject", timeout=30.0, max_body=1000, redaction=redaction)
    with RunningMitm(options={"inject": config}) as running:
        yield running


def request(target: str, method: str = "GET", fields: str = "", body: str = "") -> bytes:
    length = f"content-length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nhost: {HOST}\r\n{length}{fields}\r\n{body}".encode()


def answer_of(client: socket.socket) -> tuple[bytes, bytes]:
    head = read_until(client, b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return head, body


def test_a_stored_answer_is_the_response_and_the_destination_hears_nothing(worker):
    with Origin() as there, worker.connect(there.address, request("/stored")) as client, there.accept() as server:
        head, body = answer_of(client)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"x-a: 1" in head
        assert body == b'{"stored":true}'
        # On the same connection, one with a body, whose secret is redacted as the recorded one's was.
        client.sendall(request("/charge", "POST", "content-type: application/json\r\n", '{"amount": 5,"card":"4111"}'))
        assert answer_of(client)[0].startswith(b"HTTP/1.1 402 ")
        client.close()
        assert server.recv(100) == b""
    worker.wait(lambda: worker.counters.get("inject:hit", 0) >= 2)
    assert worker.exchanges == []  # it was no traffic


def test_what_is_not_stored_goes_on_as_it_was_and_is_recorded(worker):
    body = '{"amount":6,"card":"4111"}'
    with (
        Origin() as there,
        worker.connect(there.address, request("/charge", "POST", "content-type: application/json\r\n", body)) as client,
        there.accept() as server,
    ):
        head = read_until(server, b"\r\n\r\n")
        assert head.startswith(b"POST /charge HTTP/1.1\r\n")
        assert server.recv(100) == body.encode()
        server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal")
        assert answer_of(client)[1] == b"real"
        exchange = worker.exchange()
    assert (bytes(exchange.request_body), exchange.request_body_size, exchange.status) == (
        body.encode(),
        len(body),
        200,
    )
    worker.wait(lambda: worker.counters.get("inject:miss", 0) >= 1)


def test_what_is_not_looked_up_streams(worker):
    """Too long, of unknown length, or waiting for the destination's word: it goes on while it is being sent."""
    for number, (fields, first) in enumerate(
        [("content-length: 2000\r\n", "x" * 10), ("transfer-encoding: chunked\r\n", "a\r\n" + "x" * 10 + "\r\n")]
    ):
        with (
            Origin() as there,
            worker.connect(there.address, request("/stored", "POST", fields) + first.encode()) as client,
            there.accept() as server,
        ):
            read_until(server, b"\r\n\r\n")
            assert b"x" * 10 in read_until(server, b"x" * 10)  # before the rest of it was sent
            client.close()
        worker.exchange()
        worker.counter(("inject:too_large", "inject:unknown_length")[number], 1)


def test_inbound_requests_are_not_looked_up(worker):
    with (
        Origin() as there,
        worker.connect(there.address, request("/stored"), Direction.INBOUND) as client,
        there.accept() as server,
    ):
        read_until(server, b"\r\n\r\n")
        server.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert read_until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        worker.exchange()


def test_a_client_of_the_explicit_proxy_is_answered_where_nobody_is(worker):
    absolute = request("/stored").replace(b"GET /stored", f"GET http://{HOST}/stored".encode())
    with worker.connect(("", 0), absolute) as client:
        assert answer_of(client)[1] == b'{"stored":true}'


def test_nobody_to_ask_and_other_hosts():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = InjectConfig(url, timeout=0.2, hosts=("^payment",))
        with RunningMitm(options={"inject": config}) as worker:
            for host in (HOST, "other"):
                asked = request("/stored").replace(HOST.encode(), host.encode())
                with Origin() as there, worker.connect(there.address, asked) as client, there.accept() as server:
                    read_until(server, b"\r\n\r\n")
                    server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal")
                    assert answer_of(client)[1] == b"real"
                    assert worker.exchange().status == 200
                worker.counter("inject:timeout", 1)


def test_flow_scripts_come_first(backend):
    script = """
from mitmproxy import http
def request(flow):
    if flow.request.path == "/scripted":
        flow.response = http.Response.make(418, b"script")
    else:
        flow.request.path = "/stored"
"""
    options = {
        "inject": InjectConfig(f"{backend}/v1/inject", timeout=30.0),
        "scripts": (FlowScriptConfig("one", "/x/one.py", script, (".",)),),
    }
    with RunningMitm(options=options) as worker, Origin() as there:
        with worker.connect(there.address, request("/scripted")) as client, there.accept():
            assert answer_of(client)[1] == b"script"
            assert worker.exchange().status == 418
        with worker.connect(there.address, request("/else")) as client, there.accept():
            assert answer_of(client)[1] == b'{"stored":true}'
        worker.counter("inject:hit", 1)
        assert worker.exchanges == []


def test_without_its_authorities_the_traffic_goes_on():
    config = InjectConfig("https://localhost:1", ca_file="/nowhere/ca.pem")
    with (
        RunningMitm(options={"inject": config}) as worker,
        Origin() as there,
        worker.connect(there.address, request("/stored")) as client,
        there.accept() as server,
    ):
        read_until(server, b"\r\n\r\n")
        server.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal")
        assert answer_of(client)[1] == b"real"
        assert worker.exchange().status == 200


@pytest.mark.parametrize(
    "method, version, fields, reason",
    [
        ("GET", "HTTP/1.1", {}, ""),
        ("POST", "HTTP/1.1", {}, ""),
        ("POST", "HTTP/2.0", {}, "unknown_length"),
        ("GET", "HTTP/2.0", {}, ""),
        ("POST", "HTTP/2.0", {"content-length": "1000"}, ""),
        ("POST", "HTTP/1.1", {"content-length": "1001"}, "too_large"),
        ("POST", "HTTP/1.1", {"content-length": "x"}, "too_large"),
        ("POST", "HTTP/1.1", {"transfer-encoding": "chunked"}, "unknown_length"),
        ("POST", "HTTP/1.1", {"content-length": "5", "x-sp-hidden-expect": "100-continue"}, "expect"),
        ("GET", "HTTP/1.1", {"upgrade": "websocket"}, "upgrade"),
        ("POST", "HTTP/2.0", {"content-type": "application/grpc+proto", "content-length": "5"}, "grpc"),
    ],
)
def test_what_is_fit_to_be_looked_up(method, version, fields, reason):
    headers = Headers([(name.encode(), value.encode()) for name, value in fields.items()])
    asked = Request("a", 80, method.encode(), b"http", b"", b"/", version.encode(), headers, None, None, 0.0, 0.0)
    assert unfit(asked, 1000) == reason


def test_a_response_is_framed_anew():
    fields = (("content-type", "text/plain"), ("content-length", "99"), ("transfer-encoding", "chunked"))
    response = response_of(Stored(200, (*fields, ("content-encoding", "gzip"), ("traceparent", "00-a")), b"abc"))
    assert dict(response.headers.items()) == {"content-type": "text/plain", "content-length": "3"}
    assert response.raw_content == b"abc"
    assert "content-length" not in response_of(Stored(204, (), b"")).headers
    assert not response_of(Stored(204, (("x-a", "1\r\nset-cookie: a=b"), ("x a", "1")), b"")).headers
