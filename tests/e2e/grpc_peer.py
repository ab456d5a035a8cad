"""gRPC with grpcio, as programs of their own: its C core opens sockets in threads, which no test thread's namespace binds.

    grpc_peer.py serve PORT          answers until it is killed; prints a line when it listens
    grpc_peer.py call HOST:PORT      one call of every kind; prints what it got, as JSON

Messages are bytes without a schema. Each handler tells the metadata which it saw in its trailing metadata, as JSON.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc

SERVICE = "shop.Orders"
BIG = bytes(range(256)) * 4096
TIMEOUT = 20.0
IDENTITY = {"request_serializer": bytes, "response_deserializer": bytes}


def tell(context: grpc.ServicerContext) -> None:
    seen = [[name, value] for name, value in context.invocation_metadata() if isinstance(value, str)]
    context.set_trailing_metadata((("seen", json.dumps(seen)),))


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    tell(context)
    return request[::-1]


def server_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    tell(context)
    for number in range(3):
        yield b"%b %d" % (request, number)


def client_stream(requests: Iterable[bytes], context: grpc.ServicerContext) -> bytes:
    tell(context)
    return b",".join(requests)


def both_stream(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """In lock step: one answer to each message, before the next one is sent."""
    tell(context)
    for request in requests:
        yield b"you said " + request


def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    tell(context)
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more tea")
    return request


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Big": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "BothStream": grpc.stream_stream_rpc_method_handler(both_stream),
    "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
}


def serve(port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    assert server.add_insecure_port(f"[::]:{port}") == port
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def call_all(target: str) -> dict[str, Any]:
    """By method: the answers (text), the metadata that the server saw, the status."""
    results: dict[str, Any] = {}
    with grpc.insecure_channel(target) as channel:

        def keep(name: str, call: Any, answers: Iterable[bytes]) -> None:
            trailing = dict(call.trailing_metadata())
            results[name] = {
                "answers": [answer.decode() if len(answer) < 1000 else f"{len(answer)} bytes" for answer in answers],
                "seen": json.loads(trailing["seen"]),
                "status": call.code().name,
                "details": call.details(),
            }

        def method(kind: str, name: str) -> Any:
            return getattr(channel, kind)(f"/{SERVICE}/{name}", **IDENTITY)

        answer, call = method("unary_unary", "Unary").with_call(b"tea", timeout=TIMEOUT, metadata=[("x-order", "7")])
        keep("Unary", call, [answer])
        answer, call = method("unary_unary", "Big").with_call(BIG, timeout=TIMEOUT)
        assert answer == BIG[::-1]
        keep("Big", call, [answer])
        call = method("unary_stream", "ServerStream")(b"cup", timeout=TIMEOUT)
        keep("ServerStream", call, list(call))
        answer, call = method("stream_unary", "ClientStream").with_call(iter([b"a", b"b", b"c"]), timeout=TIMEOUT)
        keep("ClientStream", call, [answer])
        keep("BothStream", *lock_step(method("stream_stream", "BothStream")))
        call = method("unary_unary", "Refuse").future(b"tea", timeout=TIMEOUT)
        assert call.exception() is not None
        keep("Refuse", call, [])
    return results


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


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        print(json.dumps(call_all(sys.argv[2])))
