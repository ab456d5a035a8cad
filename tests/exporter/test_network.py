"""Connections that hear an early answer: a real server at the other end, which does as it likes."""

import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpcore
import pytest
import trio

from sp_proxy.exporter.network import ANSWERED_PATIENCE, Connection, HostNotApprovedError, Network, host_name
from tests.certificate_authority import CertificateAuthority

ANSWER = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"
MUCH = bytes(16 << 20)
"""More than all buffers on the way hold."""
HERE = "127.0.0.1"

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Serve = Callable[[Stream], Awaitable[None]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["cleartext", "TLS"])
def tls(request, authority) -> tuple[ssl.SSLContext, ssl.SSLContext] | None:
    """The server's and the client's side."""
    if request.param == "cleartext":
        return None
    return authority.server(HERE), ssl.create_default_context(cafile=authority.ca_file)


@asynccontextmanager
async def connected(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None
) -> AsyncIterator[httpcore.AsyncNetworkStream]:
    """A connection to a server that does this with it."""

    async def accept(stream: trio.SocketStream) -> None:
        secured: Stream = stream
        if tls:
            secured = trio.SSLStream(stream, tls[0], server_side=True, https_compatible=True)
            await secured.do_handshake()
        await serve(secured)

    with trio.fail_after(30):
        (listener,) = await trio.open_tcp_listeners(0, host=HERE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, accept, [listener])
            connection = await Network({HERE}).connect_tcp(HERE, listener.socket.getsockname()[1])
            if tls:
                connection = await connection.start_tls(tls[1], HERE)
            yield connection
            await connection.aclose()
            nursery.cancel_scope.cancel()


async def everything(connection: httpcore.AsyncNetworkStream) -> bytes:
    """What can be read until the end, in order or not."""
    received = b""
    try:
        while data := await connection.read(1000):
            received += data
    except httpcore.ReadError:
        pass
    return received


async def answer_and_reset(stream: Stream) -> None:
    await stream.receive_some(1)
    await stream.send_all(ANSWER)
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


async def say_nothing(stream: Stream) -> None:
    await trio.sleep_forever()


async def answer_and_hold(stream: Stream) -> None:
    await stream.receive_some(1)
    await stream.send_all(ANSWER)
    await trio.sleep_forever()


async def test_what_had_arrived_before_a_reset_is_read(tls):
    async with connected(answer_and_reset, tls) as connection:
        with suppress(httpcore.WriteError):  # or all of it is gone before the reset is there
            await connection.write(MUCH)
        assert await everything(connection) == ANSWER


async def test_a_write_that_fails_hides_no_answer(tls):
    """The reset is there for certain when the second write begins, and nothing was read before."""
    gone = trio.Event()

    async def serve(stream: Stream) -> None:
        await answer_and_reset(stream)
        gone.set()

    async with connected(serve, tls) as connection:
        assert isinstance(connection, Connection)
        await connection.write(b"x")
        await gone.wait()
        connection._listens = False  # as if the writing had been first
        for _ in range(3):
            await connection.write(b"rest")
        assert await everything(connection) == ANSWER
        with pytest.raises(httpcore.ReadError):
            await connection.read(1)


async def test_an_answer_ends_a_write_that_does_not_get_on(tls):
    async with connected(answer_and_hold, tls) as connection:
        began = trio.current_time()
        with pytest.raises(httpcore.WriteError, match="answered before"):
            await connection.write(MUCH, timeout=30)
        assert trio.current_time() - began >= ANSWERED_PATIENCE * 0.9
        assert await connection.read(4) == ANSWER[:4]
        assert await connection.read(1000) == ANSWER[4:]


async def test_who_reads_on_after_the_answer_gets_everything(tls):
    received = 0

    async def serve(stream: Stream) -> None:
        nonlocal received
        received = len(await stream.receive_some())
        await stream.send_all(ANSWER)
        while received < len(MUCH):
            received += len(await stream.receive_some())

    async with connected(serve, tls) as connection:
        await connection.write(MUCH, timeout=10)
        assert await connection.read(1000) == ANSWER
        while received < len(MUCH):
            await trio.lowlevel.checkpoint()


async def test_an_answer_in_pieces_is_heard_whole(tls):
    async def serve(stream: Stream) -> None:
        await stream.receive_some(1)
        for byte in ANSWER:
            await stream.send_all(bytes([byte]))
        await trio.sleep_forever()

    async with connected(serve, tls) as connection:
        with pytest.raises(httpcore.WriteError):
            await connection.write(MUCH, timeout=30)
        received = b""
        while len(received) < len(ANSWER):
            received += await connection.read(7)
        assert received == ANSWER


async def test_nobody_reads_and_nobody_answers(tls):
    async with connected(say_nothing, tls) as connection:
        with pytest.raises(httpcore.WriteTimeout, match=r"^nothing was taken within 0\.2 s$"):
            await connection.write(MUCH, timeout=0.2)


async def test_a_server_that_closes_in_order_before_it_has_read(tls):
    async def serve(stream: Stream) -> None:
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        await transport.send_eof()
        await trio.sleep_forever()

    async with connected(serve, tls) as connection:
        with pytest.raises(httpcore.WriteError):
            await connection.write(MUCH, timeout=30)
        assert await everything(connection) == b""


async def test_the_end_of_an_exchange(tls):
    async def serve(stream: Stream) -> None:
        await stream.receive_some()
        await stream.send_all(ANSWER)
        await trio.aclose_forcefully(stream)

    async with connected(serve, tls) as connection:
        assert not connection.get_extra_info("is_readable")
        await connection.write(b"request")
        assert await everything(connection) == ANSWER
        assert connection.get_extra_info("is_readable")


async def test_nothing_to_read_is_a_timeout(tls):
    async with connected(answer_and_hold, tls) as connection:
        with pytest.raises(httpcore.ReadTimeout, match=r"^nothing came within 0\.05 s$"):
            await connection.read(1, timeout=0.05)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1", "127.0.0.1.evil.example"])
async def test_other_hosts_are_not_connected_to(host):
    with pytest.raises(HostNotApprovedError, match=f"^{host} is not an approved host$"):
        await Network({HERE}).connect_tcp(host, 9)


async def test_a_port_where_nobody_listens():
    with socket.socket() as sock:
        sock.bind((HERE, 0))
        with pytest.raises(httpcore.ConnectError, match=r"failed \(connection refused\)$"):
            await Network({HERE}).connect_tcp(HERE, sock.getsockname()[1])


async def test_a_port_where_nobody_accepts():
    with socket.create_server((HERE, 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())
        with pytest.raises(httpcore.ConnectTimeout, match=r"^no connection within 0\.1 s$"):
            await Network({HERE}).connect_tcp(HERE, full.getsockname()[1], timeout=0.1)


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_a_handshake_that_does_not_end_leaves_no_socket(how, authority):
    client = ssl.create_default_context(cafile=authority.ca_file)
    async with connected(say_nothing, None) as connection:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (a moment's look)
        if how == "timeout":
            with pytest.raises(httpcore.ConnectTimeout, match=r"^no TLS handshake within 0\.05 s$"):
                await connection.start_tls(client, HERE, timeout=0.05)
        else:
            with trio.move_on_after(0.05):
                await connection.start_tls(client, HERE)
        assert len(os.listdir("/proc/self/fd")) == before - 1  # noqa: PTH208


async def test_a_certificate_of_somebody_else(authority, tmp_path):
    stranger = CertificateAuthority(tmp_path, "somebody else")
    client = ssl.create_default_context(cafile=authority.ca_file)

    async def serve(stream: Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        secured = trio.SSLStream(stream, stranger.server(HERE), server_side=True, https_compatible=True)
        with pytest.raises(trio.BrokenResourceError):
            await secured.do_handshake()
        await trio.aclose_forcefully(stream)

    async with connected(serve, None) as connection:
        with pytest.raises(httpcore.ConnectError) as caught:
            await connection.start_tls(client, HERE)
        cause = caught.value.__cause__
        assert isinstance(cause, trio.BrokenResourceError)
        assert "certificate verify failed" in str(cause.__cause__)


@pytest.mark.parametrize("host,name", [("Good.EXAMPLE.", "good.example"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")])
def test_host_names(host, name):
    assert host_name(host) == name
