"""The tap of TLS that is passed through: counts connections and bytes by port, and names what clients ask for.

Nothing is held and nothing is changed. Labels come from the network, so each family of counters has a limited number of them;
what comes later is counted as ``other``.
"""

from collections import defaultdict
from typing import Final

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps.context import Endpoints, Signal
from sp_proxy.taps.tls_hello import ClientHello, ClientHelloReader

MAX_LABELS: Final = 64
"""Server names (and ports) that are told apart, in the order in which they first came."""
_KNOWN_ALPN: Final = frozenset(
    ("h2", "http/1.1", "http/1.0", "h3", "spdy/3.1", "postgresql", "mqtt", "istio", "acme-tls/1")
)
_UNBOUNDED: Final = 1 << 62


def count(counters: defaultdict[str, int], family: str, label: str, amount: int = 1) -> str:
    """Add to a labelled counter, within MAX_LABELS labels a family. Returns the counter's key."""
    key = f"{family}:{label}"
    if key not in counters:
        known = f"{family}_labels"
        if counters[known] >= MAX_LABELS:
            key = f"{family}:other"
        else:
            counters[known] += 1
    counters[key] += amount
    return key


class TlsTap:
    """See ``context.Tap``. It is made when the first bytes of a connection are known to be TLS."""

    __slots__ = ("_counters", "_reader", "_received", "_sent")

    signal = Signal.NONE
    answer = b""
    idle = False

    def __init__(self, counters: defaultdict[str, int], endpoints: Endpoints) -> None:
        self._counters = counters
        self._reader: ClientHelloReader | None = ClientHelloReader()
        port = str(endpoints.server_port)
        count(counters, "tls_connections", port)
        self._sent = count(counters, "tls_sent_bytes", port, 0)
        self._received = count(counters, "tls_received_bytes", port, 0)

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        self._counters[self._sent] += len(data)
        reader = self._reader
        if reader is not None:
            reader.feed(data)
            if reader.done:
                self._reader = None
                self._name(reader.hello or ClientHello())
        return data

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        self._counters[self._received] += len(data)
        return data

    def _name(self, hello: ClientHello) -> None:
        count(self._counters, "tls_server_names", hello.server_name or "none")
        first = hello.alpn[0] if hello.alpn else "none"
        self._counters["tls_alpn:" + (first if first in _KNOWN_ALPN or first == "none" else "other")] += 1

    def bulk(self, *, client: bool) -> int:
        """All, once the hello has been read."""
        return 0 if client and self._reader is not None else _UNBOUNDED

    def passed(self, size: int, *, client: bool) -> None:
        """See ``Tap``."""
        self._counters[self._sent if client else self._received] += size

    def timeout(self) -> bytes:
        """Nothing is held."""
        return b""

    def take_held(self) -> bytes:
        """Nothing is held."""
        return b""

    def take_kept(self) -> bytes:
        """Nothing is held."""
        return b""

    def client_eof(self) -> bytes:
        """Nothing is held."""
        return b""

    def server_eof(self) -> bytes:
        """Nothing is held."""
        return b""

    def drain(self, *, patient: bool) -> bytes:  # noqa: ARG002
        """There is nothing that could be said in clear text."""
        return b""

    def record_open(self, before_ns: int) -> None:
        """It is not known what is open."""

    def close(self, error: ErrorType) -> None:  # noqa: ARG002
        """A hello that never became complete has no name."""
        if self._reader is not None:
            self._reader = None
            self._name(ClientHello())
