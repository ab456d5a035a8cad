import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sp_proxy.demo.counts import Counts
from sp_proxy.demo.inquiries import BackendApi, Unanswered, daemon_counts, get, ready
from sp_proxy.demo.layout import Member
from sp_proxy.demo.places import Host


@contextmanager
def answering(answers: dict[str, tuple[int, str]]) -> Iterator[tuple[str, int]]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, "{}"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            host, port = server.socket.getsockname()
            yield host, port
        finally:
            server.shutdown()
            thread.join()


def member(address: tuple[str, int]) -> Member:
    return Member("orders", {}, ("127.0.0.1", 1), address, {})


def nobody() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
        return host, port


def test_only_a_200_is_an_answer():
    with answering({"/good": (200, "yes"), "/bad": (503, "no")}) as address:
        assert get(address, "/good") == b"yes"
        with pytest.raises(Unanswered, match="/bad: status 503: no"):
            get(address, "/bad")
    with pytest.raises(Unanswered):
        get(nobody(), "/")


def test_a_daemon_is_ready_when_it_says_so():
    with answering({"/healthz/ready": (200, "{}")}) as address:
        assert ready(Host(), member(address))
    with answering({"/healthz/ready": (503, "{}")}) as address:
        assert not ready(Host(), member(address))
    assert not ready(Host(), member(nobody()))


def test_a_daemons_counts():
    text = "# TYPE sp_proxy_exchanges_captured counter\nsp_proxy_exchanges_captured_total 5.0\n"
    with answering({"/metrics": (200, text)}) as address:
        assert daemon_counts(Host(), member(address)) == Counts(captured=5)


def test_the_backends_answers():
    def trace(trace_id: str, services: list[str], spans: int) -> tuple[int, str]:
        return 200, json.dumps({"trace_id": trace_id, "services": services, "spans": spans})

    found = {"exchanges": [{"trace_id": "a"}, {"trace_id": "b"}, {"trace_id": "c"}]}
    answers = {
        "/api/v1/stats": (200, '{"exchanges": 7}'),
        "/api/v1/exchanges?limit=3": (200, json.dumps(found)),
        "/api/v1/exchanges?service=payment&direction=inbound&limit=20": (200, json.dumps(found)),
        "/api/v1/traces/a": trace("a", ["orders", "payment"], 9),
        "/api/v1/traces/b": trace("b", ["inventory", "orders", "payment"], 5),
        "/api/v1/traces/c": trace("c", ["inventory", "orders", "payment"], 7),
    }
    with answering(answers) as (_, port):
        api = BackendApi(port)
        assert api.url == f"http://127.0.0.1:{port}/"
        assert api.stored() == 7
        assert api.recent(3) == found["exchanges"]
        assert (api.widest_trace() or {})["trace_id"] == "c"


def test_no_trace_yet():
    empty = (200, '{"exchanges": []}')
    with answering({"/api/v1/exchanges?service=payment&direction=inbound&limit=20": empty}) as (_, port):
        assert BackendApi(port).widest_trace() is None
