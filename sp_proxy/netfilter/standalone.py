"""Settings → rules for a host or pod without Envoy: inbound to one port of the daemon, outbound to the other.

The order is the policy. First comes what must never be redirected, whatever the settings include, or traffic is harmed:
the daemon's own connections (a loop), what stays on this host, link-local addresses with the cloud's metadata service,
DNS, the daemon's own ports. Then what is excluded; then what is included, or everything.

A process that calls an address of its own host, loopback or not, leaves and arrives over ``lo``: it is bypassed, in both
chains, as Istio has it. Such a call would otherwise be captured twice by one daemon, and the application would see the
daemon as its client. A call to the workload's own *service* address leaves the host, and is captured in both directions.
"""

from collections.abc import Callable, Iterable

from sp_proxy.netfilter.rules import (
    Bypass,
    Chain,
    Match,
    NetfilterError,
    PortRange,
    Redirect,
    Rule,
    Ruleset,
    merge_networks,
    merge_ports,
)
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import Address

LOOPBACK = merge_networks(["127.0.0.0/8", "::1/128"])
LINK_LOCAL = merge_networks(["169.254.0.0/16", "fe80::/10"])
"""With the metadata services of the clouds (169.254.169.254) and node-local DNS caches (169.254.20.10)."""
MULTICAST = merge_networks(["224.0.0.0/4", "ff00::/8"])
DNS_PORT = PortRange(53, 53)


def standalone_rules(settings: SettingsModel, user_id: Callable[[str], int]) -> Ruleset:
    """The rules that the settings ask for.

    ``user_id`` looks up a user's name. Raises ``NetfilterError`` if nothing is to be redirected, or if the daemon does not
    listen where redirected connections arrive.
    """
    netfilter = settings.netfilter
    inbound = None if netfilter.mode == "outbound-only" else settings.listen.inbound
    outbound = None if netfilter.mode == "inbound-only" else settings.listen.outbound
    if inbound is None and outbound is None:
        raise NetfilterError(
            f"nothing to redirect: netfilter.mode is {netfilter.mode} and its listener is off; "
            "give listen.inbound or listen.outbound a port",
            exit_code=2,
        )
    rules: list[Rule] = []
    if inbound:
        _check_listener("inbound", inbound, ipv6=netfilter.ipv6)
        rules += _inbound(settings, inbound.port)
    if outbound:
        _check_listener("outbound", outbound, ipv6=netfilter.ipv6)
        rules += _outbound(settings, outbound.port, user_id)
    return Ruleset(netfilter.mode, tuple(rules))


def _inbound(settings: SettingsModel, port: int) -> list[Rule]:
    netfilter = settings.netfilter
    own_ports = [*_transparent_ports(settings), *(forward.listen.port for forward in settings.listen.forward)]
    own_ports += [settings.backend.listen.port] if settings.backend.enabled else []
    return [
        *_family_rules(Chain.INBOUND, ipv6=netfilter.ipv6),
        _bypass(Chain.INBOUND, "stays on this host", interface="lo"),
        _bypass(Chain.INBOUND, "routed to another host", remote_destination=True),
        _bypass(Chain.INBOUND, "link-local and metadata addresses", destinations=LINK_LOCAL),
        _bypass(Chain.INBOUND, "multicast", destinations=MULTICAST),
        _bypass(Chain.INBOUND, "DNS", ports=(DNS_PORT,)),
        _bypass(Chain.INBOUND, "ports of the daemon itself", ports=_ports(own_ports)),
        *_optional(Chain.INBOUND, "inbound_exclude_ports", ports=_ports(netfilter.inbound_exclude_ports)),
        *_optional(Chain.INBOUND, "inbound_exclude_cidrs", sources=merge_networks(netfilter.inbound_exclude_cidrs)),
        Rule(
            Chain.INBOUND,
            Match(ports=_ports(netfilter.inbound_include_ports)),
            Redirect(port),
            "inbound_include_ports" if netfilter.inbound_include_ports else "all inbound",
        ),
    ]


def _outbound(settings: SettingsModel, port: int, user_id: Callable[[str], int]) -> list[Rule]:
    netfilter = settings.netfilter
    daemon = user_id(netfilter.user)
    others = tuple(sorted({user_id(user) for user in netfilter.outbound_exclude_users} - {daemon}))
    included = bool(netfilter.outbound_include_ports or netfilter.outbound_include_cidrs)
    return [
        *_family_rules(Chain.OUTBOUND, ipv6=netfilter.ipv6),
        _bypass(Chain.OUTBOUND, "connections of the daemon itself", users=(daemon,)),
        *_optional(Chain.OUTBOUND, "outbound_exclude_users", users=others),
        _bypass(Chain.OUTBOUND, "stays on this host", interface="lo"),
        _bypass(Chain.OUTBOUND, "loopback addresses", destinations=LOOPBACK),
        _bypass(Chain.OUTBOUND, "link-local and metadata addresses", destinations=LINK_LOCAL),
        _bypass(Chain.OUTBOUND, "multicast", destinations=MULTICAST),
        _bypass(Chain.OUTBOUND, "DNS", ports=(DNS_PORT,)),
        _bypass(Chain.OUTBOUND, "ports of the daemon itself", ports=_ports(_transparent_ports(settings))),
        *_optional(Chain.OUTBOUND, "outbound_exclude_ports", ports=_ports(netfilter.outbound_exclude_ports)),
        *_optional(
            Chain.OUTBOUND, "outbound_exclude_cidrs", destinations=merge_networks(netfilter.outbound_exclude_cidrs)
        ),
        Rule(
            Chain.OUTBOUND,
            Match(
                destinations=merge_networks(netfilter.outbound_include_cidrs),
                ports=_ports(netfilter.outbound_include_ports),
            ),
            Redirect(port),
            "outbound_include_ports and outbound_include_cidrs" if included else "all outbound",
        ),
    ]


def _transparent_ports(settings: SettingsModel) -> list[int]:
    """Ports which no application uses, here or in another pod: bypassed in both directions."""
    ports = [address.port for address in (settings.listen.inbound, settings.listen.outbound) if address]
    return [*ports, settings.admin.listen.port] if settings.admin.enabled else ports


def _ports(values: Iterable[int | str]) -> tuple[PortRange, ...]:
    return merge_ports(PortRange.parse(value) for value in values)


def _family_rules(chain: Chain, *, ipv6: bool) -> list[Rule]:
    return [] if ipv6 else [Rule(chain, Match(family=6), Bypass(), "netfilter.ipv6 is off")]


def _bypass(chain: Chain, reason: str, **parts: object) -> Rule:
    return Rule(chain, Match(**parts), Bypass(), reason)  # type: ignore[arg-type]  # the parts of Match, by name


def _optional(chain: Chain, reason: str, **parts: tuple[object, ...]) -> list[Rule]:
    """The bypass rule of a list in the settings; no rule for an empty list, which would match everything."""
    return [_bypass(chain, reason, **parts)] if all(parts.values()) else []


def _check_listener(name: str, address: Address, *, ipv6: bool) -> None:
    """REDIRECT sends inbound to the address of the incoming interface, outbound to 127.0.0.1 or ::1."""
    reached = {"", "0.0.0.0"} if name == "inbound" else {"", "0.0.0.0", "127.0.0.1"}
    if address.host not in reached:
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
