"""A running backend keeps to its OpenAPI document, whatever is asked (schemathesis, a few examples for each address)."""

import re

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from sp_proxy.backend.app import API, build_app
from sp_proxy.backend.guard import Guard
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.openapi import OPERATIONS, document
from sp_proxy.backend.sqlite.store import open_store
from tests.backend.requests import exchange_span, request_of, sdk_span
from tests.backend.serving import threaded


async def test_every_address_is_described_and_no_other():
    async with open_store(":memory:") as store:
        app = build_app(store, Hub(), Guard(loopback=True), max_request_size=1)
    served = {route.path for route in app.routes if isinstance(route, Route) and route.path.startswith(API)}
    assert {path.replace(":path}", "}") for path in served} == {API + operation.path for operation in OPERATIONS}
    assert set(document(API)["paths"]) == {API + operation.path for operation in OPERATIONS}


@pytest.fixture(scope="module")
def described():
    spans = [
        exchange_span(trace=b"t" * 16, span=b"s" * 8, session="s", request_body="{}"),
        exchange_span(trace=b"t" * 16, parent=b"s" * 8, at=1, direction="outbound", status=503),
        sdk_span(trace=b"t" * 16, span=b"d" * 8, parent=b"s" * 8, at=2),
    ]
    with threaded() as url:
        headers = {"content-type": "application/x-protobuf"}
        body = request_of(*spans).SerializeToString()
        assert httpx.post(f"{url}/v1/traces", content=body, headers=headers).status_code == 200
        document = httpx.get(f"{url}{API}/openapi.json").json()
        # What there is, so that not every answer is a 404.
        for name, example in {"span_id": "73" * 8, "trace_id": "74" * 16, "session_id": "s"}.items():
            for path in document["paths"].values():
                for parameter in path["get"]["parameters"]:
                    if parameter["name"] == name:
                        parameter["example"] = example
        del document["paths"][f"{API}/live"]  # it does not end
        loaded = schemathesis.openapi.from_dict(document)
        loaded.config.update(base_url=url)
        yield loaded


CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


ADDRESSES = [operation.path for operation in OPERATIONS if operation.path != "/live"]
# Where any text is right, or nearly: schemathesis would have to search long for something wrong.
NOTHING_TO_BE_WRONG = {"/sessions/{session_id}", "/sessions", "/traces", "/stats", "/daemons", "/openapi.json"}
PROBED = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize(
    "path, mode",
    [(path, GenerationMode.POSITIVE) for path in ADDRESSES]
    + [(path, GenerationMode.NEGATIVE) for path in ADDRESSES if path not in NOTHING_TO_BE_WRONG],
    ids=str,
)
def test_every_answer_is_as_described(described, path, mode):
    """Positive: what the document allows. Negative: what it does not, which must be refused."""
    operation = described[API + path]["GET"]
    checks = CHECKS if mode is GenerationMode.POSITIVE else (*CHECKS, negative_data_rejection)

    @PROBED
    @given(case=operation.as_strategy(generation_mode=mode))
    def probe(case):
        case.call_and_validate(checks=checks, timeout=20)

    probe()


@pytest.mark.parametrize(
    "address, key",
    [
        ("/exchanges", "exchanges"),
        (f"/exchanges/{'73' * 8}", "request"),
        (f"/spans/{'64' * 8}", "attributes"),
        (f"/traces/{'74' * 16}", "roots"),
        ("/sessions/s", "session"),
        ("/map?since=2023-11-14T22:13&until=2023-11-14T22:14", "edges"),
    ],
)
def test_answers_with_something_in_them_are_as_described(described, address, key):
    url = described.config.base_url
    answer = httpx.get(f"{url}{API}{address}").json()
    assert answer[key]
    path = next(
        operation.path
        for operation in OPERATIONS
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), address.partition("?")[0])
    )
    described_answer = document(API)["paths"][API + path]["get"]["responses"]["200"]
    assert jsonschema_rs.validator_for(
        {**described_answer["content"]["application/json"]["schema"], "components": document(API)["components"]}
    ).is_valid(answer)
