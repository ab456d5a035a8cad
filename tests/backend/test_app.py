import httpx
import pytest

from sp_proxy.backend.app import build_app
from sp_proxy.backend.guard import Guard
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.model import StoreError
from sp_proxy.backend.page import SECURITY_HEADERS
from tests.backend.requests import exchange_span, request_of
from tests.backend.serving import backend

PROTOBUF = {"content-type": "application/x-protobuf"}
BODY = request_of(exchange_span()).SerializeToString()


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/v1/stats", "/healthz", "/nothing", "/api/v1/exchanges?limit=x"])
async def test_every_answer_has_the_security_headers(path):
    async with backend() as client:
        answer = await client.get(path)
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers.get_list(name) == [value]


@pytest.mark.parametrize(
    "method, path, status, message",
    [
        ("GET", "/nothing", 404, "there is nothing at /nothing"),
        ("POST", "/v1/metrics", 404, "there is nothing at /v1/metrics"),
        ("GET", "/v1/traces", 405, "GET is not allowed here"),
        ("DELETE", "/api/v1/exchanges", 405, "DELETE is not allowed here"),
        ("GET", "/api/v1/exchanges/", 400, "span_id: ''"),
        ("GET", "/static/../app.py", 404, "there is nothing at"),
    ],
)
async def test_what_is_not_there(method, path, status, message):
    async with backend() as client:
        answer = await client.request(method, path)
        assert answer.status_code in {status, 404}
        assert "error" in answer.json()
        if answer.status_code == status:
            assert message in answer.json()["error"]


async def test_a_rebound_name_reaches_nothing_but_health():
    async with backend() as client:
        headers = {"host": "evil.example:4318"}
        for path in ("/", "/app.js", "/api/v1/exchanges", "/api/v1/live", "/nothing"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 403
            assert "Host" in answer.json()["error"]
        assert (await client.get("/healthz", headers=headers)).status_code == 200
        # A program that names the collector as it likes is let in; a page of that name is not.
        named = await client.post("/v1/traces", content=BODY, headers={**headers, **PROTOBUF})
        assert named.status_code == 200
        page = await client.post(
            "/v1/traces", content=BODY, headers={**headers, **PROTOBUF, "origin": "http://evil.example:4318"}
        )
        assert page.status_code == 403


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_cross_origin_requests_are_refused(headers):
    async with backend() as client:
        assert (await client.get("/api/v1/exchanges", headers=headers)).status_code == 403
        answer = await client.post("/v1/traces", content=BODY, headers={**PROTOBUF, **headers})
        assert answer.status_code == 403
        assert (await client.get("/api/v1/stats")).json()["spans"] == 0
        assert "access-control-allow-origin" not in answer.headers


async def test_the_token_guards_everything_but_health():
    async with backend(token="secret") as client:
        for path in ("/", "/app.js", "/api/v1/stats"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert (await client.get(path, headers={"authorization": "Bearer secret"})).status_code == 200
            assert (await client.get(path, auth=("me", "secret"))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_a_wrong_sender_off_loopback_is_told_in_its_encoding(tmp_path):
    async with backend("0.0.0.0", token="secret", public_keys=["key"]) as client:
        assert (await client.post("/v1/traces", content=BODY, headers=PROTOBUF)).status_code == 401
        for headers in ({"x-public-key": "key"}, {"authorization": "Bearer secret"}):
            assert (await client.post("/v1/traces", content=BODY, headers={**PROTOBUF, **headers})).status_code == 200
        assert (await client.get("/api/v1/stats", headers={"authorization": "Bearer secret"})).json()["spans"] == 1


class FailingStore:
    """A store whose disk is gone."""

    def __getattr__(self, name):
        async def fail(*_args, **_more):
            raise StoreError("the database cannot be read: disk I/O error")

        return fail


async def test_a_failing_store_is_503():
    app = build_app(FailingStore(), Hub(), Guard(loopback=True), max_request_size=1 << 20)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/api/v1/exchanges")
        assert (answer.status_code, answer.json()) == (503, {"error": "the database cannot be read: disk I/O error"})
        answer = await client.post("/v1/traces", content=BODY, headers=PROTOBUF)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
