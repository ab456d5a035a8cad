"""One direction: what is gathered of a block, and what has been forwarded before."""

import pytest

from sp_proxy.taps.http2_sides import MAX_BLOCK_BYTES, MAX_BLOCK_FRAMES, Side, UnexpectedError

HEADERS, PUSH_PROMISE, CONTINUATION = 1, 5, 9
PADDED, PRIORITY = 8, 32


@pytest.mark.parametrize(
    "flags, payload, fragment, priority",
    [
        (0, b"block", b"block", b""),
        (PADDED, b"\2block__", b"block", b""),
        (PADDED, b"\0block", b"block", b""),
        (PRIORITY, b"12345block", b"block", b"12345"),
        (PADDED | PRIORITY, b"\x0112345block_", b"block", b"12345"),
        (PRIORITY, b"12345", b"", b"12345"),
        (PADDED, b"\2__", b"", b""),
    ],
)
def test_what_is_around_a_block(flags: int, payload: bytes, fragment: bytes, priority: bytes) -> None:
    side = Side(client=True)
    side.gather(HEADERS, flags, 7, payload)
    assert (side.block_id, side.fragments, side.block_priority) == (7, [fragment], priority)
    side.gather(CONTINUATION, 0, 7, b"more")
    assert side.fragments == [fragment, b"more"]


@pytest.mark.parametrize(
    "kind, flags, stream, payload, reason",
    [
        (HEADERS, PADDED, 1, b"", "h2_padding"),
        (HEADERS, PADDED, 1, b"\3ab", "h2_padding"),
        (HEADERS, PRIORITY, 1, b"1234", "h2_padding"),
        (HEADERS, 0, 0, b"block", "h2_stream_id"),
        (CONTINUATION, 0, 1, b"block", "h2_continuation"),
        (PUSH_PROMISE, 0, 1, b"\0\0\0\2block", "h2_push_promise"),
    ],
)
def test_what_cannot_be(kind: int, flags: int, stream: int, payload: bytes, reason: str) -> None:
    with pytest.raises(UnexpectedError, match=reason):
        Side(client=True).gather(kind, flags, stream, payload)


def test_a_promise_of_the_server() -> None:
    side = Side(client=False)
    side.gather(PUSH_PROMISE, PADDED, 1, b"\1\0\0\0\2block_")
    assert (side.fragments, side.block_promise) == ([b"block"], True)
    with pytest.raises(UnexpectedError, match="h2_padding"):
        Side(client=False).gather(PUSH_PROMISE, 0, 1, b"\0\0")


def test_a_block_is_bounded_in_frames_and_bytes() -> None:
    side = Side(client=True)
    side.gather(HEADERS, 0, 1, b"")
    for _ in range(MAX_BLOCK_FRAMES - 1):
        side.gather(CONTINUATION, 0, 1, b"")
    with pytest.raises(UnexpectedError, match="h2_block_too_large"):
        side.gather(CONTINUATION, 0, 1, b"")
    side = Side(client=True)
    side.gather(HEADERS, 0, 1, b"")
    side.held += bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(UnexpectedError, match="h2_block_too_large"):
        side.gather(CONTINUATION, 0, 1, b"")


def test_what_was_forwarded_before_is_not_forwarded_again() -> None:
    side = Side(client=False)
    side.ahead = 5
    assert [side.yet(each) for each in (b"123", b"456", b"789")] == [b"", b"6", b"789"]
    side.ahead = 2
    side.buffer += b"3456"
    side.held += b"12"
    assert side.take() == b"3456"
    assert side.take() == b""
