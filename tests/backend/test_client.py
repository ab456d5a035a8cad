import http.server
import threading
from contextlib import contextmanager

import pytest

from sp_proxy.backend.client import AskError, Client
from tests.backend.requests import exchange_span
from tests.backend.serving import threaded
from tests.cli.backends import send


@contextmanager
def answering(status: int, body: bytes):
    """A server that is no backend."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pages_are_one_list():
    with threaded() as url, Client(url) as client:
        send(url, *(exchange_span(at=at, path=f"/{at}") for at in range(7)))
        assert [each["path"] for each in client.exchanges("path:/*", 5)] == ["/6", "/5", "/4", "/3", "/2"]
        assert len(list(client.exchanges("", 100))) == 7
        assert list(client.exchanges("", 0)) == []
        assert client.get("/exchanges/" + "ab" * 8) is None


def test_live_updates():
    with threaded() as url, Client(url) as client, client.live("path:/a*") as events:
        send(url, exchange_span(path="/b"), exchange_span(path="/a1"), exchange_span(path="/a2"))
        assert [(next(events).name, next(events).data["path"])] == [("exchange", "/a2")]


def test_whose_fault_it_is():
    with threaded() as url, Client(url) as client:
        for ask in (
            lambda: client.get("/exchanges", q="x:y"),
            lambda: client.download("jsonl", "x:y", bytes),
            lambda: client.live("x:y").__enter__(),
        ):
            with pytest.raises(AskError, match="column 1: 'x' is not a field") as failure:
                ask()
            assert failure.value.mistake


@pytest.mark.parametrize(
    "status, body, message",
    [
        (200, b"<html>", "Expecting value"),
        (500, b"oops", "status 500, not the answer of sp-proxy's backend"),
        (401, b'{"error": "the token is missing"}', "the token is missing"),
        (502, b"[]", "status 502"),
    ],
)
def test_who_is_no_backend(status, body, message):
    with answering(status, body) as url, Client(url) as client, pytest.raises(AskError, match=message) as failure:
        client.get("/stats")
    assert not failure.value.mistake
    assert "\n" not in str(failure.value)
