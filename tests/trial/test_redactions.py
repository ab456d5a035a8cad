import pytest

from sp_proxy.core.redact.config import RuleConfig
from sp_proxy.trial.captured import read
from sp_proxy.trial.redactions import redactions
from tests.trial.exchanges import body, line, redactor

EXCHANGE = read(
    line(
        path="/orders?token=abc&x=1",
        host="shop:8080",
        attributes={"http.request.header.:path": "/orders?token=abc&x=1", "http.response.trailer.x-sum": "9"},
        request={"headers": [["X-Token", "abc"], ["cookie", "a=b"]], "body": body('{"card": "1", "name": "ann"}')},
        response={"headers": [["content-type", "text/plain"]], "body": body("id 4111111111111111", "text/plain")},
    )
)


def places(**parts: object) -> list[str]:
    return list(redactions(EXCHANGE, redactor(**parts)))


def test_nothing_but_what_is_never_sent():
    assert places() == ["request header cookie"]
    assert places(send_cookies=True) == []


@pytest.mark.parametrize(
    "rule, place",
    [
        (RuleConfig(headers=("x-token",)), "request header x-token"),
        (RuleConfig(headers=("x-sum",)), "trailer x-sum"),
        (RuleConfig(headers=("host",)), "host"),
        (RuleConfig(query=("token",)), "request target"),
        (RuleConfig(json_paths=("$.card",)), "request body"),
        (RuleConfig(text=("id",)), "response body"),
        (RuleConfig(json_paths=("$.card",), action="drop"), "request body"),
    ],
)
def test_where_a_rule_takes_something(rule, place):
    assert places(rules=(rule,), send_cookies=True) == [place]


def test_what_a_detector_finds():
    assert places(detectors={"payment_card": "replace"}, send_cookies=True) == ["response body"]


def test_what_is_redacted_already_stays():
    once = line(
        path="/orders?token=[REDACTED]",
        request={"headers": [["authorization-of", "Bearer [REDACTED]"], ["x-token", "[REDACTED]"]], "body": None},
        response={"headers": [], "body": body('{"card":"[REDACTED]"}')},
    )
    rule = RuleConfig(headers=("x-token",), query=("token",), json_paths=("$.card",))
    detectors = {"bearer_token": "replace", "payment_card": "replace", "jwt": "replace"}
    assert list(redactions(read(once), redactor(rules=(rule,), detectors=detectors))) == []
