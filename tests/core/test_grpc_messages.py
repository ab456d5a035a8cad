"""Messages of a call are counted the same however their bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.exchange import MessageCounts
from sp_proxy.core.grpc_messages import CallMessages, MessageCounter, count, is_call
from tests.taps.rig import cut, each_byte


def message(size: int, flags: int = 0) -> bytes:
    return bytes((flags,)) + size.to_bytes(4) + b"\xff" * size


def counted(pieces: list[bytes]) -> int:
    counter = MessageCounter()
    for piece in pieces:
        padded = b"<<" + piece + b">>>>>>"
        counter.feed(padded, 2, 2 + len(piece))
    return counter.messages


MESSAGES = st.lists(
    st.tuples(st.one_of(st.integers(0, 6), st.integers(250, 260)), st.sampled_from([0, 1, 0x80, 0x81])), max_size=8
)


@given(MESSAGES, st.lists(st.integers(0, 3000), max_size=12))
def test_any_cut(messages: list[tuple[int, int]], places: list[int]):
    body = b"".join(message(*each) for each in messages)
    expected = sum(not flags & 0x80 for _, flags in messages)
    assert count(body) == expected
    assert counted(cut(body, places)) == expected
    assert counted(each_byte(body)) == expected
    assert counted([b"", *cut(body, places), b""]) == expected


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_bytes_that_are_no_messages_are_counted_alike_in_any_pieces(pieces: list[bytes]):
    assert counted(pieces) == count(b"".join(pieces)) == counted(each_byte(b"".join(pieces)))


def test_a_message_counts_from_its_first_byte_and_holds_nothing():
    counter = MessageCounter()
    counter.feed(b"\0\xff\xff\xff\xff" + b"x" * 100, 0, 105)  # 4 GiB long
    assert counter.messages == 1
    for _ in range(100):
        counter.feed(b"x" * 65536, 0, 65536)
    assert counter.messages == 1


def test_both_sides():
    call = CallMessages()
    call.request.feed(message(3) * 2, 0, 16)
    call.response.feed(message(0), 0, 5)
    assert call.counts == MessageCounts(2, 1)


@pytest.mark.parametrize(
    "content_type, expected",
    [
        (b"application/grpc", True),
        (b"application/grpc+proto; x=y", True),
        (b"application/grpc-web+proto", True),
        (b"application/grpc-web-text", False),
        (b"application/grpc-web-text+proto", False),
        (b"application/json", False),
    ],
)
def test_content_types(content_type: bytes, expected: bool):
    assert is_call(b"\r\nte: trailers\r\ncontent-type: " + content_type + b"\r\nx: y\r\n") is expected


def test_a_request_without_a_content_type():
    assert not is_call(b"\r\nte: application/grpc\r\n")
