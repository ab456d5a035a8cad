"""The mitm worker among faults: redirect rules that send its own connections back to it, and its sudden death."""

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.harness import TIMEOUT, eventually, netfilter, total
from tests.e2e.intercepted import TLS_PORT, Fetched, TlsSite, address, fetch, tls_site
from tests.e2e.servers import SocketServer

PROXY_PORT = 8888
GET = b"GET /%d HTTP/1.1\r\nhost: plain.test\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture(scope="module")
def site(pair: Pair) -> Iterator[TlsSite]:
    settings = {
        "tls": {"intercept": [r"\.test$"]},
        "listen": {"proxy": f"127.0.0.1:{PROXY_PORT}"},
        "engine": "eager",
    }
    with tls_site(*pair, settings, ("tls_server_failed", "mitm_worker_died"), redirect=False) as site:
        config = site.ca.parent.parent / "sp_proxy.yaml"
        yield site
        netfilter(site.pod, config, "remove")


def redirect(site: TlsSite, *wrong: str) -> None:
    netfilter(site.pod, site.ca.parent.parent / "sp_proxy.yaml", "apply", "--writer", "nft", *wrong)


def ask(site: TlsSite, *options: str) -> Fetched:
    resolve = f"shop.test:{TLS_PORT}:{address(site.outside, 4)}"
    return fetch(site.pod, f"https://shop.test:{TLS_PORT}/", "--resolve", resolve, "--cacert", str(site.ca), *options)


def mitm_worker(site: TlsSite) -> int:
    """Process id of the newest."""
    pids = [event["pid"] for event in site.daemon.events if event["event"] == "mitm_worker_ready"]
    return int(pids[-1])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def connect_tls(site: TlsSite) -> ssl.SSLSocket:
    """A connection that the mitm worker opens."""
    plain = site.pod.call(partial(socket.create_connection, (site.outside.ipv4, TLS_PORT), TIMEOUT))
    return ssl.create_default_context(cafile=site.ca).wrap_socket(plain, server_hostname="shop.test")


def hear_out(connection: ssl.SSLSocket) -> None:
    """Until it has ended, in whatever way."""
    with suppress(ConnectionResetError, ssl.SSLEOFError):
        while connection.recv(65536):
            pass


def test_rules_that_send_its_own_connections_back_end_quickly(site: TlsSite):
    """The bypass of our own user left out: every upstream connection arrives here again, the proxy's too."""
    redirect(site, "--no-verify", "--set", "netfilter.user=4242", "--set", "netfilter.heartbeat.enabled=false")
    eventually(lambda: site.daemon.events, lambda seen: any(e["event"] == "mitm_worker_ready" for e in seen), "ready")
    workers = [*site.daemon.workers, mitm_worker(site)]
    before = [descriptors(pid) for pid in workers]
    connections = total(site.daemon.reported(), "sp_proxy_worker_connections_total")
    through_proxy = ("--proxy", f"http://127.0.0.1:{PROXY_PORT}", "--connect-to", f"::{site.outside.ipv4}:")
    for options in ((), through_proxy):
        for _ in range(3):
            answer = ask(site, *options)
            assert answer.seen == {}
            assert answer.code != 28, "it took until curl gave up"
            for pid, known in zip(workers, before, strict=True):
                assert descriptors(pid) < known + 20
    metrics = site.daemon.reported()
    assert total(metrics, "sp_proxy_worker_refused_total", 'reason="loop"') >= 6
    assert total(metrics, "sp_proxy_worker_connections_total") < connections + 6 * 8
    redirect(site)
    assert ask(site).seen


def test_its_death_harms_only_its_own_connections(site: TlsSite):
    redirect(site)

    def serve(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(NO_CONTENT)

    with SocketServer(site.outside, serve) as server:
        destination = (site.outside.ipv4, server.port)
        with site.pod.call(partial(socket.create_connection, destination, TIMEOUT)) as relayed:
            relayed.sendall(GET % 1)
            assert relayed.recv(65536) == NO_CONTENT
            with connect_tls(site) as own:
                own.sendall(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
                assert own.recv(65536).startswith(b"HTTP/1.1 200 ")
                before = mitm_worker(site)
                os.kill(before, signal.SIGKILL)
                hear_out(own)
            relayed.sendall(GET % 4)
            assert relayed.recv(65536) == NO_CONTENT
    eventually(lambda: mitm_worker(site), lambda pid: pid != before, "a new mitm worker")
    assert ask(site).seen
    site.daemon.exchange_where(path="/4")
