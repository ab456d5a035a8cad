"""Projections: what the worker gets."""

from sp_proxy.core.admission import AdmissionConfig, RateConfig
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.config import RuleConfig as RedactionRuleConfig
from sp_proxy.core.rules import ExemptionConfig, RuleConfig
from sp_proxy.settings.model import OTLP_PATHS, SettingsModel
from sp_proxy.settings.project import admission_config, header_config, policy_config, redaction_config

ENVIRON = {
    "HOSTNAME": "shop-7d9f-x2x4",
    "POD_NAME": "shop-7d9f-x2x4",
    "POD_NAMESPACE": "prod",
    "KUBERNETES_SERVICE_ACCOUNT": "shop\n",
}


def test_rules():
    settings = SettingsModel.model_validate(
        {
            "traffic_direction": "server",
            "collectionRules": {
                "http": {
                    "server": [{"path": "a", "paths": ["b"], "host": "h", "methods": ["GET"]}, {}],
                    "client": [{"host": "c", "paths": ["d"], "exclude": True}],
                }
            },
            "exemptionRules": [{"hostPatterns": ["e"]}],
            "capture": {"skip_static": False},
        }
    )
    policy = policy_config(settings)
    assert (policy.collect_inbound, policy.collect_outbound) == (True, False)
    assert policy.server_rules == (RuleConfig(host="h", paths=("a", "b"), methods=("GET",)), RuleConfig())
    assert policy.client_rules == (RuleConfig(host="c", paths=("d",), exclude=True),)
    assert policy.exemptions == (ExemptionConfig(host_patterns=("e",), path_patterns=OTLP_PATHS),)
    assert policy.capture_enabled
    assert not policy.skip_static
    assert policy.skip_prefetch
    assert policy.skip_ingress_gateway


def test_directions_and_switches():
    client = policy_config(SettingsModel.model_validate({"traffic_direction": "client", "capture": {"enabled": False}}))
    assert (client.collect_inbound, client.collect_outbound) == (False, True)
    assert not client.capture_enabled
    both = policy_config(SettingsModel.model_validate({"exemptionRules": []}))
    assert (both.collect_inbound, both.collect_outbound) == (True, True)
    assert both.exemptions == ()


def test_the_policy_knows_the_workloads_own_name():
    assert (
        policy_config(SettingsModel(), {"POD_NAME": "istio-ingressgateway-5b8c-x1"}).service_name
        == "istio-ingressgateway"
    )
    assert policy_config(SettingsModel()).service_name == ""


def test_headers():
    headers = header_config(SettingsModel(), ENVIRON)
    assert headers.service_name == "shop"
    assert headers.compat_headers
    assert headers.debug_headers == ()
    assert header_config(SettingsModel(service_name="fixed", compat_headers=False), ENVIRON).service_name == "fixed"
    assert header_config(SettingsModel(), {}).service_name == ""


def test_debug_headers_where_set():
    on = SettingsModel(debug_headers=True)
    assert header_config(on, ENVIRON).debug_headers == (
        ("x-debug-hostname", "shop-7d9f-x2x4"),
        ("x-debug-pod-name", "shop-7d9f-x2x4"),
        ("x-debug-namespace", "prod"),
        ("x-debug-service-account", "shop"),
    )
    assert header_config(on, {"HOSTNAME": "a", "POD_NAME": ""}).debug_headers == (("x-debug-hostname", "a"),)


def test_a_variable_cannot_inject_a_header():
    environ = {"HOSTNAME": "a\r\nx-evil: 1", "OTEL_SERVICE_NAME": "a\r\nx-evil: 1", "APP_NAME": "shop"}
    headers = header_config(SettingsModel(debug_headers=True), environ)
    assert headers.service_name == "shop"
    assert headers.debug_headers == ()


def test_nothing_is_limited_unless_asked_for():
    assert admission_config(SettingsModel()) == AdmissionConfig()


def test_workers_share_the_limits():
    settings = SettingsModel.model_validate(
        {
            "relay": {"workers": 4},
            "limits": {"exchanges_per_second": 100, "bytes_per_second": "1MiB", "byte_burst": "4MiB"},
            "sampling": {"ratio": 0.25, "keep_errors": False, "keep_slower_than": "2s"},
            "collectionRules": {
                "http": {
                    "server": [{}, {"limits": {"exchanges_per_second": 2, "exchange_burst": 20}}],
                    "client": [{"limits": {"exchanges_per_second": 1}}],
                }
            },
        }
    )
    assert admission_config(settings) == AdmissionConfig(
        limit=RateConfig(25.0, 25.0, (1 << 20) / 4, float(1 << 20)),
        rule_limits={"server[1]": RateConfig(0.5, 5.0), "client[0]": RateConfig(0.25, 1.0)},
        sampling_ratio=0.25,
        keep_errors=False,
        keep_slower_than=2.0,
    )


def test_redaction():
    assert redaction_config(SettingsModel()) == RedactionConfig(
        detectors={"payment_card": "replace", "bearer_token": "replace", "jwt": "replace", "aws_key": "replace"}
    )
    settings = SettingsModel.model_validate(
        {
            "redaction": {
                "rules": [
                    {"headers": ["a"], "query": ["b"], "form": ["c"], "json_paths": ["d"], "cookies": ["e"]},
                    {"header_patterns": ["f"], "text": ["g"], "action": "hash", "replacement": "-"},
                ],
                "detectors": {"payment_card": "off", "bearer_token": "off", "jwt": "drop", "aws_key": "off"},
                "replacement": "***",
                "salt": "0123456789abcdef",
                "binary_bodies": "drop",
                "send_cookies": True,
            }
        }
    )
    assert redaction_config(settings) == RedactionConfig(
        rules=(
            RedactionRuleConfig(
                headers=("a",), query=("b",), form=("c",), json_paths=("d",), cookies=("e",), replacement="***"
            ),
            RedactionRuleConfig(header_patterns=("f",), text=("g",), action="hash", replacement="-"),
        ),
        detectors={"jwt": "drop"},
        replacement="***",
        salt=b"0123456789abcdef",
        keep_binary=False,
        send_cookies=True,
    )
