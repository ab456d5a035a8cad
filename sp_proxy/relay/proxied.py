"""What a connection to the explicit proxy needs beside its two ends: where it may go, and which tap serves what was asked for."""

import socket
from collections.abc import Sequence

from msgspec import structs

from sp_proxy.relay.listener import Listener
from sp_proxy.taps.context import Endpoints, TapContext
from sp_proxy.taps.http1_proxy import ProxyTap
from sp_proxy.taps.proxy_front import ProxyFront

_MAPPED = "::ffff:"


def elsewhere(addresses: Sequence[tuple[str, int]], listener: Listener, client: socket.socket) -> list[tuple[str, int]]:
    """The addresses to which a client may be connected: not to the proxy itself, which would be asked for itself for ever.

    IPv4 addresses in the clothes of IPv6 are undressed, so that the loop guard knows their connections again.
    """
    plain = [(host.removeprefix(_MAPPED) if "." in host else host, port) for host, port in addresses]
    try:
        local = client.getsockname()[:2]
    except OSError:  # it has been reset
        return []
    return [address for address in plain if not listener.leads_here(address, local)]


def at(endpoints: Endpoints, server: tuple[str, int]) -> Endpoints:
    """The same client with another server."""
    return structs.replace(endpoints, server_address=server[0], server_port=server[1])


def tap_for(
    front: ProxyFront, context: TapContext, endpoints: Endpoints, upstream: socket.socket
) -> tuple[Endpoints, ProxyTap | None]:
    """The ends of a connection whose origin is connected, and what serves its requests; None for a tunnel."""
    try:
        ends = at(endpoints, upstream.getpeername()[:2])
    except OSError:  # it has been reset
        ends = at(endpoints, front.destination)
    return ends, None if front.tunnel or front.named is None else ProxyTap(context, ends, front.named)


def record_unreachable(front: ProxyFront, context: TapContext, endpoints: Endpoints) -> None:
    """Make the record of a request whose origin cannot be reached; a CONNECT is no exchange of ours."""
    if not front.tunnel and front.named is not None:
        tap = ProxyTap(context, at(endpoints, front.destination), front.named)
        tap.client(front.take_held())
        tap.close("upstream_unreachable")
