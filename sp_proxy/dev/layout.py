"""What each service's daemon is told (pure), for both forms: which listeners it has, and where they lead.

Explicit: everything on this host. An application's requests come to its daemon's explicit proxy; what calls the service
comes to a forwarding listener on the service's port, which leads to where the application listens.
Transparent: a network namespace for each service, where redirect rules lead to the daemon. A forwarding listener on the
port of every other service leads there, so ``localhost:PORT`` is the same service in every namespace.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

LOOPBACK = "127.0.0.1"
LOOPBACKS = (LOOPBACK, "[::1]")
"""``localhost`` is either, as the resolver has it."""
INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT = 16006, 16001, 16021
HEARTBEAT_PORT = 16007
DAEMON_USER = 1338


class Inbound(Struct, frozen=True):
    """Where a service is called, and where it listens."""

    port: int
    to: int


class Peer(Struct, frozen=True):
    """Another service: where it is called, and under which address its namespace is reached."""

    port: int
    address: str


class Common(Struct, frozen=True):
    """What all daemons of a run are told."""

    backend_port: int
    authority_directory: str
    known_authorities: str
    intercept: bool = True
    own_rules: bool = False
    """A configuration of the user's own decides what is captured; without one, everything is."""
    mocked: Mapping[str, Any] = {}
    """Settings by which requests are answered from what was captured earlier (``mock/daemon.py``)."""


def explicit(
    name: str, common: Common, *, proxy_port: int, admin_port: int, inbound: Inbound | None, ipv6: bool
) -> dict[str, Any]:
    """The settings, by dotted key, of a daemon on this host."""
    listen = LOOPBACKS if ipv6 else (LOOPBACK,)
    forward = (
        [_forward(f"{host}:{inbound.port}", f"localhost:{inbound.to}", "inbound") for host in listen] if inbound else []
    )
    return {
        **_settings(name, common, admin_port),
        "listen.inbound": "off",
        "listen.outbound": "off",
        "listen.proxy": f"{LOOPBACK}:{proxy_port}",
        "listen.forward": forward,
    }


def transparent(name: str, common: Common, inbound: Inbound | None, peers: Iterable[Peer]) -> dict[str, Any]:
    """The settings of a daemon in a namespace of its own."""
    forward = [_forward(str(inbound.port), f"localhost:{inbound.to}", "inbound")] if inbound else []
    forward += [
        _forward(f"{host}:{peer.port}", f"{peer.address}:{peer.port}", "outbound")
        for peer in peers
        for host in LOOPBACKS
    ]
    return {
        **_settings(name, common, ADMIN_PORT),
        "listen.inbound": "off",
        "listen.outbound": OUTBOUND_PORT,
        "listen.proxy": "off",
        "listen.forward": forward,
        "netfilter.mode": "outbound-only",
        "netfilter.user": DAEMON_USER,
        # Without a daemon there is no run: what it cannot capture is refused rather than silently missed.
        "netfilter.heartbeat.enabled": False,
    }


def reserved_ports() -> frozenset[int]:
    """Ports which the daemon in a namespace needs itself."""
    return frozenset({INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT, HEARTBEAT_PORT, HEARTBEAT_PORT + 1})


def assignments(settings: Mapping[str, Any]) -> list[str]:
    """The settings as ``--set`` takes them: stronger than a configuration file."""
    words = []
    for key, value in settings.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def _forward(listen: str, upstream: str, direction: str) -> dict[str, str]:
    return {"listen": listen, "upstream": upstream, "direction": direction}


def _settings(name: str, common: Common, admin_port: int) -> dict[str, Any]:
    everything = {"capture.skip_static": False, "capture.skip_prefetch": False}
    return {
        "sp_backend_url": f"http://{LOOPBACK}:{common.backend_port}",
        "exporters": [],
        "approved_backends": [],
        "backend.enabled": False,
        "service_name": name,
        "relay.workers": 1,
        "admin.enabled": True,
        "admin.listen": f"{LOOPBACK}:{admin_port}",
        "tls.intercept": ["."] if common.intercept else [],
        "tls.ca_directory": common.authority_directory,
        "tls.trusted_ca_file": common.known_authorities,
        **({} if common.own_rules else everything),
        "batch.flush_timeout": "200ms",  # a person is looking
        "spool.mode": "off",  # nothing of a run is found by the next one
        "shutdown.grace_period": "2s",
        "shutdown.flush_timeout": "3s",
        "reload.watch": False,
        "log.level": "warning",
        "log.format": "json",
        **(
            {**common.mocked, "inject.url": f"http://{LOOPBACK}:{common.backend_port}/v1/inject"}
            if common.mocked
            else {}
        ),
    }
