"""The mitmproxy worker: intercepted TLS, WebSocket messages, flows. The only room that imports mitmproxy."""
