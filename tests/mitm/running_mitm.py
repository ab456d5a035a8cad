"""A real mitm worker process for tests: connections are handed to it as a relay worker does."""

import os
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.mitm.config import MitmConfig, TlsConfig, encode_config
from sp_proxy.relay.handoff import HandOver, send
from tests.worker_channel import ReadChannel

TIMEOUT = 20.0


@dataclass
class RunningMitm(ReadChannel):
    """``python -m sp_proxy.mitm`` on its own."""

    tls: TlsConfig = field(default_factory=TlsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    headers: HeaderConfig = field(default_factory=lambda: HeaderConfig("orders"))
    options: dict[str, Any] = field(default_factory=dict)

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
        self.read_channel(ours)
        return self

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
        self.close_channel()
        self.handover.close()
