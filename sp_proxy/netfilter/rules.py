"""Rules as values: a matcher and an action, in order, the first match decides. Nothing here knows nft or iptables.

A writer renders each of them; ``decide`` gives their meaning, which the tests compare with what the kernel does. On the chains
that redirect, only TCP is ever matched: every writer limits them to it, so a rule does not say it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network
from typing import Literal, Self

type Network = IPv4Network | IPv6Network
type IPAddress = IPv4Address | IPv6Address
type Family = Literal[4, 6]
type Protocol = Literal["tcp", "udp", ""]
"""Empty for any."""


class NetfilterError(Exception):
    """Cannot be done: one line for a person, which names the remedy. ``exit_code`` is 2 where the request is wrong, and 3 where
    rules were tried that do not work.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Chain(StrEnum):
    """The places where connections are looked at, each once, with its first packet."""

    INBOUND = "inbound"
    """What arrives from the network (PREROUTING)."""
    OUTBOUND = "outbound"
    """What a local process opens (OUTPUT)."""
    EGRESS = "egress"
    """The same, before that: whether the daemon may open it at all. Of any protocol."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int

    @classmethod
    def parse(cls, value: int | str) -> Self:
        """From ``80`` or ``"8000-8100"``, as the settings have checked it."""
        first, _, last = str(value).partition("-")
        return cls(int(first), int(last or first))

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


def merge_ports(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in the fewest ranges, in order: the one form in which equal sets are equal values."""
    merged: list[PortRange] = []
    for ports in sorted(ranges):
        if merged and ports.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, ports.last))
        else:
            merged.append(ports)
    return tuple(merged)


def merge_networks(networks: Iterable[Network | str]) -> tuple[Network, ...]:
    """The same addresses in the fewest networks, IPv4 first: nft refuses sets that overlap."""
    parsed = [ip_network(network) for network in networks]
    fours = collapse_addresses(network for network in parsed if isinstance(network, IPv4Network))
    sixes = collapse_addresses(network for network in parsed if isinstance(network, IPv6Network))
    return (*fours, *sixes)


@dataclass(frozen=True, slots=True)
class Connection:
    """What a rule can see of a new TCP connection."""

    chain: Chain
    source: IPAddress
    destination: IPAddress
    port: int
    interface: str = "eth0"
    """Where it comes in, or leaves."""
    user: int = 0
    """Of the process that opens it; on the outbound chain only, as the next two."""
    group: int = 0
    cgroup: str = ""
    """Path of its control group, without slashes around it."""
    local: bool = True
    """Whether the destination is an address of this host."""
    alive: bool = True
    """Whether heartbeats arrive."""
    protocol: Protocol = "tcp"
    relayed: bool = False
    """Whether a redirected connection was going there."""


@dataclass(frozen=True, slots=True)
class Match:
    """All given parts must match; within a part, one of its values."""

    interfaces: tuple[str, ...] = ()
    family: Family | None = None
    remote_destination: bool = False
    """Matches only what is not addressed to this host."""
    users: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    cgroups: tuple[str, ...] = ()
    """Control groups with all below them."""
    sources: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()
    ports: tuple[PortRange, ...] = ()
    """Destination ports."""
    without_heartbeat: bool = False
    """Matches only while no heartbeats arrive."""
    protocol: Protocol = ""
    """On the chain ``EGRESS`` only."""
    relayed: bool = False
    """Matches only destinations that were noted by a ``Redirect``."""

    def __call__(self, connection: Connection) -> bool:
        """Whether a connection matches."""
        return (
            (not self.interfaces or connection.interface in self.interfaces)
            and self.family in {None, connection.destination.version}
            and not (self.remote_destination and connection.local)
            and (not self.users or connection.user in self.users)
            and (not self.groups or connection.group in self.groups)
            and (not self.cgroups or any(f"{connection.cgroup}/".startswith(f"{path}/") for path in self.cgroups))
            and (not self.sources or any(connection.source in network for network in self.sources))
            and (not self.destinations or any(connection.destination in network for network in self.destinations))
            and (not self.ports or any(connection.port in ports for ports in self.ports))
            and not (self.without_heartbeat and connection.alive)
            and self.protocol in {"", connection.protocol}
            and (connection.relayed or not self.relayed)
        )

    def of_family(self, family: Family) -> Self | None:
        """The matcher limited to networks of one IP version; None if it matches nothing of that version."""
        if self.family not in {None, family}:
            return None
        sources = tuple(network for network in self.sources if network.version == family)
        destinations = tuple(network for network in self.destinations if network.version == family)
        if bool(sources) != bool(self.sources) or bool(destinations) != bool(self.destinations):
            return None
        return replace(self, family=family, sources=sources, destinations=destinations)

    def __str__(self) -> str:
        parts = [
            "no heartbeat" if self.without_heartbeat else "",
            f"interface {', '.join(self.interfaces)}" if self.interfaces else "",
            f"IPv{self.family}" if self.family else "",
            "not addressed to this host" if self.remote_destination else "",
            f"user {', '.join(map(str, self.users))}" if self.users else "",
            f"group {', '.join(map(str, self.groups))}" if self.groups else "",
            f"control group {', '.join(self.cgroups)}" if self.cgroups else "",
            f"from {', '.join(map(str, self.sources))}" if self.sources else "",
            f"to {', '.join(map(str, self.destinations))}" if self.destinations else "",
            f"{self.protocol.upper()}" if self.protocol else "",
            f"port {', '.join(map(str, self.ports))}" if self.ports else "",
            "destination of a redirected connection" if self.relayed else "",
        ]
        return "; ".join(part for part in parts if part) or "everything else"


@dataclass(frozen=True, slots=True)
class Bypass:
    """The connection is left alone."""

    def __str__(self) -> str:
        return "bypass"


@dataclass(frozen=True, slots=True)
class Redirect:
    """The connection is sent to a port of this host; the listener asks the kernel where it was going."""

    port: int
    note: bool = False
    """Note where it was going, so that the daemon may go there (``Match.relayed``)."""

    def __str__(self) -> str:
        return f"redirect to port {self.port}"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The daemon is at work: redirect for this long from now on. The connection itself is left alone."""

    timeout_seconds: int

    def __str__(self) -> str:
        return f"redirect for {self.timeout_seconds} s"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The daemon is about to stop: redirect no more. The connection itself is left alone."""

    def __str__(self) -> str:
        return "redirect no more"


@dataclass(frozen=True, slots=True)
class PastOthers:
    """The connection goes where it was going, and is kept from the redirect rules of others (Istio's)."""

    def __str__(self) -> str:
        return "past Envoy"


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection fails at once."""

    def __str__(self) -> str:
        return "refuse"


type Action = Bypass | Redirect | Heartbeat | Withdrawal | PastOthers | Refuse


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``reason`` is written into the kernel beside it: at most 100 printable characters without quotes."""

    chain: Chain
    match: Match
    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules, in order. A chain without rules is not written at all."""

    mode: str
    rules: tuple[Rule, ...]

    def chain(self, chain: Chain) -> tuple[Rule, ...]:
        """The rules of one chain, in order."""
        return tuple(rule for rule in self.rules if rule.chain is chain)

    @property
    def heartbeat(self) -> Rule | None:
        """The rule that takes heartbeats; None where redirecting does not depend on them."""
        return next((rule for rule in self.rules if isinstance(rule.action, Heartbeat)), None)

    @property
    def restricts(self) -> bool:
        """Whether the daemon is limited to what it needs."""
        return bool(self.chain(Chain.EGRESS))

    def redirects(self, chain: Chain) -> bool:
        """Whether anything is redirected on a chain."""
        return any(isinstance(rule.action, Redirect) for rule in self.chain(chain))

    def decide(self, connection: Connection) -> Rule | None:
        """The rule that decides on a connection; None if none does, and it is left alone."""
        return next((rule for rule in self.chain(connection.chain) if rule.match(connection)), None)


def describe(ruleset: Ruleset) -> str:
    """The rules for a person to read, a line each."""
    titles = {
        Chain.INBOUND: "inbound: new TCP connections from the network (PREROUTING); the first match decides",
        Chain.OUTBOUND: "outbound: new TCP connections of local processes (OUTPUT); the first match decides",
        Chain.EGRESS: "egress: what the daemon itself may open, looked at before that; the first match decides",
    }
    lines = [f"mode {ruleset.mode}"]
    for chain, title in titles.items():
        rules = ruleset.chain(chain)
        if chain is Chain.EGRESS and not rules:
            continue
        shown = ruleset.redirects(chain) or chain is Chain.EGRESS
        lines += ["", title if shown else f"{chain}: nothing is redirected"]
        rows = [(str(rule.action), str(rule.match), rule.reason) for rule in rules]
        width = max((len(action) for action, _, _ in rows), default=0)
        lines += [
            f"{number:4}  {action:{width}}  {match}  ({reason})"
            for number, (action, match, reason) in enumerate(rows, 1)
        ]
    return "\n".join(lines) + "\n"
