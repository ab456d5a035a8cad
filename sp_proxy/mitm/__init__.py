"""The mitmproxy worker: intercepted TLS, explicit proxy, WebSocket messages. The only room that imports mitmproxy."""
