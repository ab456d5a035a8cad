"""gRPC: attributes and outcome."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core import rpc
from sp_proxy.core.exchange import Direction


def attributes(target: bytes, status: bytes) -> dict[str, str | int]:
    span = Span.FromString(rpc.attributes(target, status))
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


def test_a_call():
    assert attributes(b"/shop.v1.Orders/Get", b"5") == {
        "rpc.system": "grpc",
        "rpc.service": "shop.v1.Orders",
        "rpc.method": "Get",
        "rpc.grpc.status_code": 5,
    }


@pytest.mark.parametrize("status", [b"", b"-1", b"x", b"\xb2", b"1" * 30])
def test_without_a_status(status):
    assert "rpc.grpc.status_code" not in attributes(b"/a/b", status)
    assert not rpc.error(Direction.OUTBOUND, status)


def test_targets_that_are_no_call():
    assert attributes(b"nothing", b"0") == {"rpc.system": "grpc", "rpc.grpc.status_code": 0}
    assert attributes(b"/\xff/\xfe?x/y", b"")["rpc.service"] == "ÿ"


def test_content_type():
    assert rpc.is_grpc(b"application/grpc")
    assert rpc.is_grpc(b"Application/GRPC+proto; x=y")
    assert not rpc.is_grpc(b"application/json")
    assert not rpc.is_grpc(b"")


@pytest.mark.parametrize(
    "code, inbound, outbound",
    [
        (0, "", ""),
        (1, "", "CANCELLED"),
        (5, "", "NOT_FOUND"),
        (2, "UNKNOWN", "UNKNOWN"),
        (4, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        (12, "UNIMPLEMENTED", "UNIMPLEMENTED"),
        (14, "UNAVAILABLE", "UNAVAILABLE"),
        (16, "", "UNAUTHENTICATED"),
        (99, "", "99"),
    ],
)
def test_failure_by_side(code, inbound, outbound):
    assert rpc.error(Direction.INBOUND, b"%d" % code) == inbound
    assert rpc.error(Direction.OUTBOUND, b"%d" % code) == outbound
