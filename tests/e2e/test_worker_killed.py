"""Death under load: of a relay worker by SIGKILL, and of the daemon by SIGTERM."""

import http.server
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import eq
from pathlib import Path
from typing import ClassVar

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.harness import (
    SETTINGS,
    TIMEOUT,
    eventually,
    home,
    launch,
    netfilter,
    running_daemon,
    total,
    write_config,
)
from tests.e2e.load import attempt, load
from tests.e2e.otlp_sink import otlp_sink
from tests.e2e.servers import NGINX_PORT, http_server, nginx

ORIGIN_PORT = 9001
SINK_PORT = 9002
EXPECTED = ("worker_died", "failing_open", "failing_open_ended")
MAX_WAIT = 10.0
"""Seconds in which a connection that waits for a new worker is served; a worker starts in a fraction of one."""


def is_gone(pid: int) -> bool:
    """Ended; its parent may not have taken notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] in {"Z", "X"}
    except FileNotFoundError:
        return True


def kill(pid: int) -> tuple[float, float]:
    """When it was asked to, and when it was gone: whoever it had accepted by then goes with it."""
    begun = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    eventually(partial(is_gone, pid), bool, "the worker is gone")
    return begun, time.monotonic()


@pytest.mark.parametrize("workers, kills", [(1, 1), (1, 3), (3, 3)])
def test_no_connection_is_refused_when_a_worker_is_killed(pair: Pair, workers: int, kills: int):
    """Not even those which come while there is no worker. Only what the killed one had in hand goes with it."""
    pod, outside = pair
    settings = {"relay": {"workers": workers}}
    with (
        home() as directory,
        nginx(pod, directory / "nginx"),
        running_daemon(pod, directory, settings, expected_errors=EXPECTED, workers_die=True) as daemon,
    ):
        netfilter(pod, directory / "sp_proxy.yaml", "apply")
        deaths: list[tuple[float, float]] = []
        with load(outside, pod.ipv4, NGINX_PORT) as going:
            going.wait_for_more(200)
            for _ in range(kills):
                eventually(lambda: daemon.workers, bool, "a worker to kill")
                deaths.append(kill(daemon.workers[0]))
                going.wait_for_more(200)
        assert len(going.attempts) > 200 * (kills + 1)
        for failure in going.failures:
            assert failure.error != "ConnectionRefusedError"
            assert any(failure.begun <= gone and failure.ended >= killed for killed, gone in deaths), failure
        assert max(each.ended - each.begun for each in going.attempts) < MAX_WAIT

        # All workers are there again, and capture again.
        daemon.wait_metric("sp_proxy_relay_workers_ready", partial(eq, workers))
        daemon.wait_metric("sp_proxy_failing_open", partial(eq, 0))
        assert total(daemon.metrics(), "sp_proxy_relay_worker_restarts_total") == kills
        request = b"GET /again HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n"
        assert outside.call(partial(attempt, pod.ipv4, NGINX_PORT, request)).error == ""
        daemon.exchange_where(path="/again")


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers at once, but ``/slow`` when it is allowed to. Counts what it was asked."""

    asked: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()
    allowed = threading.Event()

    def do_GET(self) -> None:
        with self.lock:
            self.asked[self.path] += 1
        if self.path == "/slow":
            assert self.allowed.wait(TIMEOUT)
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"tea")

    def log_message(self, *_: object) -> None:
        pass


def test_sigterm_under_load_finishes_what_was_begun(pair: Pair):
    """What had been redirected is answered, captured and delivered, and the daemon exits with 0; all else goes past it.

    The heartbeat is withdrawn before the sockets close: nobody is refused.
    """
    pod, outside = pair
    slow = 10
    with home() as directory, http_server(pod, Origin, ORIGIN_PORT), otlp_sink(pod, SINK_PORT) as sink:
        settings = {**SETTINGS, "sp_backend_url": f"http://127.0.0.1:{SINK_PORT}", "relay": {"workers": 2}}
        config = write_config(directory, settings)
        daemon = launch(pod, directory, config)
        daemon.wait_ready()
        netfilter(pod, config, "apply")
        request = b"GET /slow HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n"
        ask = partial(outside.call, partial(attempt, pod.ipv4, ORIGIN_PORT, request))
        with ThreadPoolExecutor(slow) as pool, load(outside, pod.ipv4, ORIGIN_PORT, path="/fast") as going:
            waiting = [pool.submit(ask) for _ in range(slow)]
            eventually(lambda: Origin.asked["/slow"], partial(eq, slow), "requests in hand")
            going.wait_for_more(100)
            before = Origin.asked["/fast"]
            daemon.process.send_signal(signal.SIGTERM)
            going.wait_for_more(500)
            assert daemon.process.poll() is None
            Origin.allowed.set()
            assert daemon.process.wait(TIMEOUT) == 0
        daemon.check_log()
        netfilter(pod, config, "remove")
    assert [each.result().error for each in waiting] == [""] * slow
    assert going.failures == []
    assert Origin.asked == {"/slow": slow, "/fast": len(going.attempts)}
    captured = Counter(arrived.span.name for arrived in sink.spans)
    assert captured["/slow"] == slow
    assert before <= captured["/fast"] < Origin.asked["/fast"]
