"""Who may ask what of the admin server.

In a pod it listens on all addresses, as the kubelet's probes and Prometheus come from elsewhere. They may look; what
shows the settings or changes anything is for this host alone. What is open is listed, so that a new endpoint is not open.

A browser on this host can be made to ask by any page that it shows. What such a page of another site asks is refused too,
also where its name was made to lead here (DNS rebinding): such a request has a ``Host`` that is no address of ours.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sp_proxy.backend.guard import Guard

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
        reason = ""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            if not is_this_host(scope.get("client"), scope.get("server")):
                reason = "only for clients on this host"
            elif is_foreign_page(scope["method"], Headers(scope=scope)):
                reason = "not for pages of other sites"
        app = JSONResponse({"error": reason}, status_code=403) if reason else self._app
        await app(scope, receive, send)


def is_this_host(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> bool:
    """Whether a connection is one of this host with itself: over loopback, or from the very address that it went to."""
    if client is None:
        return False
    address = _plain(client[0])
    return address in _LOOPBACK or (address != "" and server is not None and address == _plain(server[0]))


def is_foreign_page(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a page of another site made a browser ask. Programs send none of what tells a browser."""
    agent = headers.get("user-agent", "")
    if "origin" not in headers and "sec-fetch-site" not in headers and not agent.startswith("Mozilla/"):
        return False
    named = not _plain(headers.get("host", "").rpartition(":")[0].strip("[]"))  # not an address
    return Guard(loopback=named).refuse_foreign(method, headers, navigation=False) is not None


def _plain(text: str) -> str:
    """Without a zone, and IPv4 as itself."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
