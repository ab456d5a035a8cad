"""The little HTTP of clients and origins."""

import asyncio

import pytest

from benchmarks.chaos.http import BrokenError, Message, content, read_message


def read(data: bytes) -> list[Message | None]:
    """Messages until the end."""

    async def run() -> list[Message | None]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        found: list[Message | None] = []
        while not found or found[-1]:
            found.append(await read_message(reader))
        return found

    return asyncio.run(run())


def test_messages_one_after_another():
    *found, end = read(
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nConnection: close\r\n\r\nteaHTTP/1.1 503 No\r\n"
        b"transfer-encoding: chunked\r\n\r\n3\r\ntea\r\n1\r\ns\r\n0\r\n\r\n"
    )
    assert end is None
    assert found == [
        Message("GET /a HTTP/1.1", {"host": "x"}, b""),
        Message("HTTP/1.1 200 OK", {"content-length": "3", "connection": "close"}, b"tea"),
        Message("HTTP/1.1 503 No", {"transfer-encoding": "chunked"}, b"teas"),
    ]
    assert [message.closes for message in found if message] == [False, True, False]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"GET / HT", "within the head, after 8 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntea", "within the body"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ntea", "within the body"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, "too long"),
    ],
)
def test_what_is_cut_off_is_said(data, message):
    with pytest.raises(BrokenError, match=message):
        read(data)


def test_content_belongs_to_its_path():
    assert content("/a", 0) == b""
    assert content("/a", 7) == b"/a /a /"
    assert content("/a", 7) != content("/b", 7)
