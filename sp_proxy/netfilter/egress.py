"""Settings → rules for what the daemon itself may open, where ``netfilter.restrict_egress`` limits it.

A daemon that sees everything should be able to talk to nobody but those for whom it is meant. What it relays goes wherever
applications go, which no list can say in advance: so each redirected connection leaves a note of its destination, and the daemon
may go where there is a note. Backends are known by their addresses when the rules are applied.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sp_proxy.netfilter.policy import DNS_PORT, Ids
from sp_proxy.netfilter.rules import (
    Bypass,
    Chain,
    Match,
    NetfilterError,
    Network,
    PortRange,
    Refuse,
    Rule,
    merge_networks,
    merge_ports,
)
from sp_proxy.settings.checks import is_loopback
from sp_proxy.settings.model import SettingsModel

CHAIN = Chain.EGRESS
_DEFAULT_PORTS = {"http": 80, "https": 443}


def egress_rules(settings: SettingsModel, ids: Ids, daemon: int) -> list[Rule]:
    """None where nothing is limited. Raises ``NetfilterError``."""
    if not settings.netfilter.restrict_egress:
        return []
    if settings.listen.proxy is not None:
        raise NetfilterError(
            "netfilter.restrict_egress cannot work with listen.proxy: its clients may ask for any destination",
            exit_code=2,
        )
    if daemon == 0:
        raise NetfilterError(
            "netfilter.restrict_egress would limit all of root: run the daemon as another user", exit_code=2
        )

    def allow(reason: str, match: Match) -> Rule:
        return Rule(CHAIN, match, Bypass(), reason)

    users = (daemon,)
    rules = [
        allow("stays on this host", Match(users=users, interfaces=("lo",))),
        allow("DNS", Match(users=users, protocol="udp", ports=(DNS_PORT,))),
        allow("DNS", Match(users=users, protocol="tcp", ports=(DNS_PORT,))),
    ]
    for reason, networks, port in _destinations(settings, ids):
        ports = merge_ports([PortRange(port, port)])
        rules.append(allow(reason, Match(users=users, protocol="tcp", destinations=networks, ports=ports)))
    rules.append(allow("where redirected connections were going", Match(users=users, protocol="tcp", relayed=True)))
    refused = (Match(users=users, protocol="tcp"), Match(users=users, protocol="udp"), Match(users=users))
    return [*rules, *(Rule(CHAIN, match, Refuse(), "restrict_egress") for match in refused)]


def _destinations(settings: SettingsModel, ids: Ids) -> Iterator[tuple[str, tuple[Network, ...], int]]:
    """Backends and fixed upstreams, with their networks and ports; what is on this host left out."""
    by_port: dict[int, list[str]] = {}
    for host, port in _backends(settings):
        networks = settings.netfilter.backend_cidrs or ids.addresses(host)
        by_port.setdefault(port, []).extend(networks)
    for port, networks in sorted(by_port.items()):
        yield "backends", merge_networks(dict.fromkeys(networks)), port
    for forward in settings.listen.forward:
        if forward.upstream.host and not is_loopback(forward.upstream.host):
            yield (
                "upstreams of listen.forward",
                merge_networks(ids.addresses(forward.upstream.host)),
                forward.upstream.port,
            )


def _backends(settings: SettingsModel) -> Iterator[tuple[str, int]]:
    """Where uploads are sent: the backends, or the proxy in front of them."""
    urls = [settings.upload.proxy] if settings.upload.proxy else list(_urls(settings))
    for url in urls:
        parts = urlsplit(url)
        if parts.hostname and not is_loopback(parts.hostname):
            yield parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme, 443)


def _urls(settings: SettingsModel) -> Iterator[str]:
    if not settings.exporters:
        yield settings.sp_backend_url
    for exporter in settings.exporters:
        if exporter.url is not None:
            yield exporter.url
        elif exporter.type == "softprobe":
            yield settings.sp_backend_url
