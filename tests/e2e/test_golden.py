"""The golden exchanges through the real daemon: what the origin sees and what is uploaded is what the real filter did,
but for the differences in ``tests/golden/differences.py``.

Each distinct configuration gets a daemon of its own, with a forwarding listener for either direction. Ids differ on
every run, the filter's and ours: their shape is compared, and that they agree with each other.
"""

import http.client
import http.server
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.e2e.harness import (
    SETTINGS,
    TIMEOUT,
    home,
    launch,
    require_daemon,
    write_config,
)
from tests.e2e.otlp_sink import Arrived, otlp_sink, values
from tests.e2e.servers import http_server
from tests.golden import differences as golden
from tests.netns import Namespace

CASES = {case["name"]: case for case in golden.load()}
RUNNABLE = [name for name in CASES if not golden.difference(name).refused_at_start]
RECORDED = [name for name in RUNNABLE if golden.expect_captured(CASES[name])]
ORIGIN_PORT = 9001
SINK_PORT = 9002
FORWARD_PORT = {"inbound": 18001, "outbound": 18002}
NAMES = ("x-sp-service-name", "x-service-name", "x-current-service")
"""Service name headers: the filter adds none of them (a Lua script beside it does), sp_proxy does."""
BEYOND_THE_FILTER = {
    *("http.request.method", "url.scheme", "url.query", "url.full", "server.address", "server.port"),
    *("client.address", "client.port", "network.peer.address", "network.peer.port"),
    *("network.protocol.name", "network.protocol.version", "http.request.body.size", "http.response.body.size"),
    *("sp.ttfb_ms", "sp.rule", "error.type", *(f"http.request.header.{name}" for name in NAMES)),
}
"""Attributes that the contract lists as beyond the filter's, and the headers above."""

Fields = list[tuple[str, str]]


@dataclass
class Seen:
    """One case as it went: what the origin saw, what the client got, what was uploaded."""

    request: Fields = field(default_factory=list)
    request_line: tuple[str, str] = ("", "")
    request_body: bytes = b""
    status: int = 0
    response: Fields = field(default_factory=list)
    response_body: bytes = b""
    uploaded: list[Arrived] = field(default_factory=list)


class Origin:
    """Replays the recorded response of the case whose turn it is."""

    def __init__(self) -> None:
        self.case: dict[str, Any] = {}
        self.seen = Seen()

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.replay
                raise AttributeError(name)

            def replay(self) -> None:
                origin.seen.request_line = (self.command, self.path)
                origin.seen.request = list(self.headers.items())
                origin.seen.request_body = self.rfile.read(int(self.headers.get("content-length", "0")))
                response = origin.case["response"]
                self.send_response_only(response["status"])
                for name, value in response["headers"]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(golden.body(response["body"]))

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def ask(case: dict[str, Any], seen: Seen) -> None:
    """Sends the recorded request, with nothing added but the framing."""
    request = case["request"]
    port = FORWARD_PORT["outbound" if case["config"].get("traffic_direction") == "client" else "inbound"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    body = golden.body(request["body"])
    connection.putrequest(request["method"], request["target"], skip_host=True, skip_accept_encoding=True)
    for name, value in [("host", request["host"]), *request["headers"]]:
        connection.putheader(name, value)
    if body:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body or None)
    response = connection.getresponse()
    seen.status = response.status
    seen.response = response.getheaders()
    seen.response_body = response.read()
    connection.close()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Seen]:
    """All cases that can be run, by name, and what became of them."""
    require_daemon()
    by_config: dict[str, list[dict[str, Any]]] = {}
    for case in CASES.values():
        if not golden.difference(case["name"]).refused_at_start:
            by_config.setdefault(json.dumps(case["config"], sort_keys=True), []).append(case)
    found: dict[str, Seen] = {}
    with ThreadPoolExecutor(3) as pool:
        for some in pool.map(run_config, map(json.loads, by_config), by_config.values()):
            found |= some
    assert len(found) == len(RUNNABLE)
    return found


def run_config(config: dict[str, Any], cases: list[dict[str, Any]]) -> dict[str, Seen]:
    """One daemon in a namespace of its own, all cases of its configuration, one after the other."""
    settings = {
        **{name: value for name, value in SETTINGS.items() if name != "service_name"},
        **config,
        "sp_backend_url": f"http://127.0.0.1:{SINK_PORT}",
        "listen": {
            "inbound": "off",
            "outbound": "off",
            "forward": [
                {"listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{ORIGIN_PORT}", "direction": direction}
                for direction, port in FORWARD_PORT.items()
            ],
        },
    }
    origin = Origin()
    found: dict[str, Seen] = {}
    with (
        Namespace("golden") as namespace,
        home() as directory,
        http_server(namespace, origin.handler(), ORIGIN_PORT),
        otlp_sink(namespace, SINK_PORT) as sink,
    ):
        # The name which the filter's workload had.
        environ = {"OTEL_SERVICE_NAME": "default-service"}
        daemon = launch(namespace, directory, write_config(directory, settings), environ=environ)
        daemon.wait_ready()
        for case in cases:
            seen = found[case["name"]] = origin.seen = Seen()
            origin.case = case
            namespace.call(partial(ask, case, seen))
        daemon.stop()  # delivers everything first
    # A span belongs to the case whose origin saw its id. One of a request that was not injected belongs to none.
    by_id = {identity(seen.request).span_id: seen for seen in found.values()}
    for one in sink.spans:
        by_id[one.span.span_id.hex()].uploaded.append(one)
    return found


@dataclass(frozen=True)
class Identity:
    """What ``tracestate`` says of us; empty when we were left out."""

    trace_id: str = ""
    span_id: str = ""
    session_id: str = ""


def identity(request: Iterable[tuple[str, str]]) -> Identity:
    value = dict(request).get("tracestate", "")
    own = re.match(r"x-sp-traceparent=00-(\w{32})-(\w{16})-01,", value)
    session = re.search(r"x-sp-session-id=([^,]*)", value)
    return Identity(own[1], own[2], session[1]) if own and session else Identity()


class Neutral:
    """Puts a word in place of every id that was made on the way, so that two runs can be compared."""

    def __init__(self, case: dict[str, Any], ids: Identity) -> None:
        given = json.dumps(case["request"])
        made = {ids.trace_id: "TRACE", ids.span_id: "SPAN", ids.session_id: "SESSION"}
        self._words = {value: word for value, word in made.items() if value and value not in given}
        for value, word in self._words.items():
            assert SHAPES[word].fullmatch(value), value
        if golden.difference(case["name"]).new_identity:
            self._words[f"x-sp-traceparent=00-{ids.trace_id}"] = "x-sp-traceparent=00-TRACE"

    def text(self, value: str) -> str:
        for made, word in self._words.items():
            value = value.replace(made, word)
        return value

    def fields(self, headers: Iterable[Iterable[str]]) -> Fields:
        """In no order, names in lower case as Envoy has them. A span id made for the response has no other trace."""
        pairs = ((name.lower(), self.text(value)) for name, value in headers)
        return sorted((name, re.sub(r"00-TRACE-[0-9a-f]{16}-01", "00-TRACE-NEW-01", value)) for name, value in pairs)


SHAPES = {
    "TRACE": re.compile("[0-9a-f]{32}"),
    "SPAN": re.compile("[0-9a-f]{16}"),
    "SESSION": re.compile("sp-session-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
}


def own_name(case: dict[str, Any]) -> str:
    return str(case["config"].get("service_name", "default-service"))


def without_names(fields: Fields) -> Fields:
    return [(name, value) for name, value in fields if name not in NAMES]


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_the_origin_sees(outcomes: dict[str, Seen], name: str):
    case, seen = CASES[name], outcomes[name]
    request = case["request"]
    assert seen.request_line == (request["method"], request["target"])
    assert seen.request_body == golden.body(request["body"])
    # What the caller sent, as it was written, before what is added.
    replaced = {"tracestate", "x-sp-num", *NAMES}
    sent = [tuple(each) for each in request["headers"] if each[0] not in replaced]
    assert [each for each in seen.request if each in sent] == sent

    upstream = case["upstream_request_headers"]
    recorded = Neutral(case, identity(upstream)).fields(upstream)
    ours = Neutral(case, identity(seen.request)).fields(seen.request)
    for header in golden.difference(name).replaced:
        (given,) = [each[1] for each in request["headers"] if each[0] == header]
        recorded.remove((header, given))
    assert without_names(ours) == without_names(recorded)
    if identity(upstream) == Identity():
        assert ours == recorded  # left alone altogether
    else:
        service = own_name(case)
        assert [each for each in ours if each[0] in NAMES] == sorted(
            zip(NAMES, (service, service, f"{service}-workload"), strict=True)
        )


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_the_client_gets(outcomes: dict[str, Seen], name: str):
    case, seen = CASES[name], outcomes[name]
    recorded = Neutral(case, identity(case["upstream_request_headers"]))
    ours = Neutral(case, identity(seen.request))
    assert seen.status == case["response"]["status"]
    assert seen.response_body == golden.body(case["response"]["body"])
    assert ours.fields(seen.response) == recorded.fields(case["downstream_response_headers"])


@pytest.mark.parametrize("name", sorted(set(RUNNABLE) - set(RECORDED)))
def test_what_is_not_uploaded(outcomes: dict[str, Seen], name: str):
    assert outcomes[name].uploaded == []


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_uploaded(outcomes: dict[str, Seen], name: str):
    case, seen = CASES[name], outcomes[name]
    difference = golden.difference(name)
    (upload,) = case["uploads"]
    (resource_spans,) = upload["traces_data"]["resourceSpans"]
    (recorded_span,) = resource_spans["scopeSpans"][0]["spans"]
    (arrived,) = seen.uploaded
    span = arrived.span
    ours = Neutral(case, identity(seen.request))
    theirs = Neutral(case, identity(case["upstream_request_headers"]))

    service = {"sp.service.name": difference.service_name} if difference.service_name else {}
    expected = golden.attributes(recorded_span["attributes"]) | (difference.attributes or {}) | service
    assert neutral_attributes(values(span.attributes), ours) == neutral_attributes(expected, theirs)

    resource = golden.attributes(resource_spans["resource"]["attributes"])
    if service:
        resource["service.name"] = difference.service_name
    assert {key: arrived.resource[key] for key in resource} == resource
    for key, value in upload["upload_headers"]:
        assert arrived.upload_headers[key] == value
    assert (arrived.upload_headers["content-encoding"], arrived.upload_headers[":path"]) == ("gzip", "/v1/traces")

    ids = identity(seen.request)
    assert (span.trace_id.hex(), span.span_id.hex()) == (ids.trace_id, ids.span_id)
    assert span.name == recorded_span["name"]
    parent = recorded_span.get("parentSpanId", "")
    if difference.new_identity:
        _, trace, parent, _ = dict(case["request"]["headers"])["traceparent"].split("-")
        assert span.trace_id.hex() == trace
    assert span.parent_span_id.hex() == parent
    outbound = case["config"].get("traffic_direction") == "client"
    assert span.kind == (Span.SPAN_KIND_CLIENT if outbound else Span.SPAN_KIND_SERVER)
    status = case["response"]["status"]
    failed = status >= 500 or (status >= 400 and outbound)
    assert span.status.code == (Status.STATUS_CODE_ERROR if failed else Status.STATUS_CODE_UNSET)


def neutral_attributes(attributes: dict[str, str], neutral: Neutral) -> dict[str, str]:
    return {name: neutral.text(value) for name, value in attributes.items() if name not in BEYOND_THE_FILTER}


@pytest.mark.parametrize("name", sorted(set(CASES) - set(RUNNABLE)))
def test_what_is_refused_at_start(name: str):
    require_daemon()
    with Namespace("golden") as namespace, home() as directory:
        daemon = launch(namespace, directory, write_config(directory, CASES[name]["config"]))
        assert daemon.process.wait(TIMEOUT) == 2
        (line,) = daemon.log.splitlines()
    assert "collectionRules.http.server[0].path" in line


def test_all_cases_are_there():
    assert (len(CASES), len(RUNNABLE)) == (61, 60)
    assert set(golden.DIFFERENCES) - {golden.EVERY_CASE} <= set(CASES)
