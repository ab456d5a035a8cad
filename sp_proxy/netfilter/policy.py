"""What the modes have in common: the bypasses that nothing switches off, the lists of the settings, the heartbeat.

Each function gives rules in their order; ``standalone`` and ``istio`` put them together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sp_proxy.netfilter.rules import (
    Bypass,
    Chain,
    Heartbeat,
    Match,
    NetfilterError,
    PortRange,
    Redirect,
    Rule,
    Withdrawal,
    merge_networks,
    merge_ports,
)
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import Address

LOOPBACK = merge_networks(["127.0.0.0/8", "::1/128"])
LINK_LOCAL = merge_networks(["169.254.0.0/16", "fe80::/10"])
"""With the metadata services of the clouds (169.254.169.254) and node-local DNS caches (169.254.20.10)."""
METADATA = merge_networks(["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"])
"""The same, and the metadata services that are not link-local in IPv6 (Amazon's, Google's)."""
MULTICAST = merge_networks(["224.0.0.0/4", "ff00::/8"])
DNS_PORT = PortRange(53, 53)
NO_HEARTBEAT = "no heartbeat: the daemon is not at work"


@dataclass(frozen=True, slots=True)
class Ids:
    """Numbers for the names of users, groups and hosts. All raise ``NetfilterError`` for a name the machine does not know."""

    user: Callable[[str], int]
    group: Callable[[str], int]
    addresses: Callable[[str], tuple[str, ...]] = lambda host: (host,)
    """Of a host by its name; only ``restrict_egress`` asks."""

    def users(self, names: Iterable[str]) -> tuple[int, ...]:
        """Sorted, each once."""
        return tuple(sorted({self.user(name) for name in names}))

    def groups(self, names: Iterable[str]) -> tuple[int, ...]:
        """Sorted, each once."""
        return tuple(sorted({self.group(name) for name in names}))


def bypass(chain: Chain, reason: str, match: Match) -> Rule:
    """One rule that leaves alone what matches."""
    return Rule(chain, match, Bypass(), reason)


def optional(chain: Chain, reason: str, match: Match) -> list[Rule]:
    """The bypass rule of a list in the settings; no rule for an empty list, which would match everything."""
    return [bypass(chain, reason, match)] if match != Match() else []


def family_rules(chain: Chain, *, ipv6: bool) -> list[Rule]:
    """A bypass for all of IPv6 where it is off."""
    return [] if ipv6 else [bypass(chain, "netfilter.ipv6 is off", Match(family=6))]


def heartbeat_rules(settings: SettingsModel, daemon: int) -> list[Rule]:
    """What takes the daemon's heartbeats, before all other rules: they are connections of its own, on loopback."""
    heartbeat = settings.netfilter.heartbeat
    if not heartbeat.enabled:
        return []

    def to(port: int) -> Match:
        return Match(interfaces=("lo",), users=(daemon,), ports=(PortRange(port, port),))

    return [
        Rule(Chain.OUTBOUND, to(heartbeat.port), Heartbeat(int(heartbeat.timeout)), "heartbeat of the daemon"),
        Rule(Chain.OUTBOUND, to(heartbeat.port + 1), Withdrawal(), "withdrawal of the heartbeat"),
    ]


def redirect(settings: SettingsModel, chain: Chain, match: Match, port: int, reason: str) -> list[Rule]:
    """The redirect rule, and before it what makes it depend on the heartbeat."""
    note = settings.netfilter.restrict_egress and chain is Chain.OUTBOUND
    rule = Rule(chain, match, Redirect(port, note), reason)
    if not settings.netfilter.heartbeat.enabled:
        return [rule]
    return [bypass(chain, NO_HEARTBEAT, Match(without_heartbeat=True)), rule]


def inbound_excludes(settings: SettingsModel) -> list[Rule]:
    """The lists of the settings that concern inbound connections, as standalone pods see them."""
    netfilter, chain = settings.netfilter, Chain.INBOUND
    return [
        *optional(chain, "inbound_exclude_interfaces", Match(interfaces=tuple(netfilter.inbound_exclude_interfaces))),
        *optional(chain, "inbound_exclude_ports", Match(ports=ports(netfilter.inbound_exclude_ports))),
        *optional(chain, "inbound_exclude_cidrs", Match(sources=merge_networks(netfilter.inbound_exclude_cidrs))),
    ]


def outbound_excludes(settings: SettingsModel, ids: Ids, daemon: int) -> list[Rule]:
    """The lists of the settings that concern outbound connections."""
    netfilter, chain = settings.netfilter, Chain.OUTBOUND
    others = tuple(user for user in ids.users(netfilter.outbound_exclude_users) if user != daemon)
    cgroups = tuple(netfilter.outbound_exclude_cgroups)
    return [
        *optional(chain, "outbound_exclude_users", Match(users=others)),
        *optional(chain, "outbound_exclude_groups", Match(groups=ids.groups(netfilter.outbound_exclude_groups))),
        *optional(chain, "outbound_exclude_cgroups", Match(cgroups=cgroups)),
        *optional(chain, "outbound_exclude_interfaces", Match(interfaces=tuple(netfilter.outbound_exclude_interfaces))),
        *optional(chain, "outbound_exclude_ports", Match(ports=ports(netfilter.outbound_exclude_ports))),
        *optional(
            chain, "outbound_exclude_cidrs", Match(destinations=merge_networks(netfilter.outbound_exclude_cidrs))
        ),
    ]


def never_inbound(settings: SettingsModel) -> list[Rule]:
    """What comes from the network and must not be redirected, whatever the settings include."""
    own = [*transparent_ports(settings), *(forward.listen.port for forward in settings.listen.forward)]
    own += [settings.backend.listen.port] if settings.backend.enabled else []
    own += [settings.listen.proxy.port] if settings.listen.proxy else []
    chain = Chain.INBOUND
    return [
        bypass(chain, "stays on this host", Match(interfaces=("lo",))),
        bypass(chain, "routed to another host", Match(remote_destination=True)),
        bypass(chain, "link-local and metadata addresses", Match(destinations=LINK_LOCAL)),
        bypass(chain, "multicast", Match(destinations=MULTICAST)),
        bypass(chain, "DNS", Match(ports=(DNS_PORT,))),
        bypass(chain, "ports of the daemon itself", Match(ports=ports(own))),
    ]


def never_outbound(settings: SettingsModel) -> list[Rule]:
    """What a local process opens and must not be redirected, beside connections of the daemon itself."""
    chain = Chain.OUTBOUND
    return [
        bypass(chain, "stays on this host", Match(interfaces=("lo",))),
        bypass(chain, "loopback addresses", Match(destinations=LOOPBACK)),
        bypass(chain, "link-local and metadata addresses", Match(destinations=METADATA)),
        bypass(chain, "multicast", Match(destinations=MULTICAST)),
        bypass(chain, "DNS", Match(ports=(DNS_PORT,))),
        bypass(chain, "ports of the daemon itself", Match(ports=ports(transparent_ports(settings)))),
    ]


def outbound_redirect(settings: SettingsModel, ids: Ids, port: int) -> list[Rule]:
    """What the settings include, or everything."""
    netfilter = settings.netfilter
    match = Match(
        interfaces=tuple(netfilter.outbound_include_interfaces),
        users=ids.users(netfilter.outbound_include_users),
        groups=ids.groups(netfilter.outbound_include_groups),
        cgroups=tuple(netfilter.outbound_include_cgroups),
        destinations=merge_networks(netfilter.outbound_include_cidrs),
        ports=ports(netfilter.outbound_include_ports),
    )
    return redirect(settings, Chain.OUTBOUND, match, port, _included("outbound", match))


def inbound_redirect(settings: SettingsModel, port: int) -> list[Rule]:
    """What the settings include, or everything."""
    netfilter = settings.netfilter
    match = Match(
        interfaces=tuple(netfilter.inbound_include_interfaces),
        sources=merge_networks(netfilter.inbound_include_cidrs),
        ports=ports(netfilter.inbound_include_ports),
    )
    return redirect(settings, Chain.INBOUND, match, port, _included("inbound", match))


def ports(values: Iterable[int | str]) -> tuple[PortRange, ...]:
    """Ports of the settings in the fewest ranges."""
    return merge_ports(PortRange.parse(value) for value in values)


def transparent_ports(settings: SettingsModel) -> list[int]:
    """Ports which no application uses, here or in another pod: bypassed in both directions."""
    own = [address.port for address in (settings.listen.inbound, settings.listen.outbound) if address]
    return [*own, settings.admin.listen.port] if settings.admin.enabled else own


def check_listener(name: str, address: Address, reached: set[str], *, ipv6: bool) -> None:
    """REDIRECT sends inbound to the address of the incoming interface, outbound to 127.0.0.1 or ::1."""
    if address.host not in {"", "0.0.0.0", *reached}:
        raise NetfilterError(
            f"listen.{name}: redirected connections do not arrive at {address}; give the port alone: {address.port}",
            exit_code=2,
        )
    if address.host and ipv6:
        raise NetfilterError(
            f"listen.{name}: redirected IPv6 connections do not arrive at {address}; give the port alone "
            f"({address.port}), or set netfilter.ipv6 to false",
            exit_code=2,
        )


def _included(direction: str, match: Match) -> str:
    return f"all {direction}" if match == Match() else f"what {direction}_include_* names"
