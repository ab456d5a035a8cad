"""Rules, exemptions and the golden exchanges' decisions."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction
from sp_proxy.core.rules import (
    MAX_CACHED,
    Decision,
    ExemptionConfig,
    Policy,
    PolicyConfig,
    RuleConfig,
    without_port,
)
from sp_proxy.settings.model import SettingsModel
from tests.golden.differences import difference, expect_captured, load

FIELDS = b"\r\nhost: shop\r\naccept: */*\r\n"
INGRESS = b"\r\nx-envoy-peer-metadata-id: router~istio-ingressgateway-x\r\n"


def decide(
    policy: Policy,
    target: bytes = b"/",
    *,
    direction: Direction = Direction.INBOUND,
    method: bytes = b"GET",
    authority: bytes = b"shop:8080",
    fields: bytes = FIELDS,
) -> Decision:
    decision = policy.request(direction, method, target, authority, fields)
    # Asked again, the answer comes from the cache and is the same.
    assert policy.request(direction, method, target, authority, fields) == decision
    return decision


def golden_policy(config: dict[str, Any]) -> PolicyConfig:
    """The golden configuration as plain data; the defaults of the contract's keys come from the settings."""
    settings = SettingsModel.model_validate(config)
    http = settings.collectionRules.http
    return PolicyConfig(
        collect_inbound=settings.traffic_direction in {"server", "both"},
        collect_outbound=settings.traffic_direction in {"client", "both"},
        server_rules=tuple(
            RuleConfig(
                host=rule.host or "",
                paths=(*([rule.path] if rule.path else []), *rule.paths),
                methods=tuple(rule.methods),
                exclude=rule.exclude,
            )
            for rule in http.server
        ),
        client_rules=tuple(
            RuleConfig(host=rule.host or "", paths=tuple(rule.paths), methods=tuple(rule.methods), exclude=rule.exclude)
            for rule in http.client
        ),
        exemptions=tuple(
            ExemptionConfig(host_patterns=tuple(rule.hostPatterns), path_patterns=tuple(rule.pathPatterns))
            for rule in settings.exemptionRules
        ),
    )


def lower_block(headers: list[list[str]]) -> bytes:
    return b"\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers).lower().encode()


@pytest.mark.parametrize("exchange", load(), ids=lambda exchange: exchange["name"])
def test_golden_decision(exchange):
    if difference(exchange["name"]).refused_at_start:
        path = exchange["config"]["collectionRules"]["http"]["server"][0]["path"]
        with pytest.raises(ValueError, match=re.escape("server[0]: '/a['")):
            Policy(PolicyConfig(server_rules=(RuleConfig(paths=(path,)),)))
        return
    policy = Policy(golden_policy(exchange["config"]))
    request = exchange["request"]
    decision = policy.request(
        Direction.OUTBOUND if exchange["config"].get("traffic_direction") == "client" else Direction.INBOUND,
        request["method"].encode(),
        request["target"].encode(),
        request["host"].encode(),
        lower_block([["host", request["host"]], *request["headers"]]),
    )
    reason = policy.response(lower_block(exchange["response"]["headers"]))
    assert (decision.capture and not reason) == expect_captured(exchange)
    # Whatever the filter forwarded without its headers, it left alone altogether.
    assert decision.inject == any(name == "x-sp-num" for name, _ in exchange["upstream_request_headers"])


def test_without_any_rule_everything_is_collected():
    policy = Policy(PolicyConfig())
    for direction in Direction:
        assert decide(policy, direction=direction) == Decision(capture=True, inject=True, reason="captured", rule="")


def test_rules_for_one_direction_leave_the_other_out():
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(paths=("/",)),)))
    assert decide(policy).rule == "server[0]"
    outbound = decide(policy, direction=Direction.OUTBOUND)
    assert (outbound.capture, outbound.inject, outbound.reason) == (False, True, "no_rule")

    policy = Policy(PolicyConfig(client_rules=(RuleConfig(host="shop"),)))
    assert decide(policy).reason == "no_rule"
    assert decide(policy, direction=Direction.OUTBOUND).rule == "client[0]"


def test_all_parts_of_an_entry_must_match_and_entries_are_alternatives():
    policy = Policy(
        PolicyConfig(
            client_rules=(
                RuleConfig(host="^pay", paths=("^/v1", "^/v2"), methods=("post", "PUT")),
                RuleConfig(paths=("status$",)),
            )
        )
    )

    def rule(target: bytes, authority: bytes = b"pay.svc", method: bytes = b"POST") -> str:
        return decide(policy, target, direction=Direction.OUTBOUND, authority=authority, method=method).rule

    assert rule(b"/v1/x") == "client[0]"
    assert rule(b"/v2/x", method=b"put") == "client[0]"
    assert not rule(b"/v2/x", method=b"GET")
    assert not rule(b"/v3/x")
    assert not rule(b"/v1/x", authority=b"shop")
    assert rule(b"/v3/status", authority=b"shop", method=b"GET") == "client[1]"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_exclusion_wins_wherever_it_stands(position):
    rules = [RuleConfig(paths=(".*",)), RuleConfig(host="shop")]
    rules.insert(position, RuleConfig(paths=("^/health",), exclude=True))
    policy = Policy(PolicyConfig(server_rules=tuple(rules)))
    excluded = decide(policy, b"/health")
    assert (excluded.capture, excluded.reason, excluded.rule) == (False, "excluded", f"server[{position}]")
    assert decide(policy, b"/api").capture


def test_exclusions_alone_select_nothing():
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(paths=("^/health",), exclude=True),)))
    assert decide(policy, b"/api").reason == "no_rule"


def test_exemptions_win_over_rules():
    policy = Policy(
        PolicyConfig(
            server_rules=(RuleConfig(paths=(".*",)),),
            exemptions=(
                ExemptionConfig(host_patterns=("^internal",), path_patterns=("^/y",)),
                ExemptionConfig(path_patterns=("/v1/traces", "/v1/logs")),
            ),
        )
    )
    exempt = decide(policy, b"/v1/logs?x")
    assert (exempt.capture, exempt.inject, exempt.reason, exempt.rule) == (False, True, "exempt", "exemption[1]")
    assert decide(policy, b"/y", authority=b"internal.svc").rule == "exemption[0]"
    assert decide(policy, b"/y", authority=b"shop").capture
    assert decide(policy, b"/z", authority=b"internal.svc").capture


def test_direction_off_and_disabled():
    policy = Policy(PolicyConfig(collect_outbound=False))
    assert decide(policy).capture
    off = decide(policy, direction=Direction.OUTBOUND)
    assert (off.capture, off.inject, off.reason) == (False, True, "direction_off")
    disabled = decide(Policy(PolicyConfig(capture_enabled=False)))
    assert (disabled.capture, disabled.inject, disabled.reason) == (False, True, "disabled")


def test_static_and_prefetch_are_injected_but_not_captured():
    policy = Policy(PolicyConfig())
    for target, fields, reason in (
        (b"/app.js?v=1", FIELDS, "static"),
        (b"/x?_rsc=1", FIELDS, "prefetch"),
        (b"/x", b"\r\nsec-purpose: prefetch\r\n", "prefetch"),
    ):
        decision = decide(policy, target, fields=fields)
        assert (decision.capture, decision.inject, decision.reason) == (False, True, reason)
    assert policy.response(b"\r\ncontent-type: text/css\r\n") == "static"
    assert not policy.response(b"\r\ncontent-type: application/json\r\n")

    policy = Policy(PolicyConfig(skip_static=False, skip_prefetch=False))
    assert decide(policy, b"/app.js").capture
    assert decide(policy, b"/x?_rsc=1", fields=b"\r\nrsc: 1\r\n").capture
    assert not policy.response(b"\r\ncontent-type: text/css\r\n")


def test_the_ingress_gateway_is_left_alone():
    policy = Policy(PolicyConfig())
    # Header fields are looked at behind the cache, so the same target may be decided both ways.
    assert decide(policy).capture
    left = decide(policy, fields=INGRESS)
    assert (left.capture, left.inject, left.reason) == (False, False, "ingress_gateway")
    assert decide(policy).capture
    assert decide(Policy(PolicyConfig(skip_ingress_gateway=False)), fields=INGRESS).capture

    own = decide(Policy(PolicyConfig(service_name="istio-ingressgateway-7d9f")))
    assert (own.capture, own.inject, own.reason) == (False, False, "ingress_gateway")
    assert decide(Policy(PolicyConfig(service_name="istio-ingressgateway", skip_ingress_gateway=False))).capture


@pytest.mark.parametrize(
    "authority, bare",
    [
        ("shop:8080", "shop"),
        ("shop", "shop"),
        ("shop:", "shop"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("2001:db8::8080", "2001:db8::8080"),
        ("shop:http", "shop:http"),
        ("shop:٣", "shop:٣"),
        ("", ""),
        (":80", ""),
    ],
)
def test_authority_without_port(authority, bare):
    assert without_port(authority) == bare


@pytest.mark.parametrize("pattern", ["^shop$", "^shop:8080$", "SHOP|hop", r"(?i)^SHOP$"])
def test_authority_is_tried_with_and_without_its_port(pattern):
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(host=pattern),)))
    assert decide(policy, authority=b"shop:8080").capture


def test_ipv6_authority():
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(host=r"^\[2001:db8::1\]$"),)))
    assert decide(policy, authority=b"[2001:db8::1]:8080").capture
    assert decide(policy, authority=b"[2001:db8::1]").capture
    assert not decide(policy, authority=b"[2001:db8::2]:8080").capture


def test_patterns_are_matched_as_utf8_text():
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(paths=("^/größe/.$",)),)))
    assert decide(policy, "/größe/€".encode()).capture
    assert decide(policy, "/größe/".encode() + b"\xff").capture
    assert not decide(policy, "/größe/".encode("latin-1") + b"x").capture


@pytest.mark.parametrize(
    "config, message",
    [
        (PolicyConfig(server_rules=(RuleConfig(), RuleConfig(paths=("a", "(")))), r"server[1]: '('"),
        (PolicyConfig(client_rules=(RuleConfig(host="[z-a]"),)), r"client[0]: '[z-a]'"),
        (PolicyConfig(exemptions=(ExemptionConfig(host_patterns=("*",)),)), r"exemption[0]: '*'"),
        (PolicyConfig(exemptions=(ExemptionConfig(path_patterns=("a{99999999999}",)),)), r"exemption[0]: 'a{9"),
    ],
)
def test_a_pattern_that_does_not_compile_is_named(config, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Policy(config)


def test_the_cache_is_bounded():
    policy = Policy(PolicyConfig())
    for number in range(3 * MAX_CACHED):
        assert policy.request(Direction.INBOUND, b"GET", b"/%d" % number, b"shop", FIELDS).capture
    assert len(policy._cache) <= MAX_CACHED
    before = len(policy._cache)
    assert policy.request(Direction.INBOUND, b"GET", b"/" * 4000, b"shop", FIELDS).capture
    assert len(policy._cache) == before


TEXT = st.sampled_from(["", "/", "/api", "/health", "/v1/traces", "shop", "shop:80", "[::1]:80", "GET", "a.js"])
RULES = st.builds(
    RuleConfig,
    host=st.sampled_from(["", "shop", "^x$"]),
    paths=st.lists(st.sampled_from(["/", "^/api", "health"]), max_size=2).map(tuple),
    methods=st.lists(st.sampled_from(["get", "POST"]), max_size=2).map(tuple),
    exclude=st.booleans(),
)


@given(
    rules=st.lists(RULES, max_size=4).map(tuple),
    target=st.binary(max_size=20) | TEXT.map(str.encode),
    authority=st.binary(max_size=20) | TEXT.map(str.encode),
    method=st.sampled_from([b"GET", b"post", b"\xff"]),
)
def test_any_request_is_decided_as_a_plain_reading_of_the_rules_says(rules, target, authority, method):
    policy = Policy(PolicyConfig(server_rules=rules, skip_static=False, skip_prefetch=False))
    text = target.decode("utf-8", "surrogateescape")
    hosts = {authority.decode("utf-8", "surrogateescape")}
    hosts |= {without_port(host) for host in hosts}

    def selects(rule: RuleConfig) -> bool:
        return (
            (not rule.host or any(re.search(rule.host, host) for host in hosts))
            and (not rule.paths or any(re.search(path, text) for path in rule.paths))
            and (not rule.methods or method.upper().decode("latin-1") in [name.upper() for name in rule.methods])
        )

    matching = [rule for rule in rules if selects(rule)]
    expected = not rules or (bool(matching) and not any(rule.exclude for rule in matching))
    assert decide(policy, target, authority=authority, method=method).capture == expected


def test_decisions_are_counted_by_reason_and_rule():
    policy = Policy(PolicyConfig(server_rules=(RuleConfig(paths=("^/yes",)),)))
    assert decide(policy, b"/yes").counter == "requests:captured:server[0]"
    assert decide(policy, b"/no").counter == "requests:no_rule"
