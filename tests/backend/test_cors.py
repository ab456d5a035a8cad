import pytest

from sp_proxy.backend.cors import cors_headers, is_preflight
from sp_proxy.backend.guard import Guard
from tests.backend.requests import exchange_span, request_of
from tests.backend.serving import backend

ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}
JSON = {"content-type": "application/json"}


def test_a_preflight_is_what_a_browser_makes_of_it():
    assert is_preflight("OPTIONS", PREFLIGHT)
    assert not is_preflight("POST", PREFLIGHT)
    assert not is_preflight("OPTIONS", {"origin": ORIGIN})


def test_without_origins_nothing_is_said():
    assert cors_headers(Guard(loopback=True), PREFLIGHT) == {}


def test_answers_to_other_origins_are_not_for_them():
    guard = Guard(loopback=True, allowed_origins=frozenset({ORIGIN}))
    assert cors_headers(guard, {"origin": "https://evil.example"}) == {"vary": "origin"}
    assert "access-control-allow-methods" not in cors_headers(guard, {"origin": ORIGIN})


async def test_a_configured_origin_may_send_and_ask():
    body = request_of(exchange_span()).SerializeToString()
    headers = {"content-type": "application/x-protobuf", "origin": ORIGIN, "sec-fetch-site": "cross-site"}
    async with backend(allowed_origins=[ORIGIN]) as client:
        for path in ("/v1/traces", "/v1/logs", "/api/v1/exchanges"):
            asked = await client.options(path, headers=PREFLIGHT)
            assert asked.status_code == 204
            assert asked.headers["access-control-allow-origin"] == ORIGIN
            assert "content-type" in asked.headers["access-control-allow-headers"]
        sent = await client.post("/v1/traces", content=body, headers=headers)
        assert (sent.status_code, sent.headers["access-control-allow-origin"]) == (200, ORIGIN)
        asked = await client.get("/api/v1/exchanges", headers={"origin": ORIGIN, "sec-fetch-site": "cross-site"})
        assert (len(asked.json()["exchanges"]), asked.headers["vary"]) == (1, "origin")


@pytest.mark.parametrize("origins", [[], ["https://other.example"], [f"{ORIGIN}:444"]])
async def test_no_other_may(origins):
    async with backend(allowed_origins=origins) as client:
        for method, path in (("OPTIONS", "/v1/traces"), ("POST", "/v1/traces"), ("GET", "/api/v1/stats")):
            answer = await client.request(method, path, headers={**PREFLIGHT, "sec-fetch-site": "cross-site"})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


async def test_a_preflight_needs_no_token_but_what_follows_does():
    async with backend("0.0.0.0", token="secret", allowed_origins=[ORIGIN]) as client:
        assert (await client.options("/api/v1/stats", headers=PREFLIGHT)).status_code == 204
        assert (await client.get("/api/v1/stats", headers={"origin": ORIGIN})).status_code == 401
        known = {"origin": ORIGIN, "authorization": "Bearer secret"}
        assert (await client.get("/api/v1/stats", headers=known)).status_code == 200
