"""What the contract (sections 3 and 4) demands of one exchange, checked from both of its ends: the header fields that the
application saw, and what arrived in the backend.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

NEVER_SENT = {
    *("authorization", "cookie", "set-cookie", "x-public-key", "x-auth-token", "bearer", "proxy-authorization"),
}
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


def joined(fields: Iterable[Iterable[str]]) -> dict[str, str]:
    """Fields by lower-case name; repeated ones joined."""
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name.lower(), []).append(value)
    return {name: ", ".join(each) for name, each in values.items()}


def check_injected(seen: Mapping[str, str], service: str, hops: int = 1) -> None:
    """The application saw what section 3 adds, once each."""
    assert seen["x-sp-service-name"] == seen["x-service-name"] == service
    assert seen["x-current-service"] == f"{service}-workload"
    assert seen["x-sp-num"] == str(hops)
    assert _TRACEPARENT.fullmatch(seen["traceparent"])
    own, *others = seen["tracestate"].split(",")
    assert re.fullmatch(f"x-sp-traceparent={_TRACEPARENT.pattern}", own)
    assert len([member for member in others if member.startswith("x-sp-session-id=")]) == 1
    assert not [member for member in others if member.startswith("x-sp-traceparent=")]


def check_identity(exchange: Mapping[str, Any], seen: Mapping[str, str]) -> None:
    """The span is the one whose ids the application saw."""
    members = dict(member.split("=", 1) for member in seen["tracestate"].split(","))
    assert members["x-sp-traceparent"] == f"00-{exchange['trace_id']}-{exchange['span_id']}-01"
    assert members["x-sp-session-id"] == exchange["session_id"]
    assert exchange["attributes"]["sp.session.id"] == exchange["session_id"]


def check_span(exchange: Mapping[str, Any], direction: str, service: str, status: int) -> None:
    """Section 4, what does not depend on the message."""
    attributes = exchange["attributes"]
    failed = status >= 500 or (status >= 400 and direction == "outbound")
    expected = {
        "sp.span.type": "extract",
        "sp.service.name": service,
        "sp.traffic.direction": direction,
        "http.response.status_code": status,
        "http.response.header.:status": str(status),
        "http.request.header.:scheme": "http",
        "http.request.method": exchange["method"],
        "http.request.header.:method": exchange["method"],
        "http.request.header.:path": exchange["path"],
        "url.path": exchange["path"],
        "http.request.header.:authority": exchange["host"],
        "url.host": exchange["host"],
        "url.scheme": "http",
        "url.full": f"http://{exchange['host']}{exchange['path']}",
        "network.protocol.name": "http",
    }
    assert {name: attributes[name] for name in expected} == expected
    assert exchange["name"] == exchange["path"]
    assert exchange["kind"] == ("server" if direction == "inbound" else "client")
    assert exchange["span_status"] == ("error" if failed else "unset")
    assert attributes.get("error.type", "") == (str(status) if failed else "")
    assert exchange["duration_ns"] > 0
    assert 0 <= attributes["sp.ttfb_ms"] <= exchange["duration_ns"] / 1e6
    resource = exchange["resource"]
    assert resource["service.name"] == service
    assert resource["sp.resource.type"] == "sp-envoy-proxy"


def check_request_headers(exchange: Mapping[str, Any], seen: Mapping[str, str]) -> None:
    """Captured as forwarded: what the application saw, but for what is never sent, and ``host``, which is the authority."""
    captured = dict(exchange["request"]["headers"])
    assert captured == {name: value for name, value in seen.items() if name not in NEVER_SENT | {"host", ":authority"}}
