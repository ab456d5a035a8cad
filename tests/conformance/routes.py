"""The ways through the daemon: redirect rules in both directions and both IP versions, a forwarding listener, the explicit proxy.

``Network`` has a pod with the daemon in it, the network outside, and two more namespaces without any daemon, for the
direct connection with which all is compared.
"""

import itertools
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from tests.conformance.conversation import Check, Played, play
from tests.e2e.harness import Daemon, home, netfilter, running_daemon
from tests.e2e.servers import listen
from tests.netns import Namespace, default_route, link

FORWARD_PORT = 7000
UPSTREAM_PORT = 7001
PROXY_PORT = 8888
NAME = b"h.example"
"""As in the checks' ``Host`` fields."""
_REQUEST_LINE = re.compile(rb"(?<![^\n])([!-~]{1,64})( ?)(/\S*)(?= HTTP/1\.[01]\r\n)")
_ports = itertools.count(8900)
"""Below those that the kernel gives out."""
Client = tuple[str, str]
"""Its address and port."""


class Inside:
    """Makes sockets in a namespace, by a thread that stays in it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._thread = ThreadPoolExecutor(1, initializer=partial(_enter, namespace.name))

    def listen(self, port: int = 0) -> socket.socket:
        return self._thread.submit(listen, port).result()

    def connect(self, address: tuple[str, int]) -> socket.socket:
        return self._thread.submit(_connect, address).result()

    def close(self) -> None:
        self._thread.shutdown()


def _enter(name: str) -> None:
    with Path("/run/netns", name).open("rb") as namespace:
        os.setns(namespace.fileno(), os.CLONE_NEWNET)


def _connect(address: tuple[str, int]) -> socket.socket:
    """From a port of its own: one that was used with another destination shortly before might be changed by the redirection."""
    source = ("::" if ":" in address[0] else "0.0.0.0", next(_ports))
    sock = socket.create_connection(address, 20, source)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@dataclass
class Network:
    pod: Inside
    outside: Inside
    here: Inside
    there: Inside
    daemon: Daemon
    spans: Path

    def direct(self, check: Check) -> Played:
        with self.there.listen() as listener:
            address = (self.there.namespace.ipv4, listener.getsockname()[1])
            return play(check, lambda: self.here.connect(address), listener)

    def redirected(self, check: Check, direction: str, family: int) -> Played:
        near, far = (self.outside, self.pod) if direction == "inbound" else (self.pod, self.outside)
        with far.listen() as listener:
            host = far.namespace.ipv4 if family == 4 else far.namespace.ipv6
            return play(check, lambda: near.connect((host, listener.getsockname()[1])), listener)

    def forwarded(self, check: Check) -> Played:
        with self.outside.listen(UPSTREAM_PORT) as listener:
            return play(check, lambda: self.pod.connect(("127.0.0.1", FORWARD_PORT)), listener)

    def tunnelled(self, check: Check, family: int = 4) -> Played:
        """Through ``CONNECT`` to the explicit proxy."""
        with self.outside.listen() as listener:
            host = self.outside.namespace.ipv4 if family == 4 else f"[{self.outside.namespace.ipv6}]"
            authority = f"{host}:{listener.getsockname()[1]}"
            return play(check, partial(self.tunnel, authority), listener)

    def tunnel(self, authority: str) -> socket.socket:
        sock = self.pod.connect(("127.0.0.1", PROXY_PORT))
        sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = sock.recv(1)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return sock

    def records(self) -> dict[Client, list[dict[str, str]]]:
        """Attributes of all spans by client, in the order of their requests."""
        self.daemon.settled()
        found: dict[Client, list[tuple[int, dict[str, str]]]] = {}
        for line in self.spans.read_text("utf-8").splitlines():
            for resource_spans in json.loads(line)["resourceSpans"]:
                for span in (each for scope in resource_spans["scopeSpans"] for each in scope["spans"]):
                    attributes = {each["key"]: str(*each["value"].values()) for each in span["attributes"]}
                    client = attributes["client.address"], attributes["client.port"]
                    found.setdefault(client, []).append((int(span["startTimeUnixNano"]), attributes))
        return {client: [each for _, each in sorted(spans, key=itemgetter(0))] for client, spans in found.items()}

    def in_absolute_form(self, check: Check) -> Played:
        """Its requests in absolute form, to the explicit proxy."""
        with self.outside.listen(80) as listener:
            connect = partial(self.pod.connect, ("127.0.0.1", PROXY_PORT))
            return play(check, connect, listener, absolute)

    @property
    def routes(self) -> dict[str, Callable[[Check], Played]]:
        redirected = {
            f"{direction}-{family}": partial(self.redirected, direction=direction, family=family)
            for direction in ("inbound", "outbound")
            for family in (4, 6)
        }
        return {**redirected, "forward": self.forwarded, "tunnel": self.tunnelled}


def absolute(data: bytes) -> bytes:
    """Each request line with a path, as a proxy is asked."""
    return _REQUEST_LINE.sub(rb"\1\2http://%b\3" % NAME, data)


@contextmanager
def named(namespace: Namespace, address: str) -> Iterator[None]:
    """Processes that are started in the namespace know this address by NAME (ip-netns(8))."""
    directory = Path("/etc/netns", namespace.name)
    directory.mkdir(parents=True)
    try:
        (directory / "hosts").write_text(f"127.0.0.1 localhost\n{address} {NAME.decode()}\n")
        yield
    finally:
        shutil.rmtree(directory)


@contextmanager
def network(settings: Mapping[str, Any], expected_errors: tuple[str, ...] = ()) -> Iterator[Network]:
    with ExitStack() as stack:
        pod, outside, here, there = (
            stack.enter_context(Namespace(name)) for name in ("pod", "outside", "here", "there")
        )
        link(pod, outside)
        default_route(pod, via=outside)
        link(here, there)
        stack.enter_context(named(pod, outside.ipv4))
        directory = stack.enter_context(home())
        listeners = {
            "forward": [
                {"listen": FORWARD_PORT, "upstream": f"{outside.ipv4}:{UPSTREAM_PORT}", "direction": "outbound"}
            ],
            "proxy": f"127.0.0.1:{PROXY_PORT}",
        }
        spans = directory / "spans.jsonl"
        exporters = [{"type": "file", "path": str(spans)}]
        own = {"listen": listeners, "exporters": exporters, **settings}
        daemon = stack.enter_context(running_daemon(pod, directory, own, expected_errors=expected_errors))
        netfilter(pod, directory / "sp_proxy.yaml", "apply", "--writer", "nft")
        insides = [Inside(each) for each in (pod, outside, here, there)]
        for each in insides:
            stack.callback(each.close)
        at_pod, at_outside, at_here, at_there = insides
        yield Network(at_pod, at_outside, at_here, at_there, daemon, spans)
