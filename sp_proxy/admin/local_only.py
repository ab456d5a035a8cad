"""Who may ask what of the admin server.

In a pod it listens on all addresses, as the kubelet's probes and Prometheus come from elsewhere. They may look; what
shows the settings or changes anything is for this host alone. What is open is listed, so that a new endpoint is not open.
"""

from ipaddress import IPv6Address, ip_address

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = frozenset({"/healthz/live", "/healthz/ready", "/metrics", "/status"})
"""Health and numbers, for everybody who reaches the port."""
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
"""Exactly: from 127.0.0.6 Istio's Envoy hands on what comes from the network."""


class LocalOnly:
    """ASGI middleware: 403 for whoever is not on this host, but for ``OPEN``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http" or scope["path"] in OPEN or is_this_host(scope.get("client"), scope.get("server")):
            await self._app(scope, receive, send)
            return
        answer = JSONResponse({"error": "only for clients on this host"}, status_code=403)
        await answer(scope, receive, send)


def is_this_host(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> bool:
    """Whether a connection is one of this host with itself: over loopback, or from the very address that it went to."""
    if client is None:
        return False
    address = _plain(client[0])
    return address in _LOOPBACK or (address != "" and server is not None and address == _plain(server[0]))


def _plain(text: str) -> str:
    """Without a zone, and IPv4 as itself."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
