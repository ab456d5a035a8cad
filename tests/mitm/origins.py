"""Origins for the mitm worker's tests: raw sockets in a thread, read and answered by the test itself."""

import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

TIMEOUT = 20.0


class Origin:
    """Listens on loopback. ``accept`` gives the next connection, inside TLS if there is a certificate."""

    def __init__(self, certificate: Path | None = None, alpn: tuple[str, ...] = ()) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listening.settimeout(TIMEOUT)
        self.address: tuple[str, int] = self._listening.getsockname()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)
            if alpn:
                self._tls.set_alpn_protocols(list(alpn))

    def accept(self) -> socket.socket:
        connection, _ = self._listening.accept()
        connection.settimeout(TIMEOUT)
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Everything up to and with ``end``; what there was, if the stream ends before."""
    data = b""
    while not data.endswith(end):
        piece = sock.recv(1)
        if not piece:
            return data
        data += piece
    return data


def read_head(sock: socket.socket) -> bytes:
    return read_until(sock, b"\r\n\r\n")


def read_all(sock: socket.socket) -> bytes:
    """Up to the end of the stream."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def fields(head: bytes) -> dict[str, str]:
    """Fields of a head by lower-case name."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
