"""The uvloop worker: cleartext HTTP and everything that is only passed through. Never imports mitmproxy or trio."""
