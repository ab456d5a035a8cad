"""What is told of a decision agrees with the decision, for every configuration."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import Direction
from sp_proxy.core.explanation import Explanation, Request, Step, explain
from sp_proxy.core.rules import ExemptionConfig, Policy, PolicyConfig, RuleConfig

PLAIN = b"\r\nhost: shop\r\n"
FIELDS = [
    PLAIN,
    b"\r\npurpose: prefetch\r\n",
    b"\r\nrsc: 1\r\n",
    b"\r\nx-envoy-peer-metadata-id: router~istio-ingressgateway-x\r\n",
]
RESPONSES = [None, b"\r\ncontent-type: text/html\r\n", b"\r\ncontent-type: application/json\r\n"]
PATTERNS = st.sampled_from(["shop", "^shop$", ":8080", "/orders", r"/\d+", "nothing"])
RULES = st.lists(
    st.builds(
        RuleConfig,
        host=st.one_of(st.just(""), PATTERNS),
        paths=st.lists(PATTERNS, max_size=2).map(tuple),
        methods=st.sampled_from([(), ("get",), ("POST", "PUT")]),
        exclude=st.booleans(),
    ),
    max_size=3,
).map(tuple)
CONFIGS = st.builds(
    PolicyConfig,
    capture_enabled=st.sampled_from([True, True, True, False]),
    collect_inbound=st.booleans(),
    server_rules=RULES,
    client_rules=RULES,
    exemptions=st.lists(
        st.builds(
            ExemptionConfig,
            host_patterns=st.lists(PATTERNS, max_size=1).map(tuple),
            path_patterns=st.lists(PATTERNS, min_size=1, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    skip_static=st.booleans(),
    skip_prefetch=st.booleans(),
    skip_ingress_gateway=st.booleans(),
    service_name=st.sampled_from(["", "shop", "istio-ingressgateway"]),
)
REQUESTS = st.builds(
    Request,
    direction=st.sampled_from(Direction),
    method=st.sampled_from([b"GET", b"post"]),
    target=st.sampled_from([b"/", b"/orders/7", b"/a.js?x=1", b"/x?_rsc=1", b"/\xff"]),
    authority=st.sampled_from([b"", b"shop", b"shop:8080", b"[::1]:80"]),
    lower_fields=st.sampled_from(FIELDS),
    response_fields=st.sampled_from(RESPONSES),
)


def deciding(explanation: Explanation) -> Step:
    (step,) = [step for step in explanation.steps if step.verdict == "decides"]
    return step


PLACES = {
    "disabled": {"capture.enabled"},
    "direction_off": {"traffic_direction"},
    "prefetch": {"capture.skip_prefetch"},
    "static": {"capture.skip_static", "capture.skip_static (response)"},
    "no_rule": {"collectionRules"},
    "ingress_gateway": {"capture.skip_ingress_gateway"},
    "captured": {"collectionRules"},
}


@given(config=CONFIGS, request_=REQUESTS)
def test_the_step_that_decides_is_the_policys(config, request_):
    explanation = explain(config, request_)
    policy = Policy(config)
    decision = policy.request(
        request_.direction, request_.method, request_.target, request_.authority, request_.lower_fields
    )
    kept = decision.capture and not (request_.response_fields and policy.response(request_.response_fields))
    assert explanation.decision.capture == kept
    assert explanation.decision.inject == decision.inject
    place = deciding(explanation).place
    if explanation.decision.rule:
        assert place == explanation.decision.rule
    else:
        assert place in PLACES[explanation.decision.reason]


@given(config=CONFIGS, request_=REQUESTS)
def test_nothing_is_asked_after_the_decision(config, request_):
    verdicts = [step.verdict for step in explain(config, request_).steps if "response" not in step.place]
    after = verdicts[verdicts.index("decides") + 1 :] if "decides" in verdicts else []
    assert set(after) <= {"not_asked"}
    assert "not_asked" not in verdicts[: len(verdicts) - len(after)]


def rule(**parts: Any) -> PolicyConfig:
    return PolicyConfig(server_rules=(RuleConfig(**parts),))


def test_parts_that_matched_and_did_not():
    config = rule(host="^shop$", paths=("/a", r"/orders/\d+"), methods=("get", "PUT"))
    step = explain(config, Request(Direction.INBOUND, b"GET", b"/orders/7", b"shop:8080")).steps[-2]
    assert step.place == "server[0]"
    assert step.verdict == "decides"
    assert [(part.name, part.matched) for part in step.parts] == [
        ("method", "GET"),
        ("host", "^shop$"),
        ("path", r"/orders/\d+"),
    ]
    assert step.parts[1].texts == ("shop:8080", "shop")
    step = explain(config, Request(Direction.INBOUND, b"GET", b"/b", b"shop")).steps[-2]
    assert (step.verdict, step.why) == ("passes", "path did not match")


def test_exclusions_are_asked_first():
    config = PolicyConfig(server_rules=(RuleConfig(), RuleConfig(paths=("/x",), exclude=True)))
    places = [step.place for step in explain(config, Request(Direction.INBOUND, b"GET", b"/", b"")).steps]
    assert places.index("server[1]") < places.index("server[0]")


def test_a_pattern_that_is_none():
    with pytest.raises(ValueError, match=r"server\[0\]: '\[' is not a regular expression"):
        explain(rule(host="["), Request(Direction.INBOUND, b"GET", b"/", b""))
