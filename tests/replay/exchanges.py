"""Exchanges as the backend's API answers them, for the tests of replay and mock."""

import json
from typing import Any

from sp_proxy.replay.recorded import Recorded, read


def api(**changes: Any) -> dict[str, Any]:
    """One exchange in full. ``request`` and ``response`` are what is changed of the messages."""
    request, response = changes.pop("request", {}), changes.pop("response", {})
    return {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "session_id": "session-1",
        "start_unix_ns": 1_700_000_000_000_000_000,
        "duration_ns": 12_000_000,
        "ttfb_ms": 4.5,
        "service": "orders",
        "direction": "inbound",
        "method": "GET",
        "scheme": "http",
        "host": "shop.local:8080",
        "path": "/api/orders?id=7",
        "status": 200,
        "error": "",
        "partial": False,
        "truncated": False,
        "attributes": {},
        "request": {"headers": [["accept", "*/*"]], "body": None, "size": 0, **request},
        "response": {"headers": [["content-type", "application/json"]], "body": None, "size": 0, **response},
        **changes,
    }


def body(data: Any, *, encoding: str = "text") -> dict[str, Any]:
    """The body of a message, and its size."""
    text = data if isinstance(data, str) else json.dumps(data)
    return {"body": {"encoding": encoding, "data": text, "content_type": ""}, "size": len(text.encode())}


def recorded(**changes: Any) -> Recorded:
    return read(api(**changes))


def answering(value: Any, content_type: str = "application/json", **changes: Any) -> Recorded:
    """One whose answer has this body."""
    return recorded(response={"headers": [["content-type", content_type]], **body(value)}, **changes)
