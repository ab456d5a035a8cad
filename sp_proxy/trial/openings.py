"""What another configuration lets in that the one in force leaves out (pure), read from the two alone: of such exchanges none
was captured, so how many there are cannot be known.

Rules are compared as they stand. One that is written in another way and means the same is told as gone and new.
"""

from collections.abc import Iterator

from sp_proxy.core.admission import AdmissionConfig
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.config import RuleConfig as RedactionRule
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig

_FILTERS = {
    "skip_static": "static resources",
    "skip_prefetch": "prefetches of frameworks",
    "skip_ingress_gateway": "requests of the ingress gateway",
}


def openings(current: PolicyConfig, new: PolicyConfig) -> Iterator[str]:
    """What would begin to be captured, a line each."""
    if not new.capture_enabled:
        return
    if not current.capture_enabled:
        yield "capture.enabled was false: nothing was captured"
    for name in ("inbound", "outbound"):
        if getattr(new, f"collect_{name}") and not getattr(current, f"collect_{name}"):
            yield f"{name} exchanges were not collected (traffic_direction)"
    for setting, what in _FILTERS.items():
        if getattr(current, setting) and not getattr(new, setting):
            yield f"{what} were left out (capture.{setting})"
    for index, exemption in enumerate(current.exemptions):
        if exemption not in new.exemptions:
            yield f"exemption[{index}] is gone ({_exemption(exemption)})"
    had_rules = bool(current.server_rules or current.client_rules)
    if had_rules and not (new.server_rules or new.client_rules):
        yield "there are no collection rules any more: everything is captured"
    for side, was, now in (
        ("server", current.server_rules, new.server_rules),
        ("client", current.client_rules, new.client_rules),
    ):
        for index, rule in enumerate(was):
            if rule.exclude and rule not in now:
                yield f"{side}[{index}], which excludes, is gone ({_rule(rule)})"
        for index, rule in enumerate(now):
            if had_rules and not rule.exclude and rule not in was:
                yield f"{side}[{index}] is new ({_rule(rule)})"


def sampling_openings(current: AdmissionConfig, new: AdmissionConfig) -> Iterator[str]:
    """What would no longer be shed, a line each."""
    if new.sampling_ratio > current.sampling_ratio:
        yield f"sampling.ratio rises from {current.sampling_ratio:g} to {new.sampling_ratio:g}"
    if current.sampling_ratio < 1.0 and new.keep_errors and not current.keep_errors:
        yield "what fails is captured in any case (sampling.keep_errors)"
    for what in ("exchanges", "bytes"):
        was, now = getattr(current.limit, what), getattr(new.limit, what)
        if was and (now > was or not now):
            yield f"limits.{what}_per_second is {'higher' if now else 'gone'}"


def redaction_openings(current: RedactionConfig, new: RedactionConfig) -> Iterator[str]:
    """What would no longer be taken out, a line each."""
    for name in current.detectors:
        if name not in new.detectors:
            yield f"the detector {name} is off: what it took out is left in"
    for index, rule in enumerate(current.rules):
        if rule not in new.rules:
            yield f"redaction.rules[{index}] is gone or another ({_redaction(rule)})"
    if new.send_cookies and not current.send_cookies:
        yield "cookies are sent (redaction.send_cookies)"
    if new.keep_binary and not current.keep_binary:
        yield "bodies that are no text are sent (redaction.binary_bodies)"


def _rule(rule: RuleConfig) -> str:
    parts = [f"host {rule.host!r}"] if rule.host else []
    parts += [f"path {path!r}" for path in rule.paths]
    parts += [f"methods {', '.join(rule.methods)}"] if rule.methods else []
    return "; ".join(parts) or "everything"


def _exemption(exemption: ExemptionConfig) -> str:
    parts = [f"host {pattern!r}" for pattern in exemption.host_patterns]
    parts += [f"path {pattern!r}" for pattern in exemption.path_patterns]
    return "; ".join(parts) or "everything"


def _redaction(rule: RedactionRule) -> str:
    kinds = ("headers", "header_patterns", "query", "form", "json_paths", "cookies", "text")
    return "; ".join(f"{kind} {', '.join(names)}" for kind in kinds if (names := getattr(rule, kind))) or "nothing"
