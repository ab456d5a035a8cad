"""Who is where (pure): the services, what each daemon is told, and where names lead, for both modes.

Transparent: a pod for each service, wired directly to those it talks with, and the ports of the daemons' defaults. Nobody
knows of the daemons: names lead to the pods. Forwarding: everything on 127.0.0.1; a name leads to an outbound listener of the
caller's daemon, which forwards to the inbound listener of the callee's, which forwards to its application.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sp_proxy.demo.shop.report import CUSTOMERS

type HostPort = tuple[str, int]

LOOPBACK = "127.0.0.1"
CALLS: dict[str, tuple[str, ...]] = {"orders": ("inventory", "payment"), "inventory": (), "payment": ()}
"""The services, and whom each of them calls. Customers call the first."""
ENTRY = next(iter(CALLS))
BACKEND_PORT = 4318
APPLICATION_PORT = 8080
INBOUND_PORT, OUTBOUND_PORT, ADMIN_PORT = 16006, 16001, 16021
DAEMON_USER = 1338
APPLICATION_USER = 65534
"""Nobody."""


@dataclass(frozen=True, slots=True)
class Member:
    """A service with its daemon."""

    name: str
    settings: dict[str, Any]
    """The daemon's configuration."""
    application: HostPort
    """Where its application listens."""
    admin: HostPort
    peers: dict[str, HostPort]
    """Where the names of the services that it calls lead."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole."""

    members: tuple[Member, ...]
    entry: HostPort
    """Where the customers find the first service."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A veth pair between two places, and the addresses of its ends."""

    left: str
    left_address: str
    right: str
    right_address: str


def wires() -> list[Wire]:
    """One wire for each pair that talks. No bridge and no router: neither has to be allowed or loaded."""
    pairs = [(ENTRY, CUSTOMERS), *((name, peer) for name, peers in CALLS.items() for peer in peers)]
    return [
        Wire(left, f"10.80.{number}.1", right, f"10.80.{number}.2") for number, (left, right) in enumerate(pairs, 1)
    ]


def transparent() -> Layout:
    """Three pods."""
    address = {(wire.left, wire.right): wire.right_address for wire in wires()}
    entry = next(wire.left_address for wire in wires() if wire.right == CUSTOMERS)
    members = [
        Member(
            name,
            _settings(
                name,
                BACKEND_PORT,
                {"inbound": INBOUND_PORT, "outbound": OUTBOUND_PORT},
                ADMIN_PORT,
                netfilter={"user": str(DAEMON_USER)},
            ),
            ("0.0.0.0", APPLICATION_PORT),
            (LOOPBACK, ADMIN_PORT),
            {peer: (address[name, peer], APPLICATION_PORT) for peer in peers},
        )
        for name, peers in CALLS.items()
    ]
    return Layout(tuple(members), (entry, APPLICATION_PORT))


def forwarding(backend_port: int, application_ports: Mapping[str, int], free_port: Callable[[], int]) -> Layout:
    """All of it on this host."""
    inbound = {name: free_port() for name in CALLS}
    members = []
    for name, peers in CALLS.items():
        outbound, admin = {peer: free_port() for peer in peers}, free_port()
        forward = [_forward(inbound[name], application_ports[name], "inbound")]
        forward += [_forward(port, inbound[peer], "outbound") for peer, port in outbound.items()]
        members.append(
            Member(
                name,
                _settings(name, backend_port, {"inbound": "off", "outbound": "off", "forward": forward}, admin),
                (LOOPBACK, application_ports[name]),
                (LOOPBACK, admin),
                {peer: (LOOPBACK, port) for peer, port in outbound.items()},
            )
        )
    return Layout(tuple(members), (LOOPBACK, inbound[ENTRY]))


def _forward(port: int, upstream: int, direction: str) -> dict[str, str]:
    return {"listen": f"{LOOPBACK}:{port}", "upstream": f"{LOOPBACK}:{upstream}", "direction": direction}


def _settings(name: str, backend_port: int, listen: dict[str, Any], admin: int, **others: Any) -> dict[str, Any]:
    return {
        "sp_backend_url": f"http://{LOOPBACK}:{backend_port}",
        "service_name": name,
        "listen": listen,
        "admin": {"listen": f"{LOOPBACK}:{admin}"},
        "batch": {"flush_timeout": "200ms"},  # a person is looking
        "spool": {"mode": "off"},  # nothing of a demo is left behind, nor found by the next one
        "shutdown": {"grace_period": "2s", "flush_timeout": "2s"},
        "log": {"level": "warning", "format": "json"},
        **others,
    }
