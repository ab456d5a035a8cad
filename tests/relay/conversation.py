"""What a client and a server say and see, as scripts for both ends."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

RESET = struct.pack("ii", 1, 0)


@dataclass
class End:
    """One end of a conversation: a socket and what it saw."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    end: str = ""

    def __post_init__(self) -> None:
        self.port: int = self.sock.getsockname()[1]

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def receive(self, size: int) -> None:
        """Exactly so many bytes, or until the end."""
        while len(self.received) < size and not self.end:
            self._receive_some()

    def until(self, token: bytes) -> None:
        while token not in self.received and not self.end:
            self._receive_some()

    def rest(self) -> None:
        while not self.end:
            self._receive_some()

    def _receive_some(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.end = "reset"
        except TimeoutError:
            self.end = "timeout"
        else:
            self.received += data
            if not data:
                self.end = "eof"

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


Script = Callable[[End], None]


def converse(address: tuple[str, int], listener: socket.socket, client: Script, server: Script) -> tuple[End, End]:
    """Run both scripts; the ends as they were left."""
    ends: list[End] = []

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(10)
        end = End(sock)
        ends.append(end)
        server(end)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    sock = socket.create_connection(address, timeout=10)
    near = End(sock)
    client(near)
    thread.join(15)
    assert not thread.is_alive()
    for end in (near, ends[0]):
        end.sock.close()
    return near, ends[0]


def without_injection(data: bytes) -> bytes:
    """The bytes without the lines that are injected."""
    lines = data.split(b"\r\n")
    ours = (b"x-sp-", b"x-service-name:", b"x-current-service:", b"tracestate:", b"traceparent:")
    return b"\r\n".join(line for line in lines if not line.startswith(ours))


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
