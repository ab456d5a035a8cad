"""mitmproxy's options as we need them. Those that its own server addon would declare are declared here instead.

What differs from its defaults, and why, stands beside it; everything else is its default.
"""

from typing import cast

from mitmproxy.addonmanager import Loader
from mitmproxy.options import Options

_TEXT = cast("type[str]", str | None)  # what mitmproxy's own addons pass, against its annotation
_NEVER_SECONDS = 10 * 365 * 86400
"""Connections end when their ends do. A timer of an event loop takes ten years."""


class ProxyOptions:
    """An addon that declares what mitmproxy's layers ask for."""

    def load(self, loader: Loader) -> None:
        """Called by mitmproxy when the addon is added."""
        loader.add_option("connection_strategy", str, "eager", "Lazy hangs where the server speaks first.")
        loader.add_option("validate_inbound_headers", bool, True, "It rewrites messages: an ambiguous one is refused.")
        loader.add_option("normalize_outbound_headers", bool, True, "Lower-case names in HTTP/2.")
        loader.add_option("keep_host_header", bool, True, "Only for its reverse mode.")
        loader.add_option("store_streamed_bodies", bool, False, "Bodies are teed, never kept whole.")
        loader.add_option("stream_large_bodies", _TEXT, None, "Our addon streams everything.")
        loader.add_option("body_size_limit", _TEXT, None, "A body has no limit.")


def proxy_options(trusted_file: str) -> Options:
    """Options before the addon is added; ``trusted_file``: as in ``config.TlsConfig``."""
    return Options(
        # Pings on their own would make a gRPC server close the connection (ENHANCE_YOUR_CALM).
        http2_ping_keepalive=0,
        tcp_timeout=_NEVER_SECONDS,
        # WebSocket connections pass as bytes, watched by a tap: its layer cuts and compresses messages anew.
        websocket=False,
        rawtcp=True,
        ssl_insecure=False,
        ssl_verify_upstream_trusted_ca=trusted_file or None,
        # An origin's certificate lends its names to ours, so that a client sees those it expects.
        upstream_cert=True,
        http3=False,
    )
