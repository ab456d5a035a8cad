import os
import queue
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from sp_proxy.demo.children import Child, stop_all
from sp_proxy.demo.errors import DemoError, StoppedError
from sp_proxy.demo.layout import CALLS
from sp_proxy.demo.places import Host
from sp_proxy.demo.shop.customers import Traffic
from sp_proxy.demo.shop.report import CUSTOMERS
from sp_proxy.demo.stage import Stage, has_started, listen_for_backend, require_no_privilege, reserve_port
from tests.requirements import require_root_tools


def stopped(_seconds: float) -> None:
    raise StoppedError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_a_port_that_was_asked_for_or_an_error():
    port = free_port()
    sock, usual = listen_for_backend(port)
    with sock:
        assert usual
        assert sock.getsockname() == ("127.0.0.1", port)
        with pytest.raises(DemoError, match=f"^--port {port}: address already in use; without --port"):
            listen_for_backend(port)
        with pytest.raises(DemoError, match=f"^--other {port}: .*; without --other,"):
            listen_for_backend(port, "--other")


def test_the_usual_port_or_a_free_one(monkeypatch):
    port = free_port()
    monkeypatch.setattr("sp_proxy.demo.layout.BACKEND_PORT", port)
    first, usual = listen_for_backend(None)
    second, usual_too = listen_for_backend(None)
    with first, second:
        assert (usual, usual_too) == (True, False)
        assert first.getsockname()[1] == port != second.getsockname()[1]


def test_a_reserved_port_can_be_listened_on():
    with ExitStack() as stack:
        ports = {reserve_port(stack) for _ in range(5)}
        assert len(ports) == 5
        for port in ports:
            socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    "said, message",
    [
        (b'{"error":"backend.database: disk full"}\n', "the backend cannot start: backend.database: disk full"),
        (b"", "the backend cannot start: it ended"),
    ],
)
def test_a_backend_that_cannot_start(said, message):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        assert not has_started(ours)
        with theirs:
            theirs.sendall(said)
        with pytest.raises(DemoError, match=f"^{message}$"):
            has_started(ours)


def test_a_daemon_with_privilege_is_not_accepted(tmp_path):
    require_root_tools("setpriv")
    sleep = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(99)"]
    up: queue.SimpleQueue[str] = queue.SimpleQueue()
    privileged = Child("privileged", Host().command(sleep, None), tmp_path / "a", on_line=up.put)
    plain = Child("plain", Host().command(["sleep", "99"], 1338), tmp_path / "b")
    try:
        up.get(timeout=30)
        with pytest.raises(DemoError, match="privileged runs as user"):
            require_no_privilege(privileged, os.geteuid())
        with pytest.raises(DemoError, match="not as user 1338"):
            require_no_privilege(privileged, 1338)
        while "sleep" not in Path(f"/proc/{plain.process.pid}/comm").read_text():
            plain.check()
        require_no_privilege(plain, 1338)
    finally:
        stop_all([privileged, plain])


def test_being_stopped_while_it_is_built_takes_everything_down(tmp_path):
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, stopped)
        stage.settle_on_host()
        assert set(stage.places) == {*CALLS, CUSTOMERS}
        assert not stage.in_pods
        stage.claim_backend_port(free_port())
        with pytest.raises(StoppedError):
            stage.start_backend()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", stage.backend.port), timeout=5)


def test_a_whole_stage_on_this_host(tmp_path):
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack, time.sleep)
        stage.settle_on_host()
        stage.claim_backend_port(free_port())
        stage.start_backend()
        stage.start_shop()
        stage.check()
        customers = stage.start_customers("r", Traffic(8))
        customers.process.wait()
        stage.finish_traffic(customers)
        assert stage.calls.sent["customers", "orders"] == 8
        assert stage.calls.unanswered == 0
        stage.daemons["payment"].process.kill()
        stage.daemons["payment"].process.wait()
        with pytest.raises(DemoError, match="payment-daemon ended unexpectedly"):
            stage.check()
        pids = [child.process.pid for child in stage.daemons.values()]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
