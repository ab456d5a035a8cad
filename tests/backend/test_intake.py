import gzip
import json
import zlib
from collections.abc import Callable
from functools import partial

import httpx
import pytest
import trio
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sp_proxy.backend import intake, serve, server
from sp_proxy.backend.intake import Budget, OverloadedError
from tests.backend.requests import exchange_span, request_of, sdk_span
from tests.backend.serving import backend, until
from tests.backend.test_content import ENCODERS
from tests.backend.test_logs import logs_request, record
from tests.backend.test_otlp import as_otlp_json

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


def status_of(response: httpx.Response) -> tuple[int, str]:
    """Code and message of a google.rpc.Status, in the encoding that the answer names."""
    if response.headers["content-type"] == "application/json":
        value = response.json()
        return value["code"], value["message"]
    assert response.headers["content-type"] == "application/x-protobuf"
    body = response.content
    assert body[0] == 0x08
    assert body[2] == 0x12
    start = 4 if body[3] < 0x80 else 5
    return body[1], body[start:].decode()


async def stored(client: httpx.AsyncClient) -> int:
    spans: int = (await client.get("/api/v1/stats")).json()["spans"]
    return spans


async def test_protobuf_and_json_are_stored_and_answered_alike():
    async with backend() as client:
        request = request_of(exchange_span(path="/proto"), sdk_span())
        answer = await client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "application/x-protobuf"
        answer = await client.post(
            "/v1/traces", content=as_otlp_json(request_of(exchange_span(path="/json"))), headers=JSON
        )
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["content-type"] == "application/json"
        page = (await client.get("/api/v1/exchanges")).json()
        assert sorted(exchange["path"] for exchange in page["exchanges"]) == ["/json", "/proto"]
        assert await stored(client) == 3


@pytest.mark.parametrize(
    "coding, encode",
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress), ("identity", bytes)],
)
async def test_content_codings(coding, encode):
    async with backend() as client:
        body = encode(request_of(exchange_span()).SerializeToString())
        answer = await client.post("/v1/traces", content=body, headers={**PROTOBUF, "content-encoding": coding})
        assert answer.status_code == 200
        assert await stored(client) == 1


async def test_a_chunked_body():
    async with backend() as client:
        body = request_of(exchange_span(response_body="x" * 200_000)).SerializeToString()

        async def pieces():
            for start in range(0, len(body), 10_000):
                yield body[start : start + 10_000]

        assert (await client.post("/v1/traces", content=pieces(), headers=PROTOBUF)).status_code == 200
        assert await stored(client) == 1


async def test_the_tenant_is_kept_with_the_batch():
    async with backend() as client:
        request = request_of(exchange_span(span=b"s" * 8)).SerializeToString()
        await client.post("/v1/traces", content=request, headers={**PROTOBUF, "x-public-key": "tenant-1"})
        assert (await client.get(f"/api/v1/exchanges/{b's'.hex() * 8}")).json()["tenant"] == "tenant-1"


async def test_partial_success():
    bad = sdk_span()
    bad.trace_id = b"short"
    request = request_of(bad, exchange_span(), bad)
    async with backend() as client:
        answer = await client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
        assert answer.status_code == 200
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert (partial.rejected_spans, "trace id" in partial.error_message) == (2, True)
        answer = await client.post("/v1/traces", content=as_otlp_json(request), headers=JSON)
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "2"
        assert await stored(client) == 1


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    "more, body, status, code, words",
    [
        ({}, b"\xff\xff\xff", 400, 3, "the body is not"),
        ({"content-encoding": "gzip"}, b"not gzip", 400, 3, "content-encoding: unreadable data"),
        ({"content-encoding": "gzip"}, gzip.compress(b"x" * 50)[:-5], 400, 3, "ends early"),
        ({"content-encoding": "br"}, b"x", 415, 3, "gzip, deflate, zstd"),
        ({}, b"x" * 70_000, 413, 8, "larger than 65536 bytes"),
        ({"content-encoding": "gzip"}, gzip.compress(bytes(70_000)), 413, 8, "larger than 65536 bytes"),
    ],
)
async def test_refusals_are_a_status_in_the_encoding_of_the_request(headers, more, body, status, code, words):
    async with backend(max_request_size=65536) as client:
        answer = await client.post("/v1/traces", content=body, headers={**headers, **more})
        assert answer.status_code == status
        assert answer.headers["content-type"] == headers["content-type"]
        assert status_of(answer)[0] == code
        assert words in status_of(answer)[1]
        if status == 415:
            assert answer.headers["accept-encoding"] == "gzip, deflate, zstd"


@pytest.mark.parametrize("content_type", ["text/plain", "application/grpc", "application/x-www-form-urlencoded", None])
async def test_other_media_types(content_type):
    async with backend() as client:
        headers = {"content-type": content_type} if content_type else {}
        answer = await client.post("/v1/traces", content=b"x", headers=headers)
        assert answer.status_code == 415
        assert status_of(answer) == (3, "content-type must be application/x-protobuf or application/json")


async def test_a_refused_giant_body_is_answered_and_the_server_lives():
    async with backend(max_request_size=65536) as client:

        async def endless():
            for _ in range(400):
                yield bytes(65536)

        for _ in range(3):
            answer = await client.post("/v1/traces", content=endless(), headers=PROTOBUF)
            assert answer.status_code == 413
        assert await stored(client) == 0


async def test_a_bomb_in_each_coding():
    async with backend(max_request_size=1 << 20) as client:
        for coding in ("gzip", "deflate", "zstd"):
            bomb = ENCODERS[coding](bytes(100 << 20))
            answer = await client.post("/v1/traces", content=bomb, headers={**PROTOBUF, "content-encoding": coding})
            assert answer.status_code == 413


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
async def test_a_request_of_countless_empty_messages_is_refused_unread(headers):
    """A kilobyte for the network, 4 megabytes for the limit in bytes, and gigabytes for who decodes it."""
    body = b"\x0a\x00" * 2_000_001 if headers is PROTOBUF else b'{"resourceSpans":[' + b"{}," * 2_000_000 + b"{}]}"
    async with backend() as client:
        answer = await client.post(
            "/v1/traces", content=gzip.compress(body), headers={**headers, "content-encoding": "gzip"}
        )
        assert answer.status_code == 413
        assert status_of(answer)[1].startswith("the request holds more than 2,000,000 values")
        assert await stored(client) == 0


async def test_what_decodes_to_nothing_is_not_read_for_ever():
    async with backend(max_request_size=1 << 20) as client:
        empty = gzip.compress(b"") * (1 << 12)
        answer = await client.post(
            "/v1/traces", content=pieces(empty, 100), headers={**PROTOBUF, "content-encoding": "gzip"}
        )
        assert answer.status_code == 413


async def pieces(piece, count):
    for _ in range(count):
        yield piece


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from([PROTOBUF, JSON]),
            st.sampled_from(["", "gzip", "deflate", "zstd", "x"]),
            st.binary(max_size=300) | st.just(request_of(sdk_span()).SerializeToString()),
        ),
        max_size=6,
    )
)
def test_arbitrary_bytes_never_break_it(requests):
    async def check():
        async with backend() as client:
            for headers, coding, body in requests:
                answer = await client.post(
                    "/v1/traces", content=body, headers={**headers, **({"content-encoding": coding} if coding else {})}
                )
                assert answer.status_code in {200, 400, 415}
                if answer.status_code != 200:
                    assert "\n" not in status_of(answer)[1]
            assert (await client.get("/healthz")).status_code == 200

    trio.run(check)


async def test_a_sender_that_stops_in_the_middle_is_let_go(monkeypatch):
    monkeypatch.setattr(intake, "BODY_TIMEOUT", 0.2)
    monkeypatch.setattr(server, "DRAIN_SECONDS", 0.1)
    async with backend() as client:
        port = client.base_url.port
        assert port is not None
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{"
        )
        answer = bytearray()
        with trio.fail_after(20):
            async for data in stream:
                answer += data
        await stream.aclose()
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_too_much_in_hand_is_429_and_given_back(monkeypatch):
    budgets = []

    class Watched(Budget):
        def __init__(self, limit):
            super().__init__(limit)
            budgets.append(self)

    monkeypatch.setattr(intake, "Budget", Watched)
    release = trio.Event()

    async def pieces():
        yield bytes(60_000)
        await release.wait()
        yield b"x"

    body = json.dumps({"pad": "x" * 40_000}).encode()
    async with backend(max_request_size=65536) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(partial(client.post, "/v1/traces", content=pieces(), headers=PROTOBUF))

            async def in_hand():
                return budgets[0].used == 240_000

            await until(in_hand)
            answer = await client.post("/v1/traces", content=body, headers=JSON)
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            assert status_of(answer)[0] == 8
            release.set()
        assert budgets[0].used == 0
        assert (await client.post("/v1/traces", content=body, headers=JSON)).status_code == 200


async def test_public_keys_when_listed():
    request = request_of(exchange_span()).SerializeToString()
    async with backend(public_keys=["good"]) as client:
        for key, status in (("good", 200), ("bad", 401), ("", 401)):
            headers = {**PROTOBUF, **({"x-public-key": key} if key else {})}
            assert (await client.post("/v1/traces", content=request, headers=headers)).status_code == status


async def test_duplicates_are_accepted_and_stored_once():
    request = request_of(exchange_span()).SerializeToString()
    async with backend() as client:
        for _ in range(3):
            assert (await client.post("/v1/traces", content=request, headers=PROTOBUF)).content == b""
        stats = (await client.get("/api/v1/stats")).json()
        assert (stats["spans"], stats["duplicates"]) == (1, 2)


def test_the_budget():
    budget = Budget(10)
    with budget.share() as one, budget.share() as other:
        one.take(6)
        other.take(4)
        with pytest.raises(OverloadedError):
            one.take(1)
    assert budget.used == 0


async def test_tenants_are_accepted_and_kept_for_as_long_as_they_are_to_be(monkeypatch):
    monkeypatch.setattr(serve, "EXPIRE_INTERVAL", 0.05)
    async with backend(public_keys=["long"], tenants=[{"public_key": "short", "retention": "1ms"}]) as client:
        for key, status in (("long", 200), ("short", 200), ("other", 401)):
            body = request_of(exchange_span(path=f"/{key}")).SerializeToString()
            headers = {**PROTOBUF, "x-public-key": key}
            assert (await client.post("/v1/traces", content=body, headers=headers)).status_code == status

        async def expired():
            return (await client.get("/api/v1/stats")).json()["expired"] == 1

        await until(expired)
        (left,) = (await client.get("/api/v1/exchanges")).json()["exchanges"]
        assert left["path"] == "/long"


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
async def test_log_records_in_both_encodings(coding):
    request = logs_request(record("first"), record("lost", trace_id=b"x"))
    bodies = {
        "application/x-protobuf": request.SerializeToString(),
        "application/json": json.dumps(
            {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "second"}, "traceId": "zz"}]}]}]}
        ).encode(),
    }
    codings: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
    compress = codings[coding]
    async with backend() as client:
        for media_type, body in bodies.items():
            headers = {"content-type": media_type, **({"content-encoding": coding} if coding else {})}
            answer = await client.post("/v1/logs", content=compress(body), headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
            if media_type == "application/json":
                assert answer.json() == {}
            else:
                partial = ExportLogsServiceResponse.FromString(answer.content).partial_success
                assert (partial.rejected_log_records, partial.error_message) == (
                    *(1, "a trace id must be 16 bytes or absent"),
                )
        found = (await client.get("/api/v1/logs")).json()["logs"]
        assert [(each["body"], each["trace_id"]) for each in found] == [("second", ""), ("first", "74" * 16)]
        wrong = await client.post("/v1/logs", content=b"\xff", headers=PROTOBUF)
        assert (wrong.status_code, status_of(wrong)) == (
            *(400, (3, "the body is not a protobuf ExportLogsServiceRequest")),
        )
