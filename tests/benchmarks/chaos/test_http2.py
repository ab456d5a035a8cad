"""The client of HTTP/2, with a server of the same library."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

from benchmarks.chaos.http import BrokenError, Message
from benchmarks.chaos.http2 import Http2


def served(
    talk: Callable[[Http2], Awaitable[None]], act: Callable[[H2Connection, int], None], *, cut_off: bool = False
) -> None:
    """A client, and a server which does this for each request, once it has all of it; or which goes then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, StreamEnded):
                    act(connection, event.stream_id or 0)
            writer.write(connection.data_to_send())
            if cut_off:
                break
        writer.close()

    async def run() -> None:
        async with asyncio.timeout(30), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await talk(Http2(reader, writer))
            writer.close()

    asyncio.run(run())


def answer(connection: H2Connection, stream: int) -> None:
    connection.send_headers(stream, [(":status", "200"), ("x-hops", "1")])
    connection.send_data(stream, b"tea", end_stream=True)


def test_one_request_after_another_with_a_body_or_without():
    async def talk(client: Http2) -> None:
        for body in (b"", b"leaves", b""):
            assert await client.ask("shop:80", "POST", "/a", body) == Message("HTTP/2 200 ", {"x-hops": "1"}, b"tea")
            assert await client.usable()

    served(talk, answer)


def test_after_a_goaway_nothing_more_is_asked():
    def act(connection: H2Connection, stream: int) -> None:
        answer(connection, stream)
        connection.close_connection()

    async def talk(client: Http2) -> None:
        assert (await client.ask("shop:80", "GET", "/a", b"")).body == b"tea"
        assert not await client.usable()

    served(talk, act)


def test_a_goaway_before_the_answer_does_not_keep_it_from_being_heard():
    def act(connection: H2Connection, stream: int) -> None:
        answer(connection, stream)
        answered = connection.data_to_send()
        connection._data_to_send += bytearray(GOAWAY) + answered  # h2 itself sends nothing behind one

    async def talk(client: Http2) -> None:
        assert (await client.ask("shop:80", "GET", "/a", b"")).body == b"tea"
        assert not await client.usable()

    served(talk, act)


GOAWAY = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"


@pytest.mark.parametrize("cut_off, message", [(True, "ended without an answer"), (False, "stream reset, code")])
def test_a_request_without_an_answer_is_said(cut_off, message):
    def act(connection: H2Connection, stream: int) -> None:
        if not cut_off:
            connection.reset_stream(stream, 11)

    async def talk(client: Http2) -> None:
        with pytest.raises(BrokenError, match=message):
            await client.ask("shop:80", "GET", "/a", b"")

    served(talk, act, cut_off=cut_off)
