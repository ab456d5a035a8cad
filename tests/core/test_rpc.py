"""gRPC: attributes and outcome."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core import rpc
from sp_proxy.core.exchange import Direction, MessageCounts
from tests.core.test_spans import exchange


def attributes(target: bytes, status: bytes, counts: tuple[int, int] = (-1, -1)) -> dict[str, str | int]:
    span = Span.FromString(rpc.attributes(target, status, counts))
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "") for one in span.attributes}


def test_a_call():
    assert attributes(b"/shop.v1.Orders/Get", b"5") == {
        "rpc.system": "grpc",
        "rpc.service": "shop.v1.Orders",
        "rpc.method": "Get",
        "rpc.grpc.status_code": 5,
    }


def test_counts_of_messages():
    assert attributes(b"/a/B", b"", (3, 0)) == {
        "rpc.system": "grpc",
        "rpc.service": "a",
        "rpc.method": "B",
        "rpc.requests_per_rpc": 3,
        "rpc.responses_per_rpc": 0,
    }
    assert "rpc.requests_per_rpc" not in attributes(b"/a/B", b"", (-1, 2))


WEB = {b"content-type": (b"content-type", b"", b"application/grpc-web+proto")}
MESSAGE = b"\0\0\0\0\x02hi"


@pytest.mark.parametrize(
    "changes, request_fields, expected",
    [
        ({"grpc": MessageCounts(7, 9)}, {}, (7, 9)),
        ({"request_body": MESSAGE * 2, "request_body_size": 14}, WEB, (2, 0)),
        ({"request_body": MESSAGE * 2, "request_body_size": 15}, WEB, (-1, 0)),
        ({"request_body": b"AAAAAAA=", "request_body_size": 8}, {b"content-type": (b"", b"", b"Application/gRPC-Web-Text")}, (-1, 0)),
        ({"request_body": MESSAGE, "request_body_size": 7}, WEB | {b"content-encoding": (b"", b"", b"gzip")}, (-1, 0)),
        ({"response_body": MESSAGE + b"\x80\0\0\0\x03a:b", "response_body_size": 15}, WEB, (0, 1)),
    ],
)  # fmt: skip
def test_messages_are_counted_where_they_pass_or_in_whole_bodies(changes, request_fields, expected):
    empty = {"request_body": b"", "request_body_size": 0, "response_body": b"", "response_body_size": 0}
    assert rpc.messages(exchange(**(empty | changes)), request_fields, {}) == expected


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
