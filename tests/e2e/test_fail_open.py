"""Failing open in the kernel: a daemon that is dead, stopped or stuck is out of the way within the heartbeat's timeout.

Without privileges in the daemon, and with every writer. Which way a request took is told by the headers that it has when it
arrives.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.harness import PROGRAM, SETTINGS, TIMEOUT, Daemon, eventually, home, launch, netfilter, write_config
from tests.e2e.load import load
from tests.e2e.servers import NGINX_PORT, nginx
from tests.e2e.test_worker_killed import is_gone
from tests.netns import Namespace

WRITERS = ("nft", "iptables-nft", "iptables-legacy")
HEARTBEAT_SECONDS = 2
SLOW_PORT = 9006
MARGIN = 1.0
"""Seconds beyond the timeout: the kernel's granularity, and a busy machine."""
STUCK = """
import os, signal

def stuck(*_):
    while not os.path.exists({path!r}):
        pass

signal.signal(signal.SIGUSR2, stuck)
"""
"""Makes a Python process stick in its only thread, as an endless loop would."""


@dataclass
class Case:
    """A daemon in a pod with a server, its rules applied; a server outside too."""

    pod: Namespace
    outside: Namespace
    directory: Path
    config: Path
    daemon: Daemon

    @property
    def unstick(self) -> Path:
        return self.directory / "unstick"

    def start(self) -> None:
        self.daemon = launch(self.pod, self.directory, self.config, environ={"PYTHONPATH": str(self.directory)})
        self.daemon.wait_ready()

    def redirected(self) -> tuple[bool, bool]:
        """Whether a request inbound, and one outbound, went through the daemon. A connection that fails counts as both."""
        ends = ((self.outside, self.pod.ipv4), (self.pod, f"[{self.outside.ipv6}]"))
        return tuple(_through(near, address) for near, address in ends)  # type: ignore[return-value]

    def becomes(self, redirected: bool, within: float = TIMEOUT) -> float:
        """Until all connections take this way; the seconds it took."""
        began = time.monotonic()
        wanted = (redirected, redirected)
        eventually(self.redirected, lambda seen: seen == wanted, f"redirected: {redirected}", timeout=within)
        return time.monotonic() - began


def _through(near: Namespace, address: str) -> bool:
    done = near.run("curl", "-s", "--max-time", "0.5", f"http://{address}:{NGINX_PORT}/", check=False)
    return done.returncode != 0 or json.loads(done.stdout)["service"] != ""


@contextmanager
def case(pair: Pair, writer: str, workers: int = 1) -> Iterator[Case]:
    pod, outside = pair
    with home() as directory, nginx(pod, directory / "pod"), nginx(outside, directory / "outside"):
        settings = {
            **SETTINGS,
            "backend": {"enabled": True, "database": str(directory / "spans.sqlite3")},
            "relay": {"workers": workers},
            "netfilter": {"heartbeat": {"timeout": f"{HEARTBEAT_SECONDS}s"}},
        }
        config = write_config(directory, settings)
        (directory / "sitecustomize.py").write_text(STUCK.format(path=str(directory / "unstick")), "ascii")
        found = Case(
            pod, outside, directory, config, launch(pod, directory, config, environ={"PYTHONPATH": str(directory)})
        )
        try:
            found.daemon.wait_ready()
            netfilter(pod, config, "apply", "--writer", writer)
            found.becomes(True)
            yield found
        except BaseException:
            print(found.daemon.log)
            raise
        finally:
            netfilter(pod, config, "remove")
            kill_all(found.daemon)


def kill_all(daemon: Daemon) -> None:
    """SIGKILL of everything at once; nothing is left when it returns."""
    children: list[int] = []
    if daemon.process.poll() is None:
        lists = Path(f"/proc/{daemon.process.pid}/task").glob("*/children")
        children = [int(pid) for each in lists for pid in each.read_text("ascii").split()]
        daemon.process.kill()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    daemon.process.wait()
    for pid in children:
        eventually(partial(is_gone, pid), bool, "a child is gone")


@pytest.mark.parametrize("writer", WRITERS)
def test_killed_it_is_out_of_the_way_and_started_again_it_is_back(pair: Pair, writer: str):
    with case(pair, writer) as found:
        kill_all(found.daemon)
        assert found.becomes(False, HEARTBEAT_SECONDS + MARGIN) > 0
        text = netfilter(found.pod, found.config, "verify")
        assert "skip  heartbeat none: nothing listens on port 16001 and 16006, so nothing is redirected yet" in text
        assert "FAIL" not in text
        assert found.redirected() == (False, False)
        found.start()
        found.becomes(True)
        assert "ok    heartbeat arrives" in netfilter(found.pod, found.config, "verify")


@pytest.mark.parametrize("writer", WRITERS)
def test_stopped_or_stuck_workers_are_out_of_the_way_until_they_go_on(pair: Pair, writer: str):
    def stop(found: Case, pid: int) -> None:
        del found
        os.kill(pid, signal.SIGSTOP)

    def go_on(found: Case, pid: int) -> None:
        del found
        os.kill(pid, signal.SIGCONT)

    def stick(found: Case, pid: int) -> None:
        del found
        os.kill(pid, signal.SIGUSR2)

    def unstick(found: Case, pid: int) -> None:
        del pid
        found.unstick.touch()

    ways: list[tuple[Callable[[Case, int], None], Callable[[Case, int], None]]] = [(stop, go_on), (stick, unstick)]
    with case(pair, writer) as found:
        for hinder, release in ways:
            (worker,) = found.daemon.workers
            with ThreadPoolExecutor(1) as pool:
                hinder(found, worker)
                # Redirected before the heartbeat has expired: waits with the worker, and is served when it goes on.
                waiting = pool.submit(
                    found.outside.run, "curl", "-s", f"http://{found.pod.ipv4}:{NGINX_PORT}/waits", timeout=TIMEOUT
                )
                found.becomes(False, HEARTBEAT_SECONDS + MARGIN)
                for _ in range(3):
                    assert found.redirected() == (False, False)
                verified = found.pod.run(PROGRAM, "netfilter", "verify", "--config", str(found.config), check=False)
                assert verified.returncode == 1
                assert "FAIL  heartbeat does not arrive, so nothing is redirected" in verified.stdout
                release(found, worker)
                found.becomes(True)
                assert json.loads(waiting.result().stdout)["service"] == "shop"
            assert found.daemon.workers == [worker]


@pytest.mark.parametrize("writer", ["nft", "iptables-nft"])
def test_one_worker_that_lives_is_enough(pair: Pair, writer: str):
    with case(pair, writer, workers=2) as found:
        os.kill(found.daemon.workers[0], signal.SIGSTOP)
        began = time.monotonic()
        with load(found.outside, found.pod.ipv4, NGINX_PORT, clients=2) as going:
            while time.monotonic() < began + HEARTBEAT_SECONDS + MARGIN:
                going.wait_for_more(10)
            going.over.set()
            os.kill(found.daemon.workers[0], signal.SIGCONT)  # what it had accepted is answered now
        assert going.failures == []
        assert found.redirected() == (True, True)


def test_a_daemon_that_is_asked_to_end_refuses_nobody(pair: Pair):
    with case(pair, "nft", workers=2) as found, load(found.outside, found.pod.ipv4, NGINX_PORT) as going:
        for _ in range(2):
            going.wait_for_more(100)
            found.daemon.process.send_signal(signal.SIGTERM)
            assert found.daemon.process.wait(TIMEOUT) == 0
            assert found.redirected() == (False, False)
            going.wait_for_more(100)
            found.start()
            found.becomes(True)
        assert going.failures == []


def test_a_second_signal_resets_what_is_open_and_the_next_connections_go_straight(pair: Pair):
    """An answer that is cut off must not look complete, on either side."""
    with case(pair, "nft") as found, found.outside.call(partial(socket.create_server, ("", SLOW_PORT))) as origin:
        origin.settimeout(TIMEOUT)
        connect = partial(socket.create_connection, (found.outside.ipv4, SLOW_PORT), TIMEOUT)
        with found.pod.call(connect) as client:
            server, _ = origin.accept()
            with server:
                server.settimeout(TIMEOUT)
                client.sendall(b"GET /cut HTTP/1.0\r\n\r\n")
                assert b"x-sp-service-name: shop" in server.recv(65536)
                server.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
                answer = b""
                while not answer.endswith(b"half of it"):
                    answer += client.recv(65536)
                found.daemon.process.send_signal(signal.SIGTERM)
                eventually(lambda: found.daemon.log, lambda log: '"draining"' in log, "draining")
                found.daemon.process.send_signal(signal.SIGTERM)
                for end in (client, server):
                    with pytest.raises(ConnectionResetError):
                        end.recv(1)
        assert found.daemon.process.wait(TIMEOUT) == 128 + signal.SIGTERM
        assert found.redirected() == (False, False)
