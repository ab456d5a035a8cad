"""Whose TLS is opened, with which certificates, and who did not accept ours.

A client that rejects our certificate pins another one or does not trust our authority: its next connection to the same name
is passed through, untouched, for a while.
"""

import time
from collections import defaultdict
from collections.abc import Callable

import structlog
from mitmproxy.addons.tlsconfig import TlsConfig as MitmproxyTls
from mitmproxy.certs import CertStore
from mitmproxy.tls import ClientHelloData, TlsData

from sp_proxy.mitm.config import TlsConfig
from sp_proxy.mitm.live import Connections
from sp_proxy.patterns import compile_pattern
from sp_proxy.taps.sniff import Interception
from sp_proxy.taps.tls import count_connection, count_hello
from sp_proxy.taps.tls_hello import ClientHello

MAX_REMEMBERED = 1024
LOGGED_FAILURES = 20
"""Failures of one kind in one life that are logged; all are counted."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Certificates(MitmproxyTls):
    """mitmproxy's addon, with the authority of our own settings in the place of its own."""

    def __init__(self, store: CertStore | None) -> None:
        if store is not None:
            self.certstore = store

    def configure(self, updated: set[str]) -> None:
        """Nothing: its own would make an authority in the user's home."""

    def running(self) -> None:
        """Likewise."""


class Rejections:
    """Clients that did not accept our certificate, by address and server name. ``now`` is monotonic."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[tuple[str, str], float] = {}

    def remember(self, client: str, server_name: str, now: float) -> bool:
        """Whether its next connection to that name will be passed through."""
        if not self._seconds:
            return False
        self._until.pop((client, server_name), None)
        if len(self._until) >= MAX_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[client, server_name] = now + self._seconds
        return True

    def has(self, client: str, server_name: str, now: float) -> bool:
        """Whether to pass it through."""
        until = self._until.get((client, server_name))
        if until is None:
            return False
        if until <= now:
            del self._until[client, server_name]
            return False
        return True


class TlsPolicy:
    """The addon that decides; ``Certificates`` does the rest."""

    def __init__(
        self,
        config: TlsConfig,
        connections: Connections,
        counters: defaultdict[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._counters = counters
        self._clock = clock
        self._interception = Interception(config.intercept, config.never, compile_pattern)
        self._rejections = Rejections(config.remember_rejections)

    def tls_clienthello(self, data: ClientHelloData) -> None:
        """Open it, or let it pass."""
        context = data.context
        client = context.client
        name = self._name(data)
        offered = data.client_hello.alpn_protocols
        hello = ClientHello(name, tuple(each.decode("latin-1") for each in offered))
        if not self._interception.applies(hello, name):
            reason = "not_configured"
        elif self._rejections.has(_host(client.peername), name, self._clock()):
            reason = "certificate_rejected"
        else:
            data.establish_server_tls_first = True
            self._counters["tls_intercepted"] += 1
            return
        self._counters["tls_passed_through:" + reason] += 1
        data.ignore_connection = True
        live = self._connections.get(client.id)
        if live is not None:
            live.raw = True
            port = (context.server.address or ("", 0))[1]
            live.context.went_raw("tls", port)
            count_connection(live.context, port)
            count_hello(live.context, hello)

    def tls_failed_client(self, data: TlsData) -> None:
        """Our certificate was not accepted, or the client speaks a TLS that we do not."""
        self._counters["tls_failed:client"] += 1
        client, server = data.context.client, data.context.server
        name = client.sni or _host(server.address)
        if not data.conn.error or server.error:
            return
        passed = self._rejections.remember(_host(client.peername), name.lower(), self._clock())
        if self._counters["tls_failed:client"] <= LOGGED_FAILURES:
            consequence = "its next connection is passed through" if passed else "it will fail again"
            log.warning("tls_client_failed", server_name=name, reason=data.conn.error, consequence=consequence)

    def tls_failed_server(self, data: TlsData) -> None:
        """The origin's certificate is not valid for its name, or it speaks no TLS."""
        self._counters["tls_failed:server"] += 1
        if self._counters["tls_failed:server"] <= LOGGED_FAILURES:
            name = data.context.client.sni or _host(data.context.server.address)
            log.warning("tls_server_failed", server_name=name, reason=data.conn.error)

    @staticmethod
    def _name(data: ClientHelloData) -> str:
        name = data.client_hello.sni or _host(data.context.server.address)
        return name.lower().rstrip(".")


def _host(address: tuple[str, int] | None) -> str:
    return address[0] if address else ""
