"""The tap of TLS that is passed through: counts connections and bytes by port, and names what clients ask for.

Nothing is held and nothing is changed. Labels come from the network, so ``labels`` decides which there are.
"""

from typing import Final

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps.context import Signal, TapContext
from sp_proxy.taps.tls_hello import ClientHello, ClientHelloReader

_KNOWN_ALPN: Final = frozenset(
    ("h2", "http/1.1", "http/1.0", "h3", "spdy/3.1", "postgresql", "mqtt", "istio", "acme-tls/1")
)
_UNBOUNDED: Final = 1 << 62


def count_connection(context: TapContext, port: int) -> str:
    """Count a connection whose TLS passes unread; the label of its port."""
    label = context.labels.label("tls_ports", str(port))
    context.counters["tls_connections:" + label] += 1
    return label


def count_hello(context: TapContext, hello: ClientHello) -> None:
    """Count what its client says."""
    label = context.labels.label("tls_server_names", hello.server_name or "none")
    context.counters["tls_server_names:" + label] += 1
    first = hello.alpn[0] if hello.alpn else "none"
    context.counters["tls_alpn:" + (first if first in _KNOWN_ALPN or first == "none" else "other")] += 1


class TlsTap:
    """See ``context.Tap``. It is made when the first bytes of a connection are known to be TLS."""

    __slots__ = ("_context", "_reader", "_received", "_sent")

    signal = Signal.NONE
    answer = b""
    idle = False

    def __init__(self, context: TapContext, port: int) -> None:
        self._context = context
        self._reader: ClientHelloReader | None = ClientHelloReader()
        label = count_connection(context, port)
        self._sent = "tls_sent_bytes:" + label
        self._received = "tls_received_bytes:" + label

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        self._context.counters[self._sent] += len(data)
        reader = self._reader
        if reader is not None:
            reader.feed(data)
            if reader.done:
                self._reader = None
                count_hello(self._context, reader.hello or ClientHello())
        return data

    def server(self, data: bytes) -> bytes:
        """See ``Tap``."""
        self._context.counters[self._received] += len(data)
        return data

    def bulk(self, *, client: bool) -> int:
        """All, once the hello has been read."""
        return 0 if client and self._reader is not None else _UNBOUNDED

    def passed(self, size: int, *, client: bool) -> None:
        """See ``Tap``."""
        self._context.counters[self._sent if client else self._received] += size

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
            count_hello(self._context, ClientHello())
