"""gRPC with grpcio on both ends, in both directions and both IP versions: every kind of call, binary metadata, 4 MiB, compression,
errors, deadlines and cancellation, health and reflection. Each way gives the client what a direct connection gives.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.e2e.grpc_calls import PORT, calls, check_records, grpc_server, without_identity


@pytest.fixture(scope="module")
def direct(site: Site) -> Iterator[dict[str, Any]]:
    """What came of the calls inside of one namespace, which nothing redirects; both have their server."""
    site.redirect("nft")
    with grpc_server(site.pod, PORT), grpc_server(site.outside, PORT):
        yield calls(site.outside, "localhost", PORT)


def test_what_the_calls_give_directly(direct: dict[str, Any]):
    given = {name: (each["answers"], each["status"]) for name, each in direct.items() if "answers" in each}
    assert given == {
        "Unary": (["aet"], "OK"),
        "Big": ([f"{1 << 22} bytes"], "OK"),
        "Zipped": (["aet" * 200], "OK"),
        "ServerStream": (["cup 0", "cup 1", "cup 2"], "OK"),
        "ClientStream": (["a,b,c"], "OK"),
        "BothStream": ([f"you said {number}" for number in range(5)], "OK"),
        "Refuse": ([], "RESOURCE_EXHAUSTED"),
        "NotThere": ([], "UNIMPLEMENTED"),
        "Wait": ([], "DEADLINE_EXCEEDED"),
        "RefuseLate": (["tea"], "DATA_LOSS"),
        "Endless": (["tea"] * 3, "CANCELLED"),
    }
    assert direct["Refuse"]["details"] == "no more tea: café"
    assert direct["Unary"]["initial"] == {"initial": "yes", "initial-bin": bytes(range(256)).hex()}
    assert direct["RefuseLate"]["trailing"]["trailer-bin"] == bytes(range(256)).hex()
    sent = dict(direct["Tell"]["Unary"])
    assert (sent["x-order-bin"], sent["empty-bin"]) == (bytes(range(256)).hex(), "")
    assert direct["Health"] == ["SERVING", "NOT_SERVING", "NOT_SERVING"]
    services = ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "shop.Orders"]
    assert direct["Reflection"] == {"services": services, "files": 1}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_every_call(site: Site, direct: dict[str, Any], direction: str, family: int):
    near, far = site.ends(direction)
    results = calls(near, far.ipv4 if family == 4 else f"[{far.ipv6}]", PORT)
    assert without_identity(results) == without_identity(direct)
    check_records(site.daemon, results, direction, "http")
