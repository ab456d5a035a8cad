"""What a connection speaks, as far as it decides who serves it: this worker's taps, or the mitm worker."""

from collections import defaultdict

from sp_proxy.core.exchange import Direction
from sp_proxy.patterns import compile_pattern
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.handoff import HandOver, HandOverSender
from sp_proxy.taps.claims import Claims
from sp_proxy.taps.context import Endpoints, Tap, TapContext
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.proxy_front import ProxyFront
from sp_proxy.taps.sniff import HandOverRules, Interception, SniffTap
from sp_proxy.taps.tls import TlsTap

_TLS = b"\x16\x03"
_NOTHING = HandOverRules()


class Detection:
    """One per worker. Raises ValueError for a pattern that is no regular expression."""

    def __init__(self, config: WorkerConfig) -> None:
        self._sender = HandOverSender(config.handover_fd, config.engine_state_fd) if config.handover_fd >= 0 else None
        self._rules = config.hand_over if self._sender is not None else _NOTHING
        self._interception = Interception(self._rules.tls_intercept, self._rules.tls_never, compile_pattern)
        self._claims = Claims(self._rules.hosts, compile_pattern)
        self._max_head_size = config.max_head_size

    def first_tap(self, endpoints: Endpoints) -> SniffTap:
        """For a connection of which nothing is known."""
        return SniffTap(self._rules, self._interception, endpoints.server_address, self._max_head_size, self._claims)

    def proxy_front(self, counters: defaultdict[str, int]) -> ProxyFront:
        """For a connection to the explicit proxy."""
        return ProxyFront(
            self._rules, counters, self._max_head_size, engine=self._sender is not None, claims=self._claims
        )

    @staticmethod
    def next_tap(context: TapContext, endpoints: Endpoints, held: bytes) -> Tap:
        """For a connection that stays here; ``held``: what its client has said."""
        if held.startswith(_TLS):
            context.went_raw("tls", endpoints.server_port)
            return TlsTap(context, endpoints.server_port)
        return Http1Tap(context, endpoints)

    def hand_over(
        self,
        counters: defaultdict[str, int],
        fileno: int,
        direction: Direction,
        endpoints: Endpoints,
        prefix: bytes,
        *,
        redirected: bool,
    ) -> bool:
        """Send the client's socket to the mitm worker. False, and counted: it must be served here."""
        if self._sender is None:
            return False
        client = (endpoints.client_address, endpoints.client_port)
        destination = (endpoints.server_address, endpoints.server_port)
        refusal = self._sender.send(fileno, HandOver(direction, client, destination, prefix, redirected=redirected))
        counters["handed_over" if refusal is None else "hand_over_refused:" + refusal] += 1
        return refusal is None
