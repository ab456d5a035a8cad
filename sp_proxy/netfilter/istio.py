"""Settings → rules for a pod with Istio's Envoy in it: the daemon stands between the application and Envoy.

    network → Envoy (15006, ends mTLS) → daemon (inbound port) → application
    application → daemon (outbound port) → Envoy (15001, begins mTLS) → network

So the daemon sees clear text on both ways, and encryption, routing and policy stay Envoy's. All rules are for what local
processes open (OUTPUT); what arrives from the network is Istio's affair alone. They stand before Istio's own: the first
nat rule that translates a connection decides, and what ours leave alone goes on to Istio's.

Envoy's connection to the application has the source 127.0.0.6 or ::6, over ``lo``: that is how it is told from Envoy's
connection to its own pod's address, which must go to 15006 (a pod that calls its own service). The daemon's own
connection to the application is bypassed by Istio because it is over ``lo`` and not Envoy's; the one to elsewhere is
taken by Istio as the application's would have been.

Not possible: TPROXY interception and a Sidecar resource with a ``defaultEndpoint`` on loopback (Envoy then connects
without that source), ambient mode (no Envoy here).
"""

from sp_proxy.netfilter import policy
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import (
    Chain,
    Match,
    NetfilterError,
    PastOthers,
    PortRange,
    Redirect,
    Rule,
    Ruleset,
    merge_networks,
)
from sp_proxy.settings.model import SettingsModel

PASS_THROUGH = merge_networks(["127.0.0.6/32", "::6/128"])
"""Source addresses of Envoy's connections to the application (``InboundPassthroughBindIpv4`` in Istio's sources)."""
ISTIO_PORTS = PortRange(15000, 15100)
"""Ports of Envoy and pilot-agent (application requirements, "Ports used by Istio"); HBONE is 15008."""


def beside_istio_rules(settings: SettingsModel, ids: Ids) -> Ruleset:
    """The rules that the settings ask for, in the mode ``beside-istio``. Raises ``NetfilterError``."""
    netfilter = settings.netfilter
    inbound, outbound = settings.listen.inbound, settings.listen.outbound
    if inbound is None and outbound is None:
        raise NetfilterError(
            "nothing to redirect: both listeners are off; give listen.inbound or listen.outbound a port", exit_code=2
        )
    unusable = [
        key
        for key in (
            "inbound_include_interfaces",
            "inbound_exclude_interfaces",
            "inbound_include_cidrs",
            "inbound_exclude_cidrs",
        )
        if getattr(netfilter, key)
    ]
    if unusable:
        raise NetfilterError(
            f"netfilter.{unusable[0]} cannot work in mode beside-istio: what Envoy hands on comes from itself; use ports",
            exit_code=2,
        )
    daemon, envoy = ids.user(netfilter.user), ids.user(netfilter.istio_user)
    if daemon == envoy:
        raise NetfilterError(
            f"netfilter.user and netfilter.istio_user are both {daemon}: run the daemon as another user", exit_code=2
        )
    chain = Chain.OUTBOUND
    rules = [*policy.heartbeat_rules(settings, daemon), *policy.family_rules(chain, ipv6=netfilter.ipv6)]
    past = merge_networks(netfilter.past_istio_cidrs)
    if past:
        rules.append(Rule(chain, Match(users=(daemon,), destinations=past), PastOthers(), "past_istio_cidrs"))
    rules.append(policy.bypass(chain, "connections of the daemon itself", Match(users=(daemon,))))
    if inbound:
        policy.check_listener("inbound", inbound, {"127.0.0.1"}, ipv6=netfilter.ipv6)
        rules += _inbound(settings, envoy, inbound.port)
    rules.append(policy.bypass(chain, "connections of Envoy", Match(users=(envoy,))))
    rules.append(policy.bypass(chain, "connections of Envoy", Match(groups=(ids.group(netfilter.istio_group),))))
    if outbound:
        policy.check_listener("outbound", outbound, {"127.0.0.1"}, ipv6=netfilter.ipv6)
        rules += policy.never_outbound(settings)
        rules.append(policy.bypass(chain, "ports of Istio", Match(ports=(ISTIO_PORTS,))))
        rules += policy.outbound_excludes(settings, ids, daemon)
        rules += policy.outbound_redirect(settings, ids, outbound.port)
    return Ruleset(netfilter.mode, tuple(rules))


def _inbound(settings: SettingsModel, envoy: int, port: int) -> list[Rule]:
    """What Envoy hands on to the application."""
    netfilter, chain = settings.netfilter, Chain.OUTBOUND

    def handed_on(ports: tuple[PortRange, ...], *, without_heartbeat: bool = False) -> Match:
        return Match(
            interfaces=("lo",),
            users=(envoy,),
            sources=PASS_THROUGH,
            ports=ports,
            without_heartbeat=without_heartbeat,
        )

    excluded = policy.ports(
        [*netfilter.inbound_exclude_ports, *policy.transparent_ports(settings), 53, str(ISTIO_PORTS)]
    )
    included = policy.ports(netfilter.inbound_include_ports)
    rules = [
        policy.bypass(
            chain, "from Envoy: DNS, ports of the daemon and Istio, inbound_exclude_ports", handed_on(excluded)
        )
    ]
    if netfilter.heartbeat.enabled:
        rules.append(policy.bypass(chain, policy.NO_HEARTBEAT, handed_on((), without_heartbeat=True)))
    reason = "from Envoy: inbound_include_ports" if included else "from Envoy: all inbound"
    return [*rules, Rule(chain, handed_on(included), Redirect(port), reason)]
