"""What differs, as it may be logged; what a running daemon cannot take."""

import pytest

from sp_proxy.settings.changes import changes, refusals, rules_changed
from sp_proxy.settings.model import SettingsModel


def settings(**values) -> SettingsModel:
    return SettingsModel.model_validate({"public_key": "pk-1"} | values)


def lines(**values) -> list[str]:
    return [str(change) for change in changes(settings(), settings(**values))]


def test_nothing():
    assert lines() == []


def test_each_setting_is_named_with_what_it_was_and_is():
    assert lines(strict="reject", relay={"workers": 4}, limits={"exchanges_per_second": 5}) == [
        'strict: "raw" → "reject"',
        "relay.workers: 1 → 4",
        "limits.exchanges_per_second: 0.0 → 5.0",
    ]


def test_secrets_are_not_shown():
    shown = lines(
        public_key="pk-2",
        sp_backend_url="https://user:hidden@backend.example",
        redaction={"salt": "0123456789abcdef"},
        exporters=[{"type": "otlp", "url": "https://a:hidden@c.example", "headers": {"authorization": "hidden"}}],
        upload={"proxy": "http://a:hidden@proxy.example"},
    )
    assert [line.partition(":")[0] for line in shown] == [
        "sp_backend_url",
        "public_key",
        "redaction.salt",
        "exporters",
        "upload.proxy",
    ]
    assert shown[1:3] == ["public_key: changed", "redaction.salt: changed"]
    assert "hidden" not in "".join(shown)
    assert "pk-" not in "".join(shown)


def test_what_looks_the_same_when_it_is_masked_has_changed():
    (found,) = changes(
        settings(exporters=[{"type": "otlp", "url": "http://c", "headers": {"a": "1"}}]),
        settings(exporters=[{"type": "otlp", "url": "http://c", "headers": {"a": "2"}}]),
    )
    assert str(found) == "exporters: changed"


def test_long_values_are_cut():
    (line,) = lines(approved_backends=[f"host{number}.example" for number in range(200)])
    assert len(line) < 300
    assert line.endswith("…")


@pytest.mark.parametrize(
    "values, line",
    [
        ({"listen": {"inbound": 17006}}, 'listen.inbound: cannot change at run time ("16006" → "17006")'),
        ({"listen": {"outbound": "off"}}, 'listen.outbound: cannot change at run time ("16001" → "off")'),
        ({"listen": {"proxy": 3128}}, "listen.proxy: cannot change"),
        ({"listen": {"forward": [{"listen": 80, "upstream": "a:1"}]}}, "listen.forward: cannot change"),
        ({"admin": {"listen": 1}}, "admin.listen: cannot change"),
        ({"admin": {"enabled": False}}, "admin.enabled: cannot change"),
        ({"backend": {"enabled": True}}, "backend.enabled: cannot change"),
        ({"backend": {"token": "t"}}, "backend.token: cannot change"),
        ({"netfilter": {"heartbeat": {"port": 5}}}, "netfilter.heartbeat.port: cannot change"),
    ],
)
def test_what_cannot_change_is_a_line_with_its_key_and_the_remedy(values, line):
    (found,) = refusals(settings(), settings(**values))
    assert found.startswith(line)
    assert "restart the daemon" in found


def test_what_can_change():
    forward = {"listen": {"forward": [{"listen": 80, "upstream": "a:1"}]}}
    moved = {"listen": {"forward": [{"listen": 80, "upstream": "b:1", "direction": "outbound"}]}}
    assert refusals(settings(**forward), settings(**moved)) == []
    others = {
        "netfilter": {"outbound_exclude_ports": [1]},
        "tls": {"intercept": ["x"]},
        "shutdown": {"grace_period": 1},
    }
    assert refusals(settings(), settings(**others)) == []


def test_rules_of_the_kernel_are_told_apart():
    assert rules_changed(changes(settings(), settings(netfilter={"outbound_exclude_ports": [1]})))
    assert not rules_changed(changes(settings(), settings(strict="reject")))
