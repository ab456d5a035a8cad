"""Settings as the plain data that workers and ``core`` get: pure projections, so that these never import pydantic."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from sp_proxy.core.admission import AdmissionConfig, RateConfig
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.redact.config import DETECTORS, RedactionConfig
from sp_proxy.core.redact.config import RuleConfig as RedactionRuleConfig
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig
from sp_proxy.core.service_name import detect
from sp_proxy.settings.checks import engine_users
from sp_proxy.settings.limits import RateLimit
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


def admission_config(settings: SettingsModel) -> AdmissionConfig:
    """What one worker captures at most: its share of the limits."""
    workers = settings.relay.workers + bool(engine_users(settings))
    return AdmissionConfig(
        limit=_rate(settings.limits, workers),
        rule_limits={name: _rate(rule.limits, workers) for name, rule in _named_rules(settings) if rule.limits},
        sampling_ratio=settings.sampling.ratio,
        keep_errors=settings.sampling.keep_errors,
        keep_slower_than=settings.sampling.keep_slower_than,
    )


def _named_rules(settings: SettingsModel) -> Iterator[tuple[str, ServerRule | ClientRule]]:
    """As ``core/rules.py`` names them."""
    rules = settings.collectionRules.http
    for index, server in enumerate(rules.server):
        yield f"server[{index}]", server
    for index, client in enumerate(rules.client):
        yield f"client[{index}]", client


def _rate(limit: RateLimit, workers: int) -> RateConfig:
    exchanges, size = limit.exchanges_per_second, float(limit.bytes_per_second)
    return RateConfig(
        exchanges / workers,
        max(1.0, (limit.exchange_burst or exchanges) / workers),
        size / workers,
        max(1.0, (limit.byte_burst or size) / workers),
    )


def redaction_config(settings: SettingsModel) -> RedactionConfig:
    """What the redactor is made of."""
    redaction = settings.redaction
    return RedactionConfig(
        rules=tuple(
            RedactionRuleConfig(
                headers=tuple(rule.headers),
                header_patterns=tuple(rule.header_patterns),
                query=tuple(rule.query),
                form=tuple(rule.form),
                json_paths=tuple(rule.json_paths),
                cookies=tuple(rule.cookies),
                text=tuple(rule.text),
                action=rule.action,
                replacement=rule.replacement or redaction.replacement,
            )
            for rule in redaction.rules
        ),
        detectors={name: action for name in DETECTORS if (action := getattr(redaction.detectors, name)) != "off"},
        replacement=redaction.replacement,
        salt=redaction.salt.get_secret_value().encode(),
        keep_binary=redaction.binary_bodies == "keep",
        send_cookies=redaction.send_cookies,
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
