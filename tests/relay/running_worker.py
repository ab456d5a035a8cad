"""A real relay worker process for tests, with its channel read in a thread."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sp_proxy.channel.frames import Drained, FrameReader, Ready, Records, Totals
from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, encode_config


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
class RunningWorker:
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
    exchanges: list[Exchange] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    reported_first: bool = False
    """Before it was ready."""

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
        self.channel = ours
        self._ready = threading.Event()
        self.drained = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the worker did not become ready"
        return self

    def _read(self) -> None:
        reader = FrameReader()
        while True:
            try:
                data = self.channel.recv(1 << 20)
            except OSError:
                return
            if not data:
                return
            reader.feed(data)
            while (message := reader.next()) is not None:
                match message:
                    case Records(exchanges):
                        self.exchanges += exchanges
                    case Totals(counters, gauges):
                        self.counters, self.gauges = counters, gauges
                    case Ready():
                        self.reported_first = bool(self.gauges)
                        self._ready.set()
                    case Drained():
                        self.drained.set()

    def wait(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Poll until the condition holds; the state of the worker is the failure's text."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.exchanges, self.counters, self.gauges)
            time.sleep(0.01)

    def counter(self, name: str, value: int) -> None:
        """Wait until a running total has this value."""
        self.wait(lambda: self.counters.get(name) == value)

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
        self.channel.close()
        self._thread.join(10)
