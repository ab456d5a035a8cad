"""A real relay worker process for tests."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config
from tests.worker_channel import ReadChannel


def listening(host: str = "127.0.0.1") -> socket.socket:
    """A listening socket on a free port."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, 0))
    sock.listen(1024)
    return sock


@contextlib.contextmanager
def unreachable() -> Iterator[tuple[str, int]]:
    """An address where connecting takes for ever: its queue of connections that nobody accepts is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


@dataclass
class RunningWorker(ReadChannel):
    """``python -m sp_proxy.relay`` with one listener to a fixed upstream, a transparent one (None) or an explicit proxy."""

    upstream: tuple[str, int] | Literal["itself", "proxy"] | None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    headers: HeaderConfig = field(default_factory=lambda: HeaderConfig("orders"))
    options: dict[str, Any] = field(default_factory=dict)
    descriptors: int = 0
    """It may have so many open; 0: as many as we."""
    pass_fds: tuple[int, ...] = ()
    """Descriptors that ``options`` name."""
    supervised: bool = False
    """Keep the listening socket open, as a supervisor does."""

    def __enter__(self) -> Self:
        listener = listening()
        ours, theirs = socket.socketpair()
        proxy = self.upstream == "proxy"
        upstream = None if self.upstream == "proxy" else self.upstream
        host, port = listener.getsockname() if upstream == "itself" else upstream or ("", 0)
        config = WorkerConfig(
            worker_id=1,
            channel_fd=theirs.fileno(),
            listeners=(ListenerConfig(listener.fileno(), Direction.INBOUND, host, port, proxy),),
            headers=self.headers,
            policy=self.policy,
            **{"detect_timeout": 0.2, **self.options},
        )
        reader, writer = os.pipe()
        os.write(writer, encode_config(config))
        os.close(writer)
        limited = ["prlimit", f"--nofile={self.descriptors}:{self.descriptors}"] if self.descriptors else []
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-P", "-m", "sp_proxy.relay", str(reader)],
            pass_fds=(reader, listener.fileno(), theirs.fileno(), *self.pass_fds),
        )
        os.close(reader)
        theirs.close()
        self.address = listener.getsockname()
        self._listener = listener
        if not self.supervised:
            listener.close()
        self.read_channel(ours)
        return self

    def cpu_seconds(self) -> float:
        """What the process has used so far (proc(5), stat: the 14th and 15th field)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        """A client connection."""
        return socket.create_connection(self.address, timeout=10)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        self._listener.close()
        self.close_channel()
