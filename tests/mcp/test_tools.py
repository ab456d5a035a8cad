import json
from typing import Any

import pytest

from sp_proxy import regex
from sp_proxy.backend.client import AskError, Client
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.rules import PolicyConfig, RuleConfig
from sp_proxy.mcp.bounds import MAX_ANSWER
from sp_proxy.mcp.tools import Replaying, ToolError, Tools
from sp_proxy.replay.prepare import changes
from sp_proxy.replay.rules import File
from tests.backend.requests import HOSTILE, exchange_span
from tests.cli.backends import holding
from tests.replay.origins import origin

TRACE = b"\x0a" * 16
OUT, IN = b"\x01" * 8, b"\x02" * 8
POLICY = PolicyConfig(server_rules=(RuleConfig(paths=("^/api/",)),))


@pytest.fixture(scope="module")
def url():
    long = {f"http.request.header.x-{number}": "v" * 3000 for number in range(20)}
    with holding(
        exchange_span(trace=TRACE, span=OUT, at=1, service="web", direction="outbound", host="orders", path="/api/1"),
        exchange_span(trace=TRACE, span=IN, parent=OUT, at=2, host="orders", path="/api/1"),
        exchange_span(span=b"\x03" * 8, at=3, path=f"/{HOSTILE}", response_body="z" * 60_000, more=long),
        exchange_span(span=b"\x04" * 8, at=4, more={"http.request.header.x-key": "[REDACTED]"}, path="/secret"),
    ) as address:
        yield address


@pytest.fixture
def tools(url):
    with Client(url) as client:
        yield Tools(client, POLICY)


def read(text: str) -> Any:
    assert len(text) <= MAX_ANSWER
    assert text.isascii()
    return json.loads(text)


def test_services(tools):
    found = read(tools.list_services("2023-11-14T00:00"))
    assert {each["service"] for each in found["services"]} >= {"orders", "web"}
    call = next(each for each in found["calls"] if each["source"] == "web")
    assert (call["host"], call["target"], call["requests"]) == ("orders", "orders", 1)


def test_search(tools):
    found = read(tools.search_exchanges("path:/api/*", 1))["exchanges"]
    assert [(each["span_id"], each["status"]) for each in found] == [(IN.hex(), 200)]
    hostile = read(tools.search_exchanges("", 100))["exchanges"]
    assert any("<script>" in each["path"] for each in hostile)


def test_an_exchange(tools):
    found = read(tools.get_exchange(IN.hex()))
    assert found["response_body"] == {"encoding": "text", "data": '{"ok":true}', "content_type": "application/json"}
    assert found["attributes"]["sp.span.type"] == "extract"
    large = read(tools.get_exchange("03" * 8, 100))
    assert large["response_body"]["data"].endswith("more characters)")
    assert len(large["response_body"]["data"]) < 200
    assert read(tools.get_exchange("03" * 8, 32768))
    assert ["x-key", "[REDACTED]"] in read(tools.get_exchange("04" * 8))["request"]["headers"]


def test_a_trace(tools):
    found = read(tools.get_trace(TRACE.hex()))
    assert [(each["depth"], each["service"]) for each in found["call_tree"]] == [(0, "web"), (1, "orders")]
    assert found["call_tree"][1]["exchange"]["path"] == "/api/1"
    assert (found["trace"]["spans"], found["logs"]) == (2, [])


def test_rules(tools):
    found = read(tools.explain_rule("shop", "/api/x", headers={"Accept": "*/*"}))
    assert (found["decision"]["capture"], found["decision"]["rule"]) == (True, "server[0]")
    assert not read(tools.explain_rule("shop", "/other"))["decision"]["capture"]
    assert found["steps"]


def test_replay_goes_where_it_may_only(tools, url):
    with pytest.raises(ToolError, match="without --replay-to"):
        tools.replay_exchange(IN.hex())
    with origin(
        lambda got: (200, {"content-type": "application/json"}, b'{"ok":false,"card":"4111111111111111"}')
    ) as there:
        redaction = Redactor(RedactionConfig(detectors={"payment_card": "replace"}), regex)
        with Client(url) as client:
            sending = Tools(client, POLICY, Replaying(changes(there.url), File(), redaction))
            found = read(sending.replay_exchange(IN.hex(), ["$.ok"]))
            skipped = read(sending.replay_exchange("04" * 8))
    assert [each.target for each in there.got] == ["/api/1"]
    assert found["differences"] == [{"place": "$.card", "expected": "nothing", "found": '"[REDACTED]"'}]
    assert (found["sent"], found["same"], found["status"]) == (True, False, 200)
    assert (skipped["sent"], skipped["same"]) == (False, False)
    assert skipped["reason_not_sent"].startswith("redacted: the field x-key")


@pytest.mark.parametrize(
    "ask, problem",
    [
        (lambda tools: tools.get_exchange("xyz"), "span_id: found 'xyz'; allowed: 16 hex digits"),
        (lambda tools: tools.get_exchange("f" * 16), "there is no exchange of this span id"),
        (lambda tools: tools.get_exchange("f" * 16, -1), "max_body: found -1; allowed: 0 to 32768"),
        (lambda tools: tools.get_trace("f" * 32), "there is no trace of this id"),
        (lambda tools: tools.search_exchanges("", 1000), "limit: found 1000; allowed: 1 to 100"),
        (lambda tools: tools.explain_rule("a", direction="up"), "direction: allowed: inbound, outbound"),
        (lambda tools: tools.explain_rule("a", headers={"a": "b\r\nc: d"}), "headers: 'a' is no header field"),
    ],
)
def test_wrong_questions(tools, ask, problem):
    with pytest.raises(ToolError) as caught:
        ask(tools)
    assert str(caught.value) == problem


def test_a_wrong_query(tools):
    with pytest.raises(AskError, match="'servise' is not a field"):
        tools.search_exchanges("servise:x")
