"""A gRPC call whose answer takes as long as it is told to, with grpcio (see ``grpc_peer.py`` for why it is a program).

grpc_stream.py serve PORT        answers until it is killed; prints a line when it listens
grpc_stream.py call HOST:PORT    prints each message; the call goes on until a line is read from standard input
"""

import sys
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc

SERVICE = "shop.Events"
TIMEOUT = 60.0
IDENTITY = {"request_serializer": bytes, "response_deserializer": bytes}
_told = threading.Event()


def watch(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield request + b" 1"
    yield request + b" 2"
    if not _told.wait(TIMEOUT):
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nobody said that it may end")
    yield request + b" 3"


def end(request: bytes, _context: grpc.ServicerContext) -> bytes:
    _told.set()
    return request


def serve(port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
        "End": grpc.unary_unary_rpc_method_handler(end),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    assert server.add_insecure_port(f"[::]:{port}") == port
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def call(target: str) -> None:
    with grpc.insecure_channel(target) as channel:

        def end_it() -> None:
            sys.stdin.readline()
            channel.unary_unary(f"/{SERVICE}/End", **IDENTITY)(b"", timeout=TIMEOUT)

        ending = threading.Thread(target=end_it)
        ending.start()
        for message in channel.unary_stream(f"/{SERVICE}/Watch", **IDENTITY)(b"tea", timeout=TIMEOUT):
            print(message.decode(), flush=True)
        ending.join()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        call(sys.argv[2])
