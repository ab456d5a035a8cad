"""A relay worker's manners without its work: reads its configuration, accepts, says ``Ready``, echoes, drains.

Each connection first gets the worker's process id on a line. FAKE_WORKER names a flaw:

- ``dies``: exits with code 3 before it is ready, as long as the file FAKE_WORKER_UNTIL exists
- ``hangs``: never gets ready
- ``stubborn``: does not care for SIGTERM
"""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

from sp_proxy.channel.frames import Drained, Ready, frame
from sp_proxy.relay.config import decode_config
from sp_proxy.relay.loop_guard import LoopGuard


def guarded(owner: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """The upstream connection that the process with this number has: from where, and where to."""
    return ("127.0.0.1", 40_000 + owner), ("192.0.2.1", 80)


def main() -> int:
    with os.fdopen(int(sys.argv[1]), "rb") as source:
        config = decode_config(source.read())
    flaw = os.environ.get("FAKE_WORKER", "")
    if flaw == "dies" and Path(os.environ["FAKE_WORKER_UNTIL"]).exists():
        return 3
    guard = LoopGuard(config.loop_guard_fd, config.loop_guard_owner)
    guard.opened(*guarded(config.loop_guard_owner))
    channel = socket.socket(fileno=config.channel_fd)
    started: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.setblocking(True)
            connection.sendall(b"%d\n" % os.getpid())
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,), daemon=True)
            started.append(thread)
            thread.start()

    ending = threading.Event()

    def stop(*_: object) -> None:
        if flaw != "stubborn":
            ending.set()

    signal.signal(signal.SIGTERM, stop)
    if flaw != "hangs":
        for listener in config.listeners:
            # A timeout only for this process: the descriptor's own flag is shared, and must stay non-blocking.
            listening = socket.socket(fileno=listener.fd)
            listening.settimeout(3600)
            threading.Thread(target=accept, args=(listening,), daemon=True).start()
        channel.sendall(frame(Ready(config.worker_id)))

    def watch_supervisor() -> None:
        channel.recv(1)
        ending.set()

    threading.Thread(target=watch_supervisor, daemon=True).start()
    ending.wait()
    for thread in started:
        thread.join(config.grace_period)
    channel.sendall(frame(Drained()))
    return 0


if __name__ == "__main__":
    # Past the threads that still accept: a listening socket cannot be closed under them.
    status = main()
    sys.stdout.flush()
    os._exit(status)
