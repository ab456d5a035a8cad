"""What was handed over and found nobody passes through raw."""

import socket

import trio

from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.supervisor.pass_through import PassThrough


def accepted() -> tuple[socket.socket, socket.socket]:
    """A client and the other end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        return client, listening.accept()[0]


async def test_prefix_first_then_both_directions():
    listening = trio.socket.socket()
    await listening.bind(("127.0.0.1", 0))
    listening.listen()
    client, server_side = accepted()
    client_stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PassThrough(LoopGuard()).serve, server_side, listening.getsockname(), b"first ")
            upstream, _ = await listening.accept()
            with listening, upstream:
                await client_stream.send_all(b"second")
                received = b""
                while len(received) < 12:
                    received += await upstream.recv(100)
                assert received == b"first second"
                await upstream.send(b"answer")
                upstream.shutdown(socket.SHUT_WR)
                assert await client_stream.receive_some(100) == b"answer"
                assert await client_stream.receive_some(100) == b""
                await client_stream.aclose()


async def test_nobody_to_connect_to_resets_the_client():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = listening.getsockname()
    client, server_side = accepted()
    with trio.fail_after(20), client:
        await PassThrough(LoopGuard()).serve(server_side, nobody, b"first")
        client.settimeout(10)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            return
    raise AssertionError("closed instead of reset")


async def test_a_name_that_does_not_resolve():
    client, server_side = accepted()
    with trio.fail_after(30), client:
        await PassThrough(LoopGuard()).serve(server_side, ("does-not-exist.invalid", 80), b"first")
