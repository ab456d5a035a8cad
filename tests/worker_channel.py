"""What a worker process under test says on its channel, read in a thread."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sp_proxy.channel.frames import Drained, FrameReader, Ready, Records, Totals
from sp_proxy.core.exchange import Exchange

PATIENCE = 20.0
"""Seconds."""


@dataclass(kw_only=True)
class ReadChannel:
    """Its records, and its latest totals."""

    exchanges: list[Exchange] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    reported_first: bool = False
    """Before it was ready."""

    def read_channel(self, channel: socket.socket) -> None:
        """Return when the worker at the other end is ready."""
        self.channel = channel
        self.drained = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the worker did not become ready"

    def close_channel(self) -> None:
        """After the end of the process."""
        self.channel.close()
        self._thread.join(10)

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

    def wait(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Poll until the condition holds; the state of the worker is the failure's text."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.exchanges, self.counters, self.gauges)
            time.sleep(0.01)

    def counter(self, name: str, value: int) -> None:
        """Wait until a running total has this value."""
        self.wait(lambda: self.counters.get(name) == value)
