"""A pod with the daemon in it, and the network outside, both with the same servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import DAEMON_UID, Daemon, home, netfilter, require_daemon, running_daemon
from tests.e2e.servers import echo, nginx
from tests.netns import Namespace, default_route, link

DETECT_TIMEOUT = 4.0
"""Far above what any test here takes: whoever waits for it is seen."""


Pair = tuple[Namespace, Namespace]


@dataclass
class Site:
    """The pod, whose default route leads outside. Each test says which redirect rules it needs."""

    pod: Namespace
    outside: Namespace
    daemon: Daemon
    config: Path
    _rules: tuple[str, int] = ("", DAEMON_UID)

    def redirect(self, writer: str, user: int = DAEMON_UID) -> None:
        """Has the rules written by this tool, with this user's bypass; none at all for an empty one."""
        if (writer, user) == self._rules:
            return
        self._rules = (writer, user)
        if writer:
            # Nobody sends heartbeats for another user, and what is then redirected is the test's own affair.
            wrong = ["--no-verify", "--set", "netfilter.heartbeat.enabled=false"] if user != DAEMON_UID else []
            assigned = ["--set", f"netfilter.user={user}", *wrong]
            netfilter(self.pod, self.config, "apply", "--writer", writer, *assigned)
        else:
            netfilter(self.pod, self.config, "remove")

    def ends(self, direction: str) -> tuple[Namespace, Namespace]:
        """Client and server."""
        return (self.outside, self.pod) if direction == "inbound" else (self.pod, self.outside)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A pod and its outside, linked, nothing in them."""
    require_daemon("nginx", "curl", "nft", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
    with Namespace("pod") as pod, Namespace("outside") as outside:
        link(pod, outside)
        default_route(pod, via=outside)
        yield pod, outside


@pytest.fixture(scope="module")
def site(pair: Pair) -> Iterator[Site]:
    """Servers on both sides, and the daemon in the pod."""
    with home() as directory, ExitStack() as stack:
        for name, namespace in zip(("pod", "outside"), pair, strict=True):
            stack.enter_context(nginx(namespace, directory / name))
            stack.enter_context(echo(namespace))
        settings = {"detect_timeout": f"{DETECT_TIMEOUT}s"}
        daemon = stack.enter_context(running_daemon(pair[0], directory, settings))
        yield Site(*pair, daemon, directory / "sp_proxy.yaml")
