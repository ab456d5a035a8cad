"""A mitm worker's manners without mitmproxy: takes what is handed over, says ``Ready``, retires and drains.

Each connection gets the process id on a line, then its prefix, then an echo. FAKE_MITM names a flaw:

- ``dies``: exits with code 3 before it is ready, as long as the file FAKE_MITM_UNTIL exists
- ``grows``: takes 64 MiB of memory
"""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from sp_proxy.channel.frames import Drained, Ready, frame
from sp_proxy.mitm.config import decode_config
from sp_proxy.relay.handoff import HandOverEndedError, receive
from sp_proxy.relay.loop_guard import LoopGuard
from tests.supervisor.fake_worker import GARBLE, guarded


def serve(connection: socket.socket, prefix: bytes, channel: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.setblocking(True)
        connection.sendall(b"%d\n" % os.getpid() + prefix)
        while data := connection.recv(65536):
            if data == GARBLE:
                channel.sendall(b"\xff" * 8)
            connection.sendall(data)


def main() -> int:
    with os.fdopen(int(sys.argv[1]), "rb") as source:
        config = decode_config(source.read())
    flaw = os.environ.get("FAKE_MITM", "")
    if flaw == "dies" and Path(os.environ["FAKE_MITM_UNTIL"]).exists():
        return 3
    guard = LoopGuard(config.loop_guard_fd, config.loop_guard_owner)
    guard.opened(*guarded(config.loop_guard_owner))
    memory = bytearray(os.urandom(64 << 20)) if flaw == "grows" else bytearray()
    channel = socket.socket(fileno=config.channel_fd)
    handover = socket.socket(fileno=config.handover_fd)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: ended.set())
    started: list[threading.Thread] = []

    def take() -> None:
        while not ended.is_set():
            with suppress(BlockingIOError):
                try:
                    taken = receive(handover)
                except HandOverEndedError:
                    return
                if taken is not None:
                    started.append(threading.Thread(target=serve, args=(taken[0], taken[1].prefix, channel)))
                    started[-1].start()
            ended.wait(0.01)

    channel.sendall(frame(Ready(config.worker_id)))
    taking = threading.Thread(target=take)
    taking.start()
    while not ended.wait(0.1):
        pass
    taking.join()
    for thread in started:
        thread.join()
    channel.sendall(frame(Drained()))
    memory.clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
