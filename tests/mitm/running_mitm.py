"""A real mitm worker process for tests: connections are handed to it as a relay worker does, its channel is read in a thread."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sp_proxy.channel.frames import Drained, FrameReader, Ready, Records, Totals
from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.mitm.config import MitmConfig, TlsConfig, encode_config
from sp_proxy.relay.handoff import HandOver, send

TIMEOUT = 20.0


@dataclass
class RunningMitm:
    """``python -m sp_proxy.mitm`` on its own."""

    tls: TlsConfig = field(default_factory=TlsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    headers: HeaderConfig = field(default_factory=lambda: HeaderConfig("orders"))
    options: dict[str, Any] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self.handover, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        config = MitmConfig(
            64,
            theirs.fileno(),
            receiving.fileno(),
            self.headers,
            self.policy,
            self.tls,
            **self.options,
        )
        with os.fdopen(os.memfd_create("mitm-config"), "w+b", buffering=0) as file:
            file.write(encode_config(config))
            file.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sp_proxy.mitm", str(file.fileno())],
                pass_fds=(file.fileno(), theirs.fileno(), receiving.fileno()),
            )
        for sock in (theirs, receiving):
            sock.close()
        self.channel = ours
        self._ready = threading.Event()
        self.drained = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._ready.wait(TIMEOUT), "the worker did not become ready"
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
                        self._ready.set()
                    case Drained():
                        self.drained.set()

    def wait(self, condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
        """Poll until the condition holds; the state of the worker is the failure's text."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.exchanges, self.counters, self.gauges)
            time.sleep(0.01)

    def counter(self, name: str, value: int) -> None:
        """Wait until a running total has this value."""
        self.wait(lambda: self.counters.get(name) == value)

    def exchange(self) -> Exchange:
        """The next record."""
        self.wait(lambda: bool(self.exchanges))
        return self.exchanges.pop(0)

    def connect(
        self, destination: tuple[str, int], prefix: bytes = b"", direction: Direction = Direction.OUTBOUND
    ) -> socket.socket:
        """A client whose connection was handed over after ``prefix`` had been read from it."""
        listening = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listening.getsockname(), timeout=TIMEOUT)
        accepted, _ = listening.accept()
        listening.close()
        message = HandOver(direction, client.getsockname(), destination, prefix)
        with accepted:
            accepted.setblocking(False)
            try:
                send(self.handover, accepted.fileno(), message)
            except OSError:
                client.close()
                raise
        return client

    def takes(self, destination: tuple[str, int]) -> bool:
        """Whether a connection can be handed over; it is closed again."""
        try:
            self.connect(destination).close()
        except ConnectionError:
            return False
        return True

    def connect_tls(
        self, destination: tuple[str, int], server_name: str, authority: Path | str, *alpn: str
    ) -> ssl.SSLSocket:
        """A client that trusts this authority."""
        context = ssl.create_default_context(cafile=str(authority))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context.wrap_socket(self.connect(destination), server_hostname=server_name)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(TIMEOUT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait(10)
        self.channel.close()
        self.handover.close()
        self._thread.join(10)
