"""``/v1/inject`` of a running backend, asked as a daemon asks, and as the published description has it."""

import json
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy.backend.parameters import ParameterError
from sp_proxy.core.redaction import NeverSent
from sp_proxy.inject import wire
from sp_proxy.inject.wire import Lookup, Stored
from tests.backend.requests import exchange_span
from tests.backend.serving import threaded
from tests.cli.backends import PROTOBUF, holding

OUT: dict[str, Any] = {"direction": "outbound", "host": "payment:8080"}
JSON = {"http.request.header.content-type": "application/json"}


@pytest.fixture(scope="module")
def url():
    with holding(
        *(exchange_span(at=at, path="/turn", response_body=f'{{"n":{at}}}', **OUT) for at in (1, 2)),
        exchange_span(
            at=3, path="/charge?b=1&a=2", method="POST", request_body='{"n":1}', status=402, more=JSON, **OUT
        ),
        exchange_span(at=4, path="/in", host="payment:8080"),
        exchange_span(at=5, path="/other", direction="outbound", host="other"),
        exchange_span(at=6, path="/cut", more={"http.response.body.size": 99, "sp.body.truncated": True}, **OUT),
        exchange_span(at=7, path="/q", session="one", response_body='{"q":1}', **OUT),
        exchange_span(at=8, path="/q", session="two", response_body='{"q":2}', **OUT),
    ) as address:
        yield address


def ask(url: str, target: str, method: str = "GET", body: bytes = b"", host: str = "payment:8080", query: str = ""):
    fields = (("content-type", "application/json"),) if body else ()
    lookup = Lookup(method=method, host=host, target=target, fields=fields, body=body, trace_id=b"\x01" * 16)
    content = wire.encode_lookup(lookup, NeverSent())
    return httpx.post(f"{url}/v1/inject{query}", content=content, headers=PROTOBUF, timeout=30)


def stored(response: httpx.Response) -> Stored | None:
    assert response.headers["content-type"] == "application/x-protobuf"
    if response.status_code == 404:
        return None
    assert response.status_code == 200, response.text
    return wire.read_answer(ExportTraceServiceRequest.FromString(response.content))


def test_answers_in_turn(url):
    before = httpx.get(f"{url}/api/v1/stats", timeout=30).json()
    found = [stored(ask(url, "/turn")) for _ in range(3)]
    assert [each and (each.status, each.body) for each in found] == [
        (200, b'{"n":1}'),
        (200, b'{"n":2}'),
        (200, b'{"n":2}'),
    ]
    assert found[0] is not None
    assert stored(ask(url, "/nothing")) is None
    stats = httpx.get(f"{url}/api/v1/stats", timeout=30).json()
    counted = ("stored_answers_given", "stored_answers_missing")
    assert [stats[name] - before[name] for name in counted] == [3, 1]
    assert dict(found[0].fields)["content-type"] == "application/json"


def test_matched_as_the_mock_does(url):
    found = stored(ask(url, "/charge?a=2&b=1", "POST", b'{"n": 1.0}'))
    assert found is not None
    assert found.status == 402
    for target, method, body, host in [
        ("/charge?a=2&b=1", "POST", b'{"n":2}', "payment:8080"),
        ("/charge?a=2", "POST", b'{"n":1}', "payment:8080"),
        ("/charge?a=2&b=1", "GET", b"", "payment:8080"),
        ("/other", "GET", b"", "payment:8080"),
        ("/cut", "GET", b"", "payment:8080"),
        ("/nothing", "GET", b"", "payment:8080"),
    ]:
        assert stored(ask(url, target, method, body, host)) is None


def test_what_was_captured_where_it_arrived_does_as_well(url):
    assert stored(ask(url, "/in")) is not None


def test_narrowed_by_a_query(url):
    found = stored(ask(url, "/q", query="?q=session:two"))
    assert found is not None
    assert found.body == b'{"q":2}'
    wrong = ask(url, "/q", query="?q=servise:x")
    assert (wrong.status_code, "is not a field" in wrong.text) == (400, True)
    assert ParameterError.__name__ not in wrong.text


def test_in_json_too(url):
    question = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "0a" * 16,
                                "spanId": "0b" * 8,
                                "attributes": [
                                    {"key": key, "value": {"stringValue": value}}
                                    for key, value in {
                                        "sp.span.type": "inject",
                                        "url.host": "other",
                                        "url.path": "/other",
                                        "http.request.header.:method": "GET",
                                    }.items()
                                ],
                            }
                        ]
                    }
                ]
            }
        ]
    }
    response = httpx.post(f"{url}/v1/inject", json=question, timeout=30)
    assert response.status_code == 200
    span = response.json()["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["spanId"]) == ("0a" * 16, "0b" * 8)
    values = {each["key"]: each["value"] for each in span["attributes"]}
    assert values["http.response.status_code"] == {"intValue": "200"}
    assert json.loads(values["http.response.body"]["stringValue"]) == {"ok": True}


def test_what_is_no_look_up(url):
    empty = httpx.post(f"{url}/v1/inject", content=b"", headers=PROTOBUF, timeout=30)
    assert (empty.status_code, b"sp.span.type is inject" in empty.content) == (400, True)
    assert httpx.post(f"{url}/v1/inject", content=b"\xff", headers=PROTOBUF, timeout=30).status_code == 400
    assert httpx.get(f"{url}/v1/inject", timeout=30).status_code == 405


def test_who_may_only_send_may_not_ask():
    with threaded(token="secret", public_keys=["sender"]) as url:
        content = wire.encode_lookup(Lookup(method="GET", host="a", target="/"), NeverSent())
        sender = {**PROTOBUF, "x-public-key": "sender"}
        assert httpx.post(f"{url}/v1/inject", content=content, headers=sender, timeout=30).status_code == 401
        reader = {**PROTOBUF, "authorization": "Bearer secret"}
        assert httpx.post(f"{url}/v1/inject", content=content, headers=reader, timeout=30).status_code == 404
