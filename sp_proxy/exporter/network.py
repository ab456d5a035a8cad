"""TCP and TLS under httpcore, for uploads: connections over which an early answer is heard.

A server may answer before it has read a request, and often does when that is too large: then it reads no more, or closes
the connection, which makes the kernel send a reset behind the answer. httpcore writes a whole request before it reads,
so it would see a timeout or a reset, and the same request would be sent again and again. Two rules mend that:

- A connection that broke while something was written has still to be read: what had arrived before is there, and only
  when it is read the connection is broken. (With TLS too: trio's ``SSLStream`` can do nothing any more after a write
  that failed, so the failure is kept below it.)
- While a request is written over HTTP/1.1, somebody listens. When an answer begins and the writing does not get on,
  the rest is not written. Over HTTP/2 answers are read at any time, and what is too much for its window is not sent
  there at all (``core/http_version.py``).

No connection is made to a host that is not approved.
"""

import os
import ssl
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import httpcore
import trio

PIECE_BYTES = 1 << 16
"""Of one write, which is what ``write_timeout`` limits."""
ANSWERED_PATIENCE = 1.0
"""Seconds that a write may still take when an answer has begun: a server that reads on should get the rest."""


class HostNotApprovedError(Exception):
    """A connection to a host that is not in ``approved_backends``. It was not made."""


class Network(httpcore.AsyncNetworkBackend):
    """Makes connections to these hosts, and no others."""

    def __init__(self, approved_hosts: Collection[str]) -> None:
        """Hosts as ``host_name`` has them."""
        self._approved = frozenset(approved_hosts)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection. Raises ConnectError, ConnectTimeout and HostNotApprovedError."""
        if host_name(host) not in self._approved:
            raise HostNotApprovedError(f"{host} is not an approved host")
        with _failing_as(httpcore.ConnectTimeout, httpcore.ConnectError, "no connection", timeout):
            with trio.fail_after(_limit(timeout)):
                stream = await trio.open_tcp_stream(host, port, local_address=local_address)
            for option in socket_options or ():
                stream.setsockopt(*option)
        return Connection(_ReadToTheEnd(stream), stream.socket)

    async def sleep(self, seconds: float) -> None:
        """As trio has it."""
        await trio.sleep(seconds)


class Connection(httpcore.AsyncNetworkStream):
    """One connection. Bytes of an answer that were heard while something was written are read first."""

    def __init__(self, stream: trio.abc.Stream, socket: trio.socket.SocketType, *, listens: bool = True) -> None:
        """``socket`` is below ``stream``, for a look whether there is something to read."""
        self._stream = stream
        self._socket = socket
        self._listens = listens
        self._heard = b""
        self._ended = False
        """By the server, in order."""
        self._broken: trio.BrokenResourceError | None = None
        self._writing = trio.CancelScope()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (as above)
        """Some bytes, none at the end. Raises ReadError and ReadTimeout."""
        if self._heard:
            await trio.lowlevel.checkpoint()
            piece, self._heard = self._heard[:max_bytes], self._heard[max_bytes:]
            return piece
        if self._ended:
            await trio.lowlevel.checkpoint()
            return b""
        late = _failing_as(httpcore.ReadTimeout, httpcore.ReadError, "nothing came", timeout)
        with late, trio.fail_after(_limit(timeout)):
            if self._broken is not None:
                raise self._broken
            return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as above)
        """Write all of it, each piece within the limit. Raises WriteTimeout; WriteError when what stays unwritten was
        answered: then there is something to read.
        """
        if not buffer:
            return
        done = True
        pieces = memoryview(buffer)
        with _failing_as(httpcore.WriteTimeout, httpcore.WriteError, "nothing was taken", timeout):
            async with trio.open_nursery() as nursery:
                if self._listens and not self._is_told:
                    nursery.start_soon(self._listen)
                for at in range(0, len(pieces), PIECE_BYTES):
                    if not (done := await self._write_piece(pieces[at : at + PIECE_BYTES], _limit(timeout))):
                        break
                nursery.cancel_scope.cancel()
        if done:
            return
        if self._is_told:
            raise httpcore.WriteError(str(self._broken or "answered before the request was read"))
        raise httpcore.WriteTimeout(f"nothing was taken within {timeout:g} s")

    async def aclose(self) -> None:
        """Close it, without a word."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
    ) -> httpcore.AsyncNetworkStream:
        """The connection secured. Raises ConnectError and ConnectTimeout; whatever it raises, the connection is closed."""
        secured = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            late = _failing_as(httpcore.ConnectTimeout, httpcore.ConnectError, "no TLS handshake", timeout)
            with late, trio.fail_after(_limit(timeout)):
                await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(self._stream)  # by no means left to the garbage collector
            raise
        return Connection(secured, self._socket, listens=secured.selected_alpn_protocol() != "h2")

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: ``ssl_object``, for its ALPN protocol, and ``is_readable``."""
        if info == "ssl_object":
            return self._stream if isinstance(self._stream, trio.SSLStream) else None
        if info == "is_readable":
            return bool(self._heard) or self._socket.is_readable()
        return None

    @property
    def _is_told(self) -> bool:
        """The server has said something, or nothing more can come from it."""
        return bool(self._heard) or self._ended or self._broken is not None

    async def _listen(self) -> None:
        """Read what begins an answer, and have the writing end when that does not get on from then."""
        try:
            while len(self._heard) < PIECE_BYTES and not self._ended:
                data = await self._stream.receive_some(PIECE_BYTES)
                self._heard += data
                self._ended = not data
                self._writing.deadline = min(self._writing.deadline, trio.current_time() + ANSWERED_PATIENCE)
        except trio.BrokenResourceError as error:
            self._broken = error
            self._writing.cancel()

    async def _write_piece(self, piece: memoryview, seconds: float) -> bool:
        """Write a piece; False if that took too long, or cannot be done any more."""
        limit = min(ANSWERED_PATIENCE, seconds) if self._is_told else seconds
        with trio.CancelScope(deadline=trio.current_time() + limit) as self._writing:
            try:
                await self._stream.send_all(piece)
            except trio.BrokenResourceError as error:  # not from within the nursery, which would wrap it up
                self._broken = self._broken or error
                return False
        return not self._writing.cancelled_caught


class _ReadToTheEnd(trio.abc.Stream):
    """A socket whose end is seen by reading only. What is written to a broken connection is gone, as what was written
    just before it broke.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._broken: trio.BrokenResourceError | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write, or remember why not."""
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._broken = self._broken or error

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket has it."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read; a connection that broke for a write is so for a read when there is nothing left."""
        data = await self._stream.receive_some(max_bytes)
        if not data and self._broken is not None:
            raise self._broken
        return data

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


def host_name(host: str) -> str:
    """A URL's host as ``approved_backends`` has it."""
    return host.rstrip(".").lower().removeprefix("[").removesuffix("]")


def _limit(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds


@contextmanager
def _failing_as(
    late: type[httpcore.TimeoutException], broken: type[httpcore.NetworkError], missing: str, seconds: float | None
) -> Iterator[None]:
    """Translate the errors of trio and of the system to httpcore's, and to words for a person: ``missing`` within ``seconds``."""

    def fail(kind: type[Exception], error: BaseException, text: str) -> NoReturn:
        raise kind(text) from error

    try:
        yield
    except trio.TooSlowError as error:
        fail(late, error, f"{missing} within {_limit(seconds):g} s")
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
        fail(broken, error, _reason(error))


def _reason(error: BaseException) -> str:
    """What is wrong. Of several addresses, or one, that cannot be connected trio says so, and why only as the cause."""
    if not isinstance(error.__cause__, ExceptionGroup):
        return str(error)
    causes = (os.strerror(getattr(each, "errno", None) or 0).lower() for each in error.__cause__.exceptions)
    return f"{error} ({', '.join(dict.fromkeys(causes))})"
