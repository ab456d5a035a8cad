"""gRPC with grpcio, as programs of their own: its C core opens sockets in threads, which no test thread's namespace binds.

    grpc_peer.py serve PORT [CERTIFICATE]             answers until it is killed; prints a line when it listens
    grpc_peer.py call HOST:PORT [TRUSTED NAME]        one call of every kind; prints what came of them, as JSON

With a file of certificate and key the server speaks TLS; the client trusts what is in the file TRUSTED, and calls the server
NAME. Messages are bytes without a schema, but for health and reflection. Each handler remembers the metadata that it saw, and
``Tell`` says so.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

SERVICE = "shop.Orders"
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
BIG = bytes(range(256)) * 16384
"""The largest message that a receiver takes by default: 4 MiB."""
BINARY = bytes(range(256))
DEADLINE = 0.4
TIMEOUT = 20.0
IDENTITY = {"request_serializer": bytes, "response_deserializer": bytes}

SEEN: dict[str, list[list[str]]] = {}
ENDED: set[str] = set()
_ended = threading.Condition()


def handled(name: str, handle: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what the handler sees; tell the client in its trailing metadata."""

    def wrapped(request: Any, context: grpc.ServicerContext) -> Any:
        fields = [
            [key, value if isinstance(value, str) else value.hex()] for key, value in context.invocation_metadata()
        ]
        SEEN[name] = fields

        def ended() -> None:
            with _ended:
                ENDED.add(name)
                _ended.notify_all()

        context.add_callback(ended)
        context.set_trailing_metadata((("seen", json.dumps(fields)), ("trailer-bin", BINARY)))
        return handle(request, context)

    return wrapped


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.send_initial_metadata((("initial", "yes"), ("initial-bin", BINARY)))
    return request[::-1]


def server_stream(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(3):
        yield b"%b %d" % (request, number)


def client_stream(requests: Iterable[bytes], _: grpc.ServicerContext) -> bytes:
    return b",".join(requests)


def both_stream(requests: Iterable[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    """In lock step: one answer to each message, before the next one is sent."""
    for request in requests:
        yield b"you said " + request


def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more tea: café")
    return request


def refuse_late(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Behind a message: the status is in trailers, not in the only header block."""
    yield request
    context.abort(grpc.StatusCode.DATA_LOSS, "the pot broke")


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Until the client has had enough."""
    over = threading.Event()
    context.add_callback(over.set)
    assert over.wait(TIMEOUT)
    return request


def endless(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    while context.is_active():
        yield request
        time.sleep(0.001)


def tell(_: bytes, __: grpc.ServicerContext) -> bytes:
    """When both calls that are given up have ended here too."""
    with _ended:
        assert _ended.wait_for(lambda: {"Wait", "Endless"} <= ENDED, TIMEOUT)
    return json.dumps(SEEN).encode()


UNARY = {"Unary": unary, "Big": unary, "Zipped": unary, "Refuse": refuse, "Wait": wait, "Tell": tell}
SERVER_STREAM = {"ServerStream": server_stream, "RefuseLate": refuse_late, "Endless": endless}
HANDLERS = {
    **{name: grpc.unary_unary_rpc_method_handler(handled(name, each)) for name, each in UNARY.items()},
    **{name: grpc.unary_stream_rpc_method_handler(handled(name, each)) for name, each in SERVER_STREAM.items()},
    "ClientStream": grpc.stream_unary_rpc_method_handler(handled("ClientStream", client_stream)),
    "BothStream": grpc.stream_stream_rpc_method_handler(handled("BothStream", both_stream)),
}


def serve(port: int, certificate: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    healthy.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
    reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), server)
    address = f"[::]:{port}"
    if certificate:
        pem = Path(certificate).read_bytes()  # key and certificate in one file
        assert server.add_secure_port(address, grpc.ssl_server_credentials([(pem, pem)])) == port
    else:
        assert server.add_insecure_port(address) == port
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


class Caller:
    """Makes the calls. By method: the answers (text), the status, initial and trailing metadata."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.results: dict[str, Any] = {}

    def _keep(self, name: str, call: Any, answers: Iterable[bytes]) -> None:
        metadata = [
            {key: value if isinstance(value, str) else value.hex() for key, value in each or ()}
            for each in (call.initial_metadata(), call.trailing_metadata())
        ]
        self.results[name] = {
            "answers": [answer.decode() if len(answer) < 1000 else f"{len(answer)} bytes" for answer in answers],
            "initial": metadata[0],
            "trailing": metadata[1],
            "status": call.code().name,
            "details": call.details(),
        }

    def _method(self, kind: str, name: str) -> Any:
        return getattr(self._channel, kind)(f"/{SERVICE}/{name}", **IDENTITY)

    def all_kinds(self) -> None:
        metadata = [("x-order", "7"), ("x-order-bin", BINARY), ("empty-bin", b"")]
        answer, call = self._method("unary_unary", "Unary").with_call(b"tea", timeout=TIMEOUT, metadata=metadata)
        self._keep("Unary", call, [answer])
        answer, call = self._method("unary_unary", "Big").with_call(BIG, timeout=TIMEOUT)
        assert answer == BIG[::-1]
        self._keep("Big", call, [answer])
        zipped = self._method("unary_unary", "Zipped")
        answer, call = zipped.with_call(b"tea" * 200, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
        self._keep("Zipped", call, [answer])
        call = self._method("unary_stream", "ServerStream")(b"cup", timeout=TIMEOUT)
        self._keep("ServerStream", call, list(call))
        stream = self._method("stream_unary", "ClientStream")
        answer, call = stream.with_call(iter([b"a", b"b", b"c"]), timeout=TIMEOUT)
        self._keep("ClientStream", call, [answer])
        self._keep("BothStream", *lock_step(self._method("stream_stream", "BothStream")))

    def failures(self) -> None:
        """An error at once, one behind a message, a method that is not there, a deadline, a cancellation."""
        for name in ("Refuse", "NotThere", "Wait"):
            timeout = DEADLINE if name == "Wait" else TIMEOUT
            call = self._method("unary_unary", name).future(b"tea", timeout=timeout)
            assert call.exception() is not None
            self._keep(name, call, [])
        call = self._method("unary_stream", "RefuseLate")(b"tea", timeout=TIMEOUT)
        answers = [next(call)]
        assert call.exception() is not None
        self._keep("RefuseLate", call, answers)
        call = self._method("unary_stream", "Endless")(b"tea", timeout=TIMEOUT)
        answers = [next(call) for _ in range(3)]
        call.cancel()
        self._keep("Endless", call, answers)
        answer, call = self._method("unary_unary", "Tell").with_call(b"", timeout=TIMEOUT)
        self.results["Tell"] = json.loads(answer)

    def health_and_reflection(self) -> None:
        """With their own stubs, messages and descriptors."""
        stub = health_pb2_grpc.HealthStub(self._channel)
        asked = [health_pb2.HealthCheckRequest(service=name) for name in ("", SERVICE)]
        states = [stub.Check(each, timeout=TIMEOUT).status for each in asked]
        watch = stub.Watch(asked[1], timeout=TIMEOUT)
        states.append(next(watch).status)
        watch.cancel()
        self.results["Health"] = [health_pb2.HealthCheckResponse.ServingStatus.Name(state) for state in states]
        request = reflection_pb2.ServerReflectionRequest
        questions = [request(list_services=""), request(file_containing_symbol=HEALTH)]
        ask = reflection_pb2_grpc.ServerReflectionStub(self._channel).ServerReflectionInfo
        services, file = ask(iter(questions), timeout=TIMEOUT)
        self.results["Reflection"] = {
            "services": sorted(each.name for each in services.list_services_response.service),
            "files": len(file.file_descriptor_response.file_descriptor_proto),
        }


def lock_step(start: Any) -> tuple[Any, list[bytes]]:
    """The call and its answers. Each message waits for the answer to the one before."""
    answers: list[bytes] = []

    def messages() -> Iterator[bytes]:
        for number in range(5):
            deadline = time.monotonic() + TIMEOUT
            while len(answers) < number:
                assert time.monotonic() < deadline, f"message {number} waits for the answer to the one before"
                time.sleep(0.001)
            yield b"%d" % number

    call = start(messages(), timeout=TIMEOUT)
    for answer in call:
        answers.append(answer)  # noqa: PERF402  # the other thread waits for each
    return call, answers


def call_all(target: str, trusted: str, name: str) -> dict[str, Any]:
    options = (("grpc.ssl_target_name_override", name),) if name else ()
    if trusted:
        credentials = grpc.ssl_channel_credentials(Path(trusted).read_bytes())
        channel = grpc.secure_channel(target, credentials, options=options)
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        caller = Caller(channel)
        caller.all_kinds()
        caller.failures()
        caller.health_and_reflection()
    return caller.results


if __name__ == "__main__":
    words = [*sys.argv[2:], "", ""]
    if sys.argv[1] == "serve":
        serve(int(words[0]), words[1])
    else:
        print(json.dumps(call_all(*words[:3])))
