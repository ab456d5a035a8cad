"""An open socket becomes a connection of mitmproxy's."""

import asyncio
import socket
from collections import defaultdict

import pytest
from mitmproxy.proxy.layers import modes

from sp_proxy.mitm.connection import REGULAR, TRANSPARENT, Handler, adopt
from sp_proxy.mitm.hooks import Hooks
from sp_proxy.mitm.options import proxy_options

DESTINATION = ("10.0.0.2", 443)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_adopted_with_what_was_read_and_where_it_goes():
    async def adopting() -> tuple[Handler, bytes]:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            theirs.sendall(b" and later")
            hooks = Hooks(defaultdict(int))
            handler = await adopt(ours, b"first", proxy_options(""), hooks, DESTINATION)
            io = handler.transports[handler.client]
            assert isinstance(io.reader, asyncio.StreamReader)
            assert isinstance(io.writer, asyncio.StreamWriter)
            data = await io.reader.readexactly(len(b"first and later"))
            io.writer.close()
            await io.writer.wait_closed()
        return handler, data

    handler, data = run(adopting())
    assert data == b"first and later"
    assert isinstance(handler.layer, modes.TransparentProxy)
    assert handler.client.proxy_mode == TRANSPARENT
    assert handler.client.sockname == DESTINATION
    assert handler.layer.context.server.address == DESTINATION


def test_without_a_destination_it_is_an_explicit_proxy_s():
    async def accepting() -> Handler:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            handler = Handler(reader, writer, proxy_options(""), Hooks(defaultdict(int)), None)
            writer.close()
            await writer.wait_closed()
        return handler

    handler = run(accepting())
    assert isinstance(handler.layer, modes.HttpProxy)
    assert handler.client.proxy_mode == REGULAR


def test_a_socket_that_is_gone():
    async def adopting() -> None:
        ours, theirs = socket.socketpair()
        theirs.close()
        ours.close()
        await adopt(ours, b"", proxy_options(""), Hooks(defaultdict(int)), DESTINATION)

    with pytest.raises((OSError, ValueError)):
        run(adopting())
