"""Golden exchanges: what the SP-Istio filter did (``exchanges.json``), and where sp_proxy deliberately differs.

``exchanges.json`` holds 61 exchanges which were sent through the real filter (version 0.0.21, in Envoy 1.40), one at a
time. Each has the plugin ``config`` in force, ``request`` and ``response`` (bodies as ``text`` or ``base64``),
``upstream_request_headers`` and ``downstream_response_headers`` in order, and the ``uploads`` decoded from OTLP (ids as
hex, times left out; empty where nothing was captured). Envoy's own headers have been taken out.

``DIFFERENCES`` is the one table of deliberate differences; every compatibility test reads it, and none excuses
anything by itself.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY_CASE = "*"


@dataclass(frozen=True)
class Difference:
    """One deliberate difference, and what it changes in the records."""

    filter_does: str
    sp_proxy_does: str
    captured: bool | None = None
    """What sp_proxy decides, where it differs from the filter."""
    refused_at_start: bool = False
    attributes: dict[str, str] | None = None
    """Span attributes as sp_proxy sends them, where the value is not the filter's."""
    service_name: str = ""
    """The name in the span and its resource, where it is not the filter's."""
    replaced: tuple[str, ...] = ()
    """Request headers that the filter adds beside the caller's, and sp_proxy in place of it."""
    new_identity: bool = False
    """Trace and parent ids are not the filter's, nor are the headers made of them."""


DIFFERENCES: dict[str, Difference] = {
    EVERY_CASE: Difference(
        "span kind SERVER, status OK; adds no service name headers (a Lua script beside it does)",
        "kind by direction, status by outcome; adds `x-sp-service-name` and the `compat_headers`",
    ),
    "direction-absent": Difference(
        "direction `auto`, since it cannot tell",
        "the exchange's own direction",
        attributes={"sp.traffic.direction": "inbound"},
    ),
    "duplicate-headers": Difference(
        "last value wins",
        "values joined with `, `",
        attributes={"http.request.header.x-dup": "1, 2", "http.response.header.x-r": "1, 2"},
    ),
    "sp-num-garbage": Difference("a second `x-sp-num` is added", "the header is replaced", replaced=("x-sp-num",)),
    "sp-num-present": Difference("a second `x-sp-num` is added", "the header is replaced", replaced=("x-sp-num",)),
    "response-traceparent": Difference(
        "adds a second `traceparent` to the response", "the same (clients may rely on it)"
    ),
    "static-extension-query": Difference(
        "captured, since the query hides the extension", "not captured", captured=False
    ),
    "client-rule-with-exclude-key": Difference("`exclude` is ignored", "honoured: not captured", captured=False),
    "invalid-regex-exact": Difference("falls back to string equality", "refused at start", refused_at_start=True),
    "traceparent-only": Difference(
        "starts a new trace (the header is never read)", "continues the caller's trace", new_identity=True
    ),
    "service-name-header": Difference(
        "trusts the request's header", "own name wins, the header is the last resort", service_name="default-service"
    ),
    "service-name-config": Difference(
        "forwards the caller's `x-sp-service-name`", "replaces it by its own name (contract section 3)"
    ),
    "patch-plus-json": Difference(
        "`+json` bodies as base64",
        "as text (contract section 4)",
        attributes={"http.request.body": '{"a":1}', "http.response.body": '{"t":1}'},
    ),
    "gzip-response": Difference(
        "compressed bytes as broken text", "decoded first", attributes={"http.response.body": '{"z":1}'}
    ),
}


def load() -> list[dict[str, Any]]:
    """All golden exchanges."""
    exchanges: list[dict[str, Any]] = json.loads(Path(__file__).with_name("exchanges.json").read_text("utf-8"))
    return exchanges


def difference(name: str) -> Difference:
    """The differences of one case; one that says nothing where the case has none of its own."""
    return DIFFERENCES.get(name, Difference("", ""))


def body(value: dict[str, str] | None) -> bytes:
    """The bytes of a recorded body."""
    if value is None:
        return b""
    return base64.b64decode(value["base64"]) if "base64" in value else value["text"].encode()


def expect_captured(exchange: dict[str, Any]) -> bool:
    """Whether sp_proxy captures this exchange."""
    own = difference(exchange["name"]).captured
    return bool(exchange["uploads"]) if own is None else own


def attributes(recorded: list[dict[str, Any]]) -> dict[str, str]:
    """Recorded OTLP attributes as name and value (integers as they stand in OTLP's JSON: text)."""
    return {one["key"]: next(iter(one["value"].values())) for one in recorded}
