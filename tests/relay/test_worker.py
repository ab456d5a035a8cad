"""A worker's life: it says what it does, and ends when it is told to or when its supervisor is gone."""

import signal
import socket
import subprocess
import sys

import pytest

from tests.relay.running_worker import RunningWorker, listening

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def test_it_reports_totals_and_gauges() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            assert server.recv(4096)
            worker.counter("requests:captured", 1)
            assert worker.counters["connections"] == 1
            assert worker.gauges["connections_open"] == 1
            assert 10 << 20 < worker.gauges["resident_memory_bytes"] < 64 << 20


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_told(how: signal.Signals) -> None:
    with RunningWorker(("127.0.0.1", 9)) as worker:
        worker.process.send_signal(how)
        assert worker.process.wait(10) == 0
        assert worker.drained.wait(5)


def test_it_ends_when_its_supervisor_is_gone_and_gives_up_the_port() -> None:
    with RunningWorker(("127.0.0.1", 9)) as worker:
        worker.channel.shutdown(socket.SHUT_RDWR)
        assert worker.process.wait(10) == 0
        with socket.create_server(worker.address[:2]):
            pass


def test_it_imports_nothing_heavy() -> None:
    heavy = ("mitmproxy", "trio", "pydantic", "google.protobuf", "httpx", "yaml", "rich")
    code = f"import sys, sp_proxy.relay.worker; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
