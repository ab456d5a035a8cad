"""Faults for testing: delay a request, or answer it with an error, as its ``x-fault`` header asks. A flow script.

    addons: {flows: [{file: addons/fault.py, hosts: ["^inventory"]}]}

``x-fault: delay=250`` waits 250 ms, ``x-fault: abort=503`` answers 503, ``x-fault: reset`` closes the connection.
"""

import asyncio

from mitmproxy import http

MAX_DELAY = 60_000


async def request(flow: http.HTTPFlow) -> None:
    """Do what the header asks; it goes no further."""
    kind, _, value = flow.request.headers.pop("x-fault", "").partition("=")
    if kind == "delay" and value.isdigit():
        await asyncio.sleep(min(int(value), MAX_DELAY) / 1000)
    elif kind == "abort" and value.isdigit() and 200 <= int(value) <= 599:
        flow.response = http.Response.make(int(value), b"fault\n", {"content-type": "text/plain"})
    elif kind == "reset":
        flow.kill()
