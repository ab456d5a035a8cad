"""``sp-proxy status`` against a daemon's answer, over a real socket."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sp_proxy.admin.metrics import SupervisorStats
from sp_proxy.admin.status import status_document
from sp_proxy.cli.main import main
from sp_proxy.exporter.stats import DestinationStats, ExporterStats, SpoolStats

GOOD = DestinationStats(
    name="softprobe",
    recovered=9,
    accepted=60,
    rejected=5,
    dropped={"queue_full": 11},
    waiting_queue=10,
    spooled=10,
    in_flight=3,
    spool=SpoolStats("degraded", "No space left on device", entries=2, size=500),
    breaker="open",
    last_error="the backend answered 503",
)


def document(*destinations: DestinationStats, running: bool = True) -> bytes:
    supervisor = SupervisorStats(2, 1, 0, True, 0, 0, 0, True, running)
    stats = ExporterStats(100, {"sampled_out": 10}, 0, 99, {"channel_full": 7}, 0, destinations, ())
    return json.dumps(status_document(supervisor, stats)).encode()


@pytest.fixture
def ask():
    """Run the command against a server that gives this answer to the right request."""

    def run(body: bytes, status: int = 200) -> int:
        class Daemon(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/status" else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
                pass

        with HTTPServer(("127.0.0.1", 0), Daemon) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            code = main(["status", "--set", f"admin.listen=127.0.0.1:{server.server_port}"])
            thread.join()
        return code

    return run


def test_the_equation_holds(ask, capsys):
    assert ask(document(GOOD, DestinationStats(name="file", accepted=90))) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sp-proxy 0.1.0: 1 of 2 workers ready",
        "  draining",
        "  failing open: traffic passes without the workers",
        "  lost in the workers: channel_full 7",
        "softprobe:",
        "  captured 100 + recovered 9 = accepted 60 + rejected 5 + waiting 13 + spooled 10 + dropped 21",
        "  it holds",
        "  dropped: queue_full 11, sampled_out 10",
        "  spool: 2 entries, 500 bytes",
        "  spool: No space left on device; payloads stay in memory",
        "  the destination keeps failing and is asked by single probes",
        "  last error: the backend answered 503",
        "file:",
        "  captured 100 + recovered 0 = accepted 90 + rejected 0 + waiting 0 + spooled 0 + dropped 10",
        "  it holds",
        "  dropped: sampled_out 10",
    ]


def test_a_record_is_missing(ask, capsys):
    assert ask(document(DestinationStats(name="file", accepted=88))) == 1
    assert "  IT DOES NOT HOLD: 2 records are nowhere" in capsys.readouterr().out.splitlines()


def test_an_exporter_that_does_not_run_is_told(ask, capsys):
    assert ask(document(DestinationStats(name="file", accepted=90), running=False)) == 0
    assert "THE EXPORTER IS NOT RUNNING" in capsys.readouterr().out


@pytest.mark.parametrize(
    "body,status",
    [
        (b"{}", 200),
        (b"no json", 200),
        (b"[]", 200),
        (b"", 503),
        (b"5", 200),
        (b'{"balanced": true, "exporters": []}', 200),
        (b'{"version": "1", "workers_ready": 1, "workers": 1, "exporters": 5}', 200),
    ],
)
def test_an_answer_of_somebody_else_is_one_line(ask, capsys, body, status):
    assert ask(body, status) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sp-proxy: http://127.0.0.1:")
    assert captured.err.count("\n") == 1


def test_nobody_answers(capsys):
    assert main(["status", "--set", "admin.listen=127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("sp-proxy: http://127.0.0.1:1/status: ")


def test_nobody_to_ask(capsys):
    assert main(["status", "--set", "admin.enabled=false"]) == 1
    assert capsys.readouterr().err == "sp-proxy: admin.enabled is false: there is nobody to ask\n"


def test_no_daemon_there_is_told_with_what_to_look_at(capsys):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert main(["status", "--set", f"admin.listen=127.0.0.1:{port}"]) == 1
    said = f"sp-proxy: http://127.0.0.1:{port}/status: nobody answers: no daemon runs, or its admin.listen is another one\n"
    assert capsys.readouterr().err == said
