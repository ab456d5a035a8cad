"""The section ``netfilter``: which connections the kernel sends to the daemon, and what must hold for it to do so."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import CgroupPath, Duration, Integer, Interface, Network, Port, User


def _whole_seconds(value: float) -> float:
    """Nothing smaller: the ``recent`` match of iptables counts whole seconds."""
    if value != int(value) or not 1 <= value <= 3600:
        raise ValueError("whole seconds, from 1s to 1h")
    return value


class Heartbeat(Section):
    """Failing open in the kernel: redirect only while the daemon is at work."""

    enabled: bool = Field(
        True, description="Redirect only while heartbeats arrive: connections of `user` to `port` on loopback."
    )
    timeout: Annotated[Duration, AfterValidator(_whole_seconds)] = Field(
        5.0, description="This long after the last heartbeat, new connections go straight to their destination."
    )
    port: Integer = Field(
        16007,
        ge=1,
        le=65534,
        description="Where heartbeats are sent. A connection to the port above it withdraws them at once. "
        "Nothing listens on either.",
    )


class Netfilter(Section):
    """Redirect rules, as `sp-proxy netfilter` writes them."""

    mode: Literal["standalone", "beside-istio", "inbound-only", "outbound-only"] = Field(
        "standalone",
        description="Which traffic is redirected. `standalone`: both directions, but for a listener that is `off`. "
        "`beside-istio`: both, between the application and Istio's Envoy.",
    )
    writer: Literal["auto", "nft", "iptables", "iptables-nft", "iptables-legacy"] = Field(
        "auto",
        description="Which tool to use. `auto`: nft if it and the kernel can, else `iptables` as installed; "
        "`iptables-nft` and `iptables-legacy` force one of its two forms.",
    )
    ipv6: bool = Field(True, description="Redirect IPv6 too, where the kernel has it.")
    user: User = Field("1338", description="User name or id of the daemon: its own connections are bypassed.")
    heartbeat: Heartbeat = Field(Heartbeat(), description="Failing open.")
    inbound_include_interfaces: list[Interface] = Field(
        [], description="Redirect only what comes in by these interfaces; none means all."
    )
    inbound_exclude_interfaces: list[Interface] = Field([], description="Bypassed incoming interfaces.")
    inbound_include_ports: list[Port] = Field([], description="Redirect only these destination ports; none means all.")
    inbound_exclude_ports: list[Port] = Field([], description="Bypassed destination ports.")
    inbound_include_cidrs: list[Network] = Field([], description="Redirect only these source networks; none means all.")
    inbound_exclude_cidrs: list[Network] = Field([], description="Bypassed source networks.")
    outbound_include_interfaces: list[Interface] = Field(
        [], description="Redirect only what would leave by these interfaces; none means all."
    )
    outbound_exclude_interfaces: list[Interface] = Field([], description="Bypassed outgoing interfaces.")
    outbound_include_ports: list[Port] = Field([], description="Redirect only these destination ports; none means all.")
    outbound_exclude_ports: list[Port] = Field([], description="Bypassed destination ports.")
    outbound_include_cidrs: list[Network] = Field(
        [], description="Redirect only these destination networks, of either IP version; none means all."
    )
    outbound_exclude_cidrs: list[Network] = Field([], description="Bypassed destination networks.")
    outbound_include_users: list[User] = Field(
        [], description="Redirect only connections of these users; none means all."
    )
    outbound_exclude_users: list[User] = Field(
        [], description="Users whose own connections are bypassed, beside `user`."
    )
    outbound_include_groups: list[User] = Field(
        [], description="Redirect only connections of these groups, by name or id; none means all."
    )
    outbound_exclude_groups: list[User] = Field([], description="Groups whose own connections are bypassed.")
    outbound_include_cgroups: list[CgroupPath] = Field(
        [],
        description="Redirect only connections out of these control groups (version 2, paths below its root), "
        "their children included; none means all. nft only.",
    )
    outbound_exclude_cgroups: list[CgroupPath] = Field(
        [], description="Control groups whose connections are bypassed. nft only."
    )
    restrict_egress: bool = Field(
        False,
        description="Limit `user` to what the daemon needs: backends, DNS, upstreams of `listen.forward`, this host, and where "
        "redirected connections were going. All else is refused.",
    )
    backend_cidrs: list[Network] = Field(
        [],
        description="`restrict_egress`: networks of the backends; none means what their names resolve to when the rules "
        "are applied.",
    )
    istio_user: User = Field("1337", description="`beside-istio`: user of Istio's Envoy.")
    istio_group: User = Field("1337", description="`beside-istio`: group of Istio's Envoy.")
    past_istio_cidrs: list[Network] = Field(
        [],
        description="`beside-istio`: networks to which the daemon itself connects past Envoy: those of the backend, "
        "if what it uploads is not to go through Envoy.",
    )
