"""Collection rules, exemption rules and what is never captured (contract sections 1 and 2): one decision."""

from msgspec import Struct


class RuleConfig(Struct, frozen=True, array_like=True):
    """One collection rule, plain data; empty parts match everything."""

    host: str = ""
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    exclude: bool = False


class ExemptionConfig(Struct, frozen=True, array_like=True):
    """One exemption rule, plain data; empty parts match everything."""

    host_patterns: tuple[str, ...] = ()
    path_patterns: tuple[str, ...] = ()


class PolicyConfig(Struct, frozen=True, array_like=True):
    """What the supervisor sends a worker so that it can decide."""

    capture_enabled: bool = True
    collect_inbound: bool = True
    collect_outbound: bool = True
    server_rules: tuple[RuleConfig, ...] = ()
    client_rules: tuple[RuleConfig, ...] = ()
    exemptions: tuple[ExemptionConfig, ...] = ()
    skip_static: bool = True
    skip_prefetch: bool = True
    skip_ingress_gateway: bool = True
