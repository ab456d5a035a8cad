import asyncio
import socket

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy.core.redaction import NeverSent
from sp_proxy.inject import wire
from sp_proxy.inject.asking import Asker, Outcome
from sp_proxy.inject.config import InjectConfig
from sp_proxy.inject.wire import Lookup, Stored
from tests.replay.origins import Given, Got, origin

LOOKUP = Lookup(method="GET", host="a", target="/hit")
PROTOBUF = {"content-type": "application/x-protobuf"}
STORED = Stored(201, (("x-a", "1"),), b"body")


def question(target: str) -> bytes:
    return wire.encode_lookup(Lookup(method="GET", host="a", target=target), NeverSent())


def answer(got: Got) -> Given:
    asked = wire.read_lookup(ExportTraceServiceRequest.FromString(got.body))
    assert asked is not None
    match asked.target:
        case "/hit":
            return 200, PROTOBUF, wire.encode_answer(LOOKUP, STORED).SerializeToString()
        case "/miss":
            return 404, PROTOBUF, b""
        case "/unreadable":
            return 200, PROTOBUF, b"\xff"
        case "/empty":
            return 200, PROTOBUF, b""
    return 503, PROTOBUF, b""


def asked(config: InjectConfig, *targets: str) -> list[Stored | Outcome]:
    async def ask() -> list[Stored | Outcome]:
        asker = Asker(config, lambda: 0.0)
        found = [await asker.ask(question(target)) for target in targets]
        await asker.aclose()
        return found

    return asyncio.run(ask())


def test_answers_misses_and_failures():
    with origin(answer) as there:
        config = InjectConfig(f"{there.url}/v1/inject", "key", "token", timeout=60.0)
        found = asked(config, "/hit", "/miss", "/unreadable", "/empty", "/error")
    assert found == [STORED, Outcome.MISS, Outcome.UNREADABLE, Outcome.UNREADABLE, Outcome.REFUSED]
    first = there.got[0]
    assert (first.method, first.target) == ("POST", "/v1/inject")
    assert first.header("content-type") == "application/x-protobuf"
    assert (first.header("x-public-key"), first.header("authorization")) == ("key", "Bearer token")


def test_nobody_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert asked(InjectConfig(url, timeout=0.1), "/hit") == [Outcome.TIMEOUT]
    assert asked(InjectConfig(url, timeout=30.0), "/hit") == [Outcome.UNREACHABLE]


def test_whoever_keeps_failing_is_left_alone():
    with origin(answer) as there:
        found = asked(InjectConfig(there.url, timeout=60.0), *["/error"] * 5, "/hit", "/hit")
    assert found == [Outcome.REFUSED] * 5 + [Outcome.LEFT_ALONE] * 2
    assert len(there.got) == 5
