"""The calls of ``grpc_peer`` between two namespaces, and what the daemon has made of them."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.contract import check_identity, check_injected, joined
from tests.e2e.harness import APP_UID, Daemon, eventually
from tests.netns import Namespace

PEER = (sys.executable, str(Path(__file__).with_name("grpc_peer.py")))
PORT = 50051
TLS_PORT = 50052
MESSAGES = {
    "Unary": (1, 1),
    "Big": (1, 1),
    "Zipped": (1, 1),
    "ServerStream": (1, 3),
    "ClientStream": (3, 1),
    "BothStream": (5, 5),
    "Refuse": (1, 0),
    "RefuseLate": (1, 1),
}
"""Of each call that ends: how many its client and its server send."""
STATUS = {"Refuse": 8, "RefuseLate": 15}
INJECTED = frozenset(
    ("x-sp-service-name", "x-service-name", "x-current-service", "x-sp-num", "tracestate", "traceparent")
)


@contextmanager
def grpc_server(namespace: Namespace, port: int, certificate: Path | None = None) -> Iterator[None]:
    words = [str(port), *([str(certificate)] if certificate else [])]
    process = namespace.popen("env", "-i", *PEER, "serve", *words, user=APP_UID, stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def calls(near: Namespace, address: str, port: int, *trust: str) -> dict[str, Any]:
    """What came of all calls, for their client; ``trust``: a certificate file, and the name to call the server by."""
    done = near.run("env", "-i", *PEER, "call", f"{address}:{port}", *trust, timeout=90)
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def without_identity(results: dict[str, Any]) -> dict[str, Any]:
    """The same for all ways from a client to a server."""
    kept = json.loads(json.dumps(results))
    for name, fields in kept["Tell"].items():
        kept["Tell"][name] = [field for field in fields if field[0] not in INJECTED]
    for result in kept.values():
        if isinstance(result, dict):
            result.get("trailing", {}).pop("seen", None)
    return dict(kept)


def check_records(daemon: Daemon, results: dict[str, Any], direction: str, scheme: str) -> None:
    """Each call has its span, with the ids that its server saw; all are streams of one connection."""
    exchanges = {}
    for name, fields in results["Tell"].items():
        seen = joined(fields)
        assert len(seen) == len(fields)
        check_injected(seen, "shop")
        exchange = exchanges[name] = daemon.exchange_where(trace=seen["traceparent"].split("-")[1])
        check_identity(exchange, seen)
        check_span(exchange, name, direction, scheme)
    assert MESSAGES.keys() | {"Wait", "Endless", "Tell"} == exchanges.keys()
    ports = {each["attributes"]["client.port"] for each in exchanges.values()}
    assert len(ports) == 1
    unary = exchanges["Unary"]
    assert dict(unary["request"]["headers"])["x-order"] == "7"
    assert unary["attributes"]["http.response.header.initial"] == "yes"
    big = exchanges["Big"]
    assert big["attributes"]["http.request.body.size"] == (1 << 22) + 5  # a prefix of five bytes before the message
    assert big["truncated"]
    assert exchanges["Refuse"]["attributes"]["http.response.header.grpc-message"] == "no more tea: caf%C3%A9"
    assert exchanges["RefuseLate"]["attributes"]["http.response.trailer.grpc-message"] == "the pot broke"
    others = ("/shop.Orders/NotThere", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    for path in (*others, reflection):
        found = eventually(partial(of_port, daemon, path, ports), bool, f"a span of {path}")
        assert 1 <= len(found) <= (2 if path.endswith("Check") else 1)


def of_port(daemon: Daemon, path: str, ports: set[int]) -> list[dict[str, Any]]:
    """Spans of that path on that connection."""
    found = [
        daemon.api(f"/api/v1/exchanges/{each['span_id']}", trace=each["trace_id"])
        for each in daemon.exchanges(path=path)
    ]
    return [each for each in found if each["attributes"]["client.port"] in ports]


def check_span(exchange: dict[str, Any], name: str, direction: str, scheme: str) -> None:
    attributes = exchange["attributes"]
    expected = {
        "sp.traffic.direction": direction,
        "network.protocol.version": "2",
        "rpc.system": "grpc",
        "rpc.service": "shop.Orders",
        "rpc.method": name,
        "http.request.header.:path": f"/shop.Orders/{name}",
        "http.request.header.:method": "POST",
        "http.request.header.:scheme": scheme,
        "http.request.header.content-type": "application/grpc",
        "http.request.header.x-sp-service-name": "shop",
    }
    assert {key: attributes.get(key) for key in expected} == expected
    assert exchange["kind"] == ("server" if direction == "inbound" else "client")
    if name == "Wait":  # both ends know the deadline: whichever is the first to give up
        assert attributes["error.type"] in {"client_aborted", "upstream_aborted", "DEADLINE_EXCEEDED"}
        return
    if name == "Endless":
        assert attributes["error.type"] == "client_aborted"
        assert "rpc.grpc.status_code" not in attributes
        assert attributes["rpc.requests_per_rpc"] == 1
        assert attributes["rpc.responses_per_rpc"] >= 3
        return
    status = STATUS.get(name, 0)
    assert attributes["http.response.status_code"] == 200
    assert attributes["rpc.grpc.status_code"] == status
    # An answer without a message has its trailers where the header fields are (gRPC: Trailers-Only).
    part = "header" if name == "Refuse" else "trailer"
    assert attributes[f"http.response.{part}.grpc-status"] == str(status)
    failed = status == 15 or (status and direction == "outbound")  # whose fault it is: gRPC's conventions for servers
    assert exchange["span_status"] == ("error" if failed else "unset")
    if name != "Tell":
        assert (attributes["rpc.requests_per_rpc"], attributes.get("rpc.responses_per_rpc", 0)) == MESSAGES[name]
