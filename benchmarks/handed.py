"""Real relay workers, configured as ``sp-proxy run`` would, whose records are handed over to nobody: their channels are
read and thrown away. What is measured is the relay with capture on, with no exporter beside it that wants the CPU too.

    python -m benchmarks.handed --config sp_proxy.yaml
"""

import argparse
import os
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config
from sp_proxy.settings.load import load
from sp_proxy.supervisor.blueprint import worker_config
from sp_proxy.supervisor.generation import RELAY_COMMAND
from sp_proxy.supervisor.sockets import BoundListener, bind_listeners

_PIECE = 1 << 20


def _start(template: WorkerConfig, listeners: list[BoundListener]) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """A worker, and our end of its channel."""
    ours, theirs = socket.socketpair()
    fds = [listener.socket.fileno() for listener in listeners]
    config = msgspec.structs.replace(
        template,
        worker_id=0,
        channel_fd=theirs.fileno(),
        listeners=tuple(
            ListenerConfig(each.socket.fileno(), each.direction, each.upstream.host, each.upstream.port)
            for each in listeners
            if each.upstream is not None
        ),
    )
    with theirs, os.fdopen(os.memfd_create("worker-config"), "w+b", buffering=0) as file:
        file.write(encode_config(config))
        file.seek(0)
        process = subprocess.Popen(
            [*RELAY_COMMAND, str(file.fileno())], pass_fds=[*fds, theirs.fileno(), file.fileno()]
        )
    return process, ours


def main() -> None:
    """Until SIGTERM, or until a worker ends."""
    parser = argparse.ArgumentParser(description="Relay workers whose records nobody takes.")
    parser.add_argument("--config", type=Path, required=True)
    settings = load(parser.parse_args().config, {}, {}).settings
    listeners = bind_listeners(settings.listen)
    template = worker_config(settings, {})
    started = [_start(template, listeners) for _ in range(settings.relay.workers)]
    for listener in listeners:
        listener.socket.close()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    buffer = bytearray(_PIECE)
    try:
        with selectors.DefaultSelector() as selector:
            for _, channel in started:
                selector.register(channel, selectors.EVENT_READ, channel)
            while selector.get_map():
                for key, _ in selector.select():
                    # Not recv: what readv reads is in /proc/PID/io, where it can be seen that there were records.
                    if not os.readv(key.fd, [buffer]):
                        selector.unregister(key.data)
    finally:
        for process, channel in started:
            channel.close()  # to the worker: the supervisor is gone
            process.terminate()
        for process, _ in started:
            process.wait()


if __name__ == "__main__":
    main()
