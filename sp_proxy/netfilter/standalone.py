"""Settings → rules for a host or pod without Envoy: inbound to one port of the daemon, outbound to the other.

The order is the policy. First comes what must never be redirected, whatever the settings include, or traffic is harmed:
the daemon's own connections (a loop), what stays on this host, link-local addresses with the cloud's metadata service,
DNS, the daemon's own ports. Then what is excluded; then what is included, or everything.

A process that calls an address of its own host, loopback or not, leaves and arrives over ``lo``: it is bypassed, in both
chains, as Istio has it. Such a call would otherwise be captured twice by one daemon, and the application would see the
daemon as its client. A call to the workload's own *service* address leaves the host, and is captured in both directions.
"""

from sp_proxy.netfilter import policy
from sp_proxy.netfilter.policy import Ids
from sp_proxy.netfilter.rules import Chain, Match, NetfilterError, Rule, Ruleset
from sp_proxy.settings.model import SettingsModel


def standalone_rules(settings: SettingsModel, ids: Ids) -> Ruleset:
    """The rules that the settings ask for, in the modes without Envoy.

    Raises ``NetfilterError`` if nothing is to be redirected, or if the daemon does not listen where redirected connections
    arrive.
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
    daemon = ids.user(netfilter.user)
    rules: list[Rule] = []
    if inbound:
        policy.check_listener("inbound", inbound, set(), ipv6=netfilter.ipv6)
        rules += policy.family_rules(Chain.INBOUND, ipv6=netfilter.ipv6)
        rules += policy.never_inbound(settings)
        rules += policy.inbound_excludes(settings)
        rules += policy.inbound_redirect(settings, inbound.port)
    rules += policy.heartbeat_rules(settings, daemon)
    if outbound:
        policy.check_listener("outbound", outbound, {"127.0.0.1"}, ipv6=netfilter.ipv6)
        rules += policy.family_rules(Chain.OUTBOUND, ipv6=netfilter.ipv6)
        rules.append(policy.bypass(Chain.OUTBOUND, "connections of the daemon itself", Match(users=(daemon,))))
        rules += policy.never_outbound(settings)
        rules += policy.outbound_excludes(settings, ids, daemon)
        rules += policy.outbound_redirect(settings, ids, outbound.port)
    return Ruleset(netfilter.mode, tuple(rules))
