"""Answer from the proxy, without the server; and wait without blocking others (async hooks)."""

import asyncio

from mitmproxy import http


async def request(flow: http.HTTPFlow) -> None:
    if flow.request.path == "/reply":
        await asyncio.sleep(0.05)
        flow.response = http.Response.make(418, b"from the proxy", {"content-type": "text/plain"})
