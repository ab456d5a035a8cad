"""A mitmproxy addon: cleartext HTTP/2 with prior knowledge, which stock mitmproxy takes for HTTP/1 and refuses."""

from mitmproxy.proxy.layer import NextLayer


class CleartextHttp2:
    """Both ends speak HTTP/2; this must be known before the HTTP layer is chosen."""

    def next_layer(self, data: NextLayer) -> None:
        data.context.client.alpn = b"h2"
        data.context.server.alpn = b"h2"


addons = [CleartextHttp2()]
