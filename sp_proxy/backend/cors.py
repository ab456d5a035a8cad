"""CORS (the Fetch standard's): pages of configured origins may send and ask from a browser. Off unless there are some.

No credentials of the browser's own are allowed: such a page sends the token itself.
"""

from collections.abc import Mapping

from sp_proxy.backend.guard import Guard

MAX_AGE = 600
"""Seconds for which a browser may remember a preflight's answer."""
HEADERS = "authorization, content-type, content-encoding, x-public-key, traceparent, tracestate"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks if it may ask."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def cors_headers(guard: Guard, headers: Mapping[str, str]) -> dict[str, str]:
    """What an answer has to say for the page to see it."""
    if not guard.allowed_origins:
        return {}
    vary = {"vary": "origin"}
    if not guard.allows_origin(headers):
        return vary
    allowed = {
        "access-control-allow-origin": headers["origin"],
        "access-control-expose-headers": "retry-after, content-disposition",
    }
    if "access-control-request-method" in headers:
        allowed |= {
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": HEADERS,
            "access-control-max-age": str(MAX_AGE),
        }
    return vary | allowed
