"""What is made of the daemon's own words."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sp_proxy.doctor.daemon import NoAnswerError, ask, judge
from sp_proxy.doctor.findings import Verdict
from sp_proxy.settings.model import Admin
from sp_proxy.settings.types import Address
from tests.supervisor.daemon import free_ports

READY: dict[str, Any] = {"ready": True, "reasons": [], "failing_open": False}
EXPORTER: dict[str, Any] = {
    "name": "softprobe",
    "dropped": {},
    "spool": {"state": "ready", "problem": ""},
    "breaker": "closed",
    "last_error": "",
    "missing": 0,
    "accepted": 5,
    "waiting": 1,
    "spooled": 0,
}
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "balanced": True,
    "failing_open": False,
    "exporter_running": True,
    "workers_ready": 2,
    "workers": 2,
    "reload_refused": [],
    "lost_before_the_exporter": {},
    "exporters": [EXPORTER],
}


def test_all_well():
    found = list(judge(READY, STATUS))
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.OK]
    assert "2 of 2 workers" in found[0].text
    assert "5 records accepted" in found[1].text


@pytest.mark.parametrize(
    "ready, status, verdict, words",
    [
        ({}, {"failing_open": True, "workers_ready": 0}, Verdict.FAIL, "failing open: 0 of 2"),
        ({"ready": False, "reasons": ["draining"]}, {}, Verdict.WARN, "not ready: draining"),
        ({}, {"workers_ready": 1}, Verdict.WARN, "1 of 2 workers"),
        ({}, {"reload_refused": ["listen.inbound: no"]}, Verdict.WARN, "refused: listen.inbound: no"),
        ({}, {"exporter_running": False}, Verdict.FAIL, "exporter has failed"),
        ({}, {"balanced": False}, Verdict.FAIL, "missing in its books"),
        ({}, {"lost_before_the_exporter": {"channel_full": 3}}, Verdict.WARN, "lost in the workers: channel_full 3"),
        ({}, {"exporters": [EXPORTER | {"dropped": {"evicted": 1}}]}, Verdict.WARN, "dropped: evicted 1"),
        (
            {},
            {"exporters": [EXPORTER | {"spool": {"state": "degraded", "problem": "no space"}}]},
            Verdict.FAIL,
            "the spool cannot be used: no space",
        ),
        (
            {},
            {"exporters": [EXPORTER | {"breaker": "open", "last_error": "503"}]},
            Verdict.FAIL,
            "keeps failing: 503",
        ),
    ],
)
def test_each_trouble_is_named_with_advice(ready, status, verdict, words):
    found = [each for each in judge(READY | ready, STATUS | status) if words in each.text]
    assert [each.verdict for each in found] == [verdict]
    assert found[0].advice


@contextmanager
def answering(body: bytes) -> Iterator[Admin]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Admin(listen=Address("127.0.0.1", server.server_port))
        server.shutdown()
        thread.join()


def test_asking():
    with answering(b'{"a": 1}') as admin:
        assert ask(admin, "/status") == {"a": 1}
    with answering(b"<html>") as admin, pytest.raises(NoAnswerError, match="is not sp-proxy"):
        ask(admin, "/status")
    (port,) = free_ports(1)
    with pytest.raises(NoAnswerError, match=f"^127.0.0.1:{port}: connection refused$"):
        ask(Admin(listen=Address("", port)), "/status")
