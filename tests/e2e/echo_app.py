"""An application that tells what it saw: an ASGI app for Hypercorn, a process of its own.

It answers every request with JSON: method, target, header fields in their order, and the body. With ``/call?URL`` it
fetches the URL, as a service that calls another one, and hands on the tracing headers which it got.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import httpx

HANDED_ON = {b"traceparent", b"tracestate"}
"""What an instrumented application hands on: trace context as W3C has it."""

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    seen: dict[str, Any] = {
        "method": scope["method"],
        "target": target.decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    if scope["path"] == "/call":
        url = unquote(scope["query_string"].decode())
        seen["called"] = await asyncio.to_thread(call, url, scope["headers"])
    answer = json.dumps(seen).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def call(url: str, headers: list[tuple[bytes, bytes]]) -> Any:
    handed_on = [(name, value) for name, value in headers if name in HANDED_ON]
    return httpx.get(url, headers=handed_on, trust_env=False).raise_for_status().json()
