"""A relay worker's manners without its work: reads its configuration, accepts, says ``Ready``, echoes, retires, drains.

Each connection first gets the worker's process id on a line, then an echo; GARBLE makes it garble its channel. FAKE_WORKER names a flaw:

- ``dies``: exits with code 3 before it is ready, as long as the file FAKE_WORKER_UNTIL exists
- ``hangs``: never gets ready
- ``stubborn``: does not care for SIGTERM
- ``reports``: is none: reports totals as a worker does, only more often

A service name that begins with ``dies`` or ``hangs`` is such a flaw too: settings with which no worker comes up.
"""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

from sp_proxy.channel.frames import Drained, Ready, Retired, Totals, frame
from sp_proxy.relay.config import decode_config
from sp_proxy.relay.loop_guard import LoopGuard

GARBLE = b"garble"
"""Echoed to a client, and the channel is no sequence of frames any more."""
REPORT_INTERVAL = 0.02
"""Seconds."""


def guarded(owner: int) -> tuple[tuple[str, int], tuple[str, int]]:
    """The upstream connection that the process with this number has: from where, and where to."""
    return ("127.0.0.1", 40_000 + owner), ("192.0.2.1", 80)


def main() -> int:
    with os.fdopen(int(sys.argv[1]), "rb") as source:
        config = decode_config(source.read())
    flaw = os.environ.get("FAKE_WORKER", "")
    if flaw == "dies" and Path(os.environ["FAKE_WORKER_UNTIL"]).exists():
        return 3
    if config.headers.service_name.startswith("dies"):
        return 4
    if config.headers.service_name.startswith("hangs"):
        flaw = "hangs"
    guard = LoopGuard(config.loop_guard_fd, config.loop_guard_owner)
    guard.opened(*guarded(config.loop_guard_owner))
    channel = socket.socket(fileno=config.channel_fd)
    started: list[threading.Thread] = []
    acceptors: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.setblocking(True)
            connection.sendall(b"%d\n" % os.getpid())
            while data := connection.recv(65536):
                if data == GARBLE:
                    channel.sendall(b"\xff" * 8)
                connection.sendall(data)

    def accept(listening: socket.socket) -> None:
        while not ending.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,), daemon=True)
            started.append(thread)
            thread.start()

    ending, stopping = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        if flaw != "stubborn":
            stopping.set()
            ending.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: ending.set())
    if flaw != "hangs":
        for listener in config.listeners:
            # A timeout only for this process: the descriptor's own flag is shared, and must stay non-blocking.
            listening = socket.socket(fileno=listener.fd)
            listening.settimeout(0.02)
            acceptors.append(threading.Thread(target=accept, args=(listening,), daemon=True))
            acceptors[-1].start()
        channel.sendall(frame(Ready(config.worker_id)))

    def watch_supervisor() -> None:
        channel.recv(1)
        stopping.set()
        ending.set()

    def report() -> None:
        while not ending.wait(REPORT_INTERVAL):
            channel.sendall(frame(Totals()))

    threading.Thread(target=watch_supervisor, daemon=True).start()
    if flaw == "reports":
        threading.Thread(target=report, daemon=True).start()
    ending.wait()
    for acceptor in acceptors:
        acceptor.join()
    channel.sendall(frame(Retired()))
    while any(thread.is_alive() for thread in started) and not stopping.wait(0.02):
        pass
    for thread in started:
        thread.join(config.grace_period)
    channel.sendall(frame(Drained()))
    return 0


if __name__ == "__main__":
    # Past the threads that still accept: a listening socket cannot be closed under them.
    status = main()
    sys.stdout.flush()
    os._exit(status)
