"""Settings as the plain data that a relay worker gets: pure projections, so that a worker never imports pydantic."""

from collections.abc import Mapping
from types import MappingProxyType

from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig
from sp_proxy.core.service_name import detect
from sp_proxy.settings.model import ClientRule, ServerRule, SettingsModel

DEBUG_HEADERS = (
    ("x-debug-hostname", "HOSTNAME"),
    ("x-debug-pod-name", "POD_NAME"),
    ("x-debug-namespace", "POD_NAMESPACE"),
    ("x-debug-service-account", "KUBERNETES_SERVICE_ACCOUNT"),
)
"""Contract section 3: header, and the variable its value is from."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


def policy_config(settings: SettingsModel, environ: Mapping[str, str] = _NOTHING) -> PolicyConfig:
    """What decides about an exchange. The environment is needed to recognise an ingress gateway by its own name."""
    rules = settings.collectionRules.http
    return PolicyConfig(
        capture_enabled=settings.capture.enabled,
        collect_inbound=settings.traffic_direction in {"server", "both"},
        collect_outbound=settings.traffic_direction in {"client", "both"},
        server_rules=tuple(_rule(rule) for rule in rules.server),
        client_rules=tuple(_rule(rule) for rule in rules.client),
        exemptions=tuple(
            ExemptionConfig(tuple(rule.hostPatterns), tuple(rule.pathPatterns)) for rule in settings.exemptionRules
        ),
        skip_static=settings.capture.skip_static,
        skip_prefetch=settings.capture.skip_prefetch,
        skip_ingress_gateway=settings.capture.skip_ingress_gateway,
        service_name=detect(settings.service_name, _clean(environ)),
    )


def _rule(rule: ServerRule | ClientRule) -> RuleConfig:
    first = (rule.path,) if isinstance(rule, ServerRule) and rule.path is not None else ()
    return RuleConfig(
        host=rule.host or "",
        paths=(*first, *rule.paths),
        methods=tuple(rule.methods),
        exclude=rule.exclude,
    )


def header_config(settings: SettingsModel, environ: Mapping[str, str]) -> HeaderConfig:
    """What is injected. Variables whose value may not stand in a header field count as not set."""
    clean = _clean(environ)
    debug = tuple((header, clean[name]) for header, name in DEBUG_HEADERS if clean.get(name))
    return HeaderConfig(
        service_name=detect(settings.service_name, clean),
        compat_headers=settings.compat_headers,
        debug_headers=debug if settings.debug_headers else (),
    )


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    # Not printable: line breaks, other control characters, halves of a surrogate pair (undecodable bytes).
    return {name: value.strip() for name, value in environ.items() if value.strip().isprintable()}
