import pytest

from sp_proxy.core.admission import AdmissionConfig, RateConfig
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.config import RuleConfig as RedactionRule
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig
from sp_proxy.trial.openings import openings, redaction_openings, sampling_openings

ORDERS, INTERNAL = RuleConfig(paths=("^/orders",), methods=("GET",)), RuleConfig(paths=("/internal",), exclude=True)
HEALTH = ExemptionConfig(host_patterns=("shop",), path_patterns=("/health",))


@pytest.mark.parametrize(
    "current, new, said",
    [
        (PolicyConfig(), PolicyConfig(), []),
        (PolicyConfig(capture_enabled=False), PolicyConfig(), ["capture.enabled was false: nothing was captured"]),
        (PolicyConfig(), PolicyConfig(capture_enabled=False, skip_static=False), []),
        (
            PolicyConfig(collect_inbound=False),
            PolicyConfig(),
            ["inbound exchanges were not collected (traffic_direction)"],
        ),
        (PolicyConfig(), PolicyConfig(skip_static=False), ["static resources were left out (capture.skip_static)"]),
        (PolicyConfig(skip_static=False), PolicyConfig(), []),
        (
            PolicyConfig(exemptions=(HEALTH,)),
            PolicyConfig(),
            ["exemption[0] is gone (host 'shop'; path '/health')"],
        ),
        (
            PolicyConfig(server_rules=(ORDERS,)),
            PolicyConfig(),
            ["there are no collection rules any more: everything is captured"],
        ),
        (
            PolicyConfig(server_rules=(ORDERS, INTERNAL)),
            PolicyConfig(server_rules=(ORDERS,), client_rules=(RuleConfig(host="pay"),)),
            ["server[1], which excludes, is gone (path '/internal')", "client[0] is new (host 'pay')"],
        ),
        # Without rules everything was captured already, whatever is new.
        (PolicyConfig(), PolicyConfig(server_rules=(ORDERS,)), []),
        (
            PolicyConfig(server_rules=(INTERNAL,)),
            PolicyConfig(server_rules=(INTERNAL, ORDERS, RuleConfig())),
            ["server[1] is new (path '^/orders'; methods GET)", "server[2] is new (everything)"],
        ),
    ],
)
def test_what_begins_to_be_captured(current, new, said):
    assert list(openings(current, new)) == said


def test_what_is_no_longer_taken_out():
    current = RedactionConfig(
        rules=(RedactionRule(headers=("x-token",), query=("key",)), RedactionRule(text=("a",))),
        detectors={"jwt": "replace", "email": "replace"},
        keep_binary=False,
    )
    new = RedactionConfig(rules=(RedactionRule(text=("a",)),), detectors={"jwt": "hash"}, send_cookies=True)
    assert list(redaction_openings(current, new)) == [
        "the detector email is off: what it took out is left in",
        "redaction.rules[0] is gone or another (headers x-token; query key)",
        "cookies are sent (redaction.send_cookies)",
        "bodies that are no text are sent (redaction.binary_bodies)",
    ]
    assert list(redaction_openings(new, new)) == []


def test_what_is_no_longer_shed():
    current = AdmissionConfig(sampling_ratio=0.1, keep_errors=False, limit=RateConfig(exchanges=5, bytes=1000))
    new = AdmissionConfig(sampling_ratio=0.5, limit=RateConfig(exchanges=9))
    assert list(sampling_openings(current, new)) == [
        "sampling.ratio rises from 0.1 to 0.5",
        "what fails is captured in any case (sampling.keep_errors)",
        "limits.exchanges_per_second is higher",
        "limits.bytes_per_second is gone",
    ]
    assert list(sampling_openings(new, current)) == []
