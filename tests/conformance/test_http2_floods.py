"""Floods over HTTP/2 through a real worker: its memory and its time are bounded, and others are served meanwhile.

The server reads everything and answers nothing, or reads nothing at all: what it makes of a flood is its own affair.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from sp_proxy.core.inject import HeaderConfig
from tests.conformance.http2_blocks import REPLACED
from tests.conformance.http2_wire import (
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    HELLO,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    Sender,
    block_frames,
    frame,
    request_fields,
    settings,
)
from tests.relay.running_worker import RunningWorker, listening

SIZE = 3 << 20
MOST_MEMORY = 96 << 20
"""What the open exchanges of a connection may keep, the same once more on its way to the exporter, and buffers."""
MOST_SECONDS = 15.0
"""CPU time; each of these takes a second or two on a slow machine."""
MOST_WAIT = 8.0


def _filled(piece: bytes) -> bytes:
    return piece * (SIZE // len(piece))


def _rapid_resets() -> bytes:
    requests = Sender()
    return b"".join(
        requests.request(stream, "/a") + frame(RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in range(1, 40_000, 2)
    )


def _bomb(refs: int, *, replaced: bool) -> Callable[[], bytes]:
    """A large entry of the table, named again and again: 3,500 bytes for one."""

    def make() -> bytes:
        requests = Sender(huffman=False)
        more = REPLACED if replaced else ()
        first = requests.request(1, "/a", *more, ("x-bomb", "v" * 3500))
        block = requests.block([*request_fields("/a"), *([("x-bomb", "v" * 3500)] * refs)])
        assert len(block) < refs + 10
        return first + b"".join(block_frames(stream, block) for stream in range(3, 6000, 2))

    return make


def _open_streams() -> bytes:
    requests = Sender()
    return b"".join(requests.request(stream, "/a", flags=0) for stream in range(1, 60_000, 2))


def _open_uploads() -> bytes:
    requests = Sender()
    return b"".join(
        requests.request(stream, "/a", flags=0) + frame(DATA, 0, stream, bytes(16384)) for stream in range(1, 4000, 2)
    )


def _many_blocks() -> bytes:
    """All of them different, so none is worth remembering."""
    requests = Sender(huffman=False)
    return b"".join(
        requests.request(stream, f"/{stream}" + "p" * 8000, (f"x-{stream}", "v" * 7000)) for stream in range(1, 400, 2)
    )


FLOODS: dict[str, Callable[[], bytes]] = {
    "pings": lambda: _filled(frame(PING, 0, 0, bytes(8))),
    "settings": lambda: _filled(settings((1, 4096), (1, 0), (3, 7))),
    "settings_of_ten_thousand": lambda: _filled(frame(SETTINGS, 0, 0, b"\0\1\0\0\x10\0" * 2730)),
    "settings_acknowledged": lambda: _filled(SETTINGS_ACK),
    "window_updates": lambda: _filled(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "priorities": lambda: _filled(frame(PRIORITY, 0, 7, b"\0\0\0\3\x10")),
    "unknown_frames": lambda: _filled(frame(200)),
    "empty_content": lambda: Sender().request(1, "/a", flags=0) + _filled(frame(DATA, 0, 1)),
    "continuations": lambda: frame(HEADERS, END_STREAM, 1, b"\x82") + _filled(frame(CONTINUATION, 0, 1)),
    "continuations_with_a_block": lambda: (
        frame(HEADERS, END_STREAM, 1, b"\x82") + _filled(frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 3000))
    ),
    "resets": _rapid_resets,
    "streams_left_open": _open_streams,
    "uploads_left_open": _open_uploads,
    "blocks": _many_blocks,
    "bomb": _bomb(200, replaced=False),
    "bomb_encoded_anew": _bomb(200, replaced=True),
    "small_bombs_encoded_anew": _bomb(8, replaced=True),
}


class Server:
    """Accepts everything; reads it, or lets it wait. Answers one request of HTTP/1."""

    def __init__(self, *, reads: bool) -> None:
        self._reads = reads
        self._open: list[socket.socket] = []
        self.listener = listening()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listener.close()
        self.close()

    def close(self) -> None:
        """All connections, read or not."""
        while self._open:
            sock = self._open.pop()
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = sock.recv(1 << 18)
            if data.startswith(b"GET"):
                sock.sendall(b"HTTP/1.1 204 No\r\n\r\n")
            else:
                sock.sendall(settings())
            while self._reads and data:
                data = sock.recv(1 << 18)


def _memory(pid: int, name: str) -> int:
    """Bytes: ``VmHWM`` is the most there ever was (proc(5), status)."""
    [line] = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(name + ":")]
    return int(line.split()[1]) * 1024


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _flooded(worker: RunningWorker, data: bytes) -> Iterator[threading.Thread]:
    """A client that sends it all, as far as it is taken, and reads nothing."""
    with worker.connect() as client:
        client.settimeout(2)

        def flood() -> None:
            with contextlib.suppress(OSError):
                client.sendall(HELLO + data)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield thread
        finally:
            thread.join()


@dataclass
class Rig:
    """A worker with its server, and what it had before the first flood."""

    worker: RunningWorker
    server: Server
    resident: int
    played: int = 0


@pytest.fixture(scope="module", params=[True, False], ids=["read", "not_read"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with (
        Server(reads=request.param) as server,
        RunningWorker(server.listener.getsockname(), headers=HeaderConfig("shop")) as worker,
    ):
        yield Rig(worker, server, _memory(worker.process.pid, "VmRSS"))


def _is_served(worker: RunningWorker) -> None:
    begun = time.monotonic()
    with worker.connect() as other:
        other.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert other.recv(100) == b"HTTP/1.1 204 No\r\n\r\n"
    assert time.monotonic() - begun < MOST_WAIT


@pytest.mark.parametrize("name", FLOODS)
def test_flood(name: str, rig: Rig) -> None:
    data = FLOODS[name]()
    pid = rig.worker.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak begins anew
    before, cpu = _memory(pid, "VmRSS"), _cpu_seconds(pid)
    with _flooded(rig.worker, data) as flood:
        _is_served(rig.worker)
        flood.join()
    rig.server.close()
    _is_served(rig.worker)  # behind all that was read
    rig.played += 1
    assert _memory(pid, "VmHWM") - before < MOST_MEMORY
    assert _cpu_seconds(pid) - cpu < MOST_SECONDS


def test_what_is_left_of_them(rig: Rig) -> None:
    """No connection, and no memory but what the allocator keeps."""
    worker = rig.worker
    rig.server.close()
    worker.counter("connections", 3 * rig.played)
    worker.wait(lambda: worker.gauges["connections_open"] == 0, 30)
    assert _memory(worker.process.pid, "VmRSS") - rig.resident < MOST_MEMORY
    assert worker.counters.get("tap_faults", 0) == 0


def test_an_answer_that_is_not_read() -> None:
    """The windows are open, and the client lets everything wait: its server has to, and nothing is lost."""
    size, count = 16384, 4096
    content = frame(DATA, 0, 1, bytes(size))
    answer = Sender().answer(1, flags=0)
    with listening() as listener, RunningWorker(listener.getsockname(), headers=HeaderConfig("shop")) as worker:
        before = _memory(worker.process.pid, "VmRSS")
        with worker.connect() as client:
            client.sendall(HELLO + Sender().request(1, "/a"))
            server, _ = listener.accept()
            with server:
                server.sendall(settings() + answer)
                server.settimeout(1.0)
                sent = bytearray(content * count)
                with contextlib.suppress(TimeoutError):
                    while sent:
                        del sent[: server.send(sent[: 1 << 20])]
                assert sent  # it was made to wait
                assert _memory(worker.process.pid, "VmHWM") - before < 8 << 20
                server.settimeout(20)
                thread = threading.Thread(target=server.sendall, args=(sent + frame(DATA, END_STREAM, 1),))
                thread.start()
                left = len(settings() + answer) + count * len(content) + 9
                client.settimeout(20)
                while left:
                    left -= len(client.recv(1 << 20))
                thread.join()
        worker.wait(lambda: len(worker.exchanges) == 1)
        assert worker.exchanges[0].response_body_size == size * count
