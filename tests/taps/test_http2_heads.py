"""Header lists of HTTP/2: what they say, and that it is read once."""

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.taps.hpack import Block, Field
from sp_proxy.taps.http2_heads import MAX_KNOWN, MAX_KNOWN_SIZE, Http2Heads

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"shop.local"), (b":path", b"/a?b=1")]
OK = [(b":status", b"200"), (b"content-type", b"application/json")]


def heads() -> Http2Heads:
    return Http2Heads(Direction.INBOUND, Policy(PolicyConfig()), Injector(HeaderConfig("orders")))


def block(fields: list[Field]) -> Block:
    return Block(fields, frozenset(), b"", sum(len(name) + len(value) + 32 for name, value in fields))


def test_a_request():
    head = heads().request(block([*GET, (b"accept", b"*/*"), (b"content-type", b"application/grpc+proto")]))
    assert head is not None
    assert (head.method, head.target, head.authority, head.scheme) == (b"GET", b"/a?b=1", b"shop.local", "http")
    assert head.fields == b"\r\naccept: */*\r\ncontent-type: application/grpc+proto\r\n"
    assert (head.named, head.plain, head.call) == (True, True, True)


@pytest.mark.parametrize(
    "fields, authority, target",
    [
        ([(b":method", b"GET"), (b":path", b"/"), (b"host", b" a.local")], b"a.local", b"/"),
        ([(b":method", b"CONNECT"), (b":authority", b"a.local:1")], b"a.local:1", b"a.local:1"),
        ([(b":method", b"GET"), (b":path", b"/")], b"", b"/"),
    ],
)
def test_who_is_asked_and_for_what(fields, authority, target):
    head = heads().request(block(fields))
    assert head is not None
    assert (head.authority, head.target) == (authority, target)


@pytest.mark.parametrize(
    "fields",
    [
        [(b":path", b"/")],
        [*GET, (b":path", b"/b")],
        [*GET, (b"a", b"b\r\nc: d")],
        [(b":method", b"GET"), (b":path", b"/\n")],
        [(b":method", b"G\0T"), (b":path", b"/")],
    ],
)
def test_a_malformed_request_is_none(fields):
    assert heads().request(block(fields)) is None


def test_a_response():
    head = heads().response(block(OK))
    assert head is not None
    assert (head.status, head.fields, head.traced, head.skipped) == (
        200,
        b"content-type: application/json\r\n",
        False,
        "",
    )
    traced = heads().response(block([*OK, (b"traceparent", b"x")]))
    assert traced is not None
    assert traced.traced


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"2x0", b"\xb2\xb3\xb9"])
def test_a_malformed_response_is_none(status):
    assert heads().response(block([(b":status", status)])) is None


def test_what_is_the_same_is_read_once_whatever_block_it_came_in():
    reader = heads()
    assert reader.request(block(GET)) is reader.request(block(list(GET)))
    assert reader.response(block(OK)) is reader.response(block(list(OK)))
    other = reader.request(block([*GET[:3], (b":path", b"/b")]))
    assert other is not None
    assert other.target == b"/b"


@pytest.mark.parametrize(
    "more",
    [[(b"traceparent", b"00-1-2-01")], [(b"x-request-id", b"1")], [(b"cookie", b"a" * MAX_KNOWN_SIZE)]],
    ids=["traceparent", "x-request-id", "large"],
)
def test_what_hardly_repeats_or_is_large_is_not_kept(more):
    reader = heads()
    assert reader.request(block([*GET, *more])) is not reader.request(block([*GET, *more]))


def test_what_is_kept_is_bounded():
    reader = heads()
    first = reader.request(block(GET))
    for number in range(MAX_KNOWN):
        reader.request(block([*GET[:3], (b":path", b"/%d" % number)]))
    assert reader.request(block(GET)) is not first
