"""What the tools do, by way of a client of the backend: questions in, bounded JSON out. Blocking; no protocol in here.

Raises AskError for what the backend refuses, ToolError for the rest: one line each.
"""

import re
from functools import partial
from typing import Any, Literal, get_args

import trio
from msgspec import Struct, to_builtins

from sp_proxy.backend.client import Client
from sp_proxy.core.exchange import Direction
from sp_proxy.core.explanation import Request, explain
from sp_proxy.core.redaction import Redaction
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.mcp.bounds import MAX_BODY, cut, told, trimmed
from sp_proxy.patterns import compile_pattern
from sp_proxy.replay.prepare import Changes
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.recorded import read
from sp_proxy.replay.rules import File, RuleBook, with_options
from sp_proxy.replay.run import Options, Report, replay

Way = Literal["inbound", "outbound"]
MAX_LISTED = 100
MAX_SPANS = 500
_SPAN = re.compile(r"[0-9a-fA-F]{16}")
_TRACE = re.compile(r"[0-9a-fA-F]{32}")
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_LISTED = (
    *("span_id", "trace_id", "session_id", "start_unix_ns", "duration_ns", "service", "direction", "peer"),
    *("method", "host", "path", "status", "error", "failed", "partial"),
)
_OF_TRACE = ("trace_id", "spans", "services", "start_unix_ns", "duration_ns", "errors", "truncated", "spent")


class ToolError(Exception):
    """A question that cannot be answered, in one line."""


class Replaying(Struct, frozen=True):
    """Where exchanges may be sent again, which whoever started the server has decided."""

    changes: Changes
    file: File
    redaction: Redaction


class Tools:
    """The tools. ``replaying`` None: nothing is sent anywhere."""

    def __init__(self, client: Client, policy: PolicyConfig, replaying: Replaying | None = None) -> None:
        self._client = client
        self._policy = policy
        self.replaying = replaying

    def list_services(self, since: str = "-1h") -> str:
        """Services that were seen, and who called whom."""
        found = self._client.get("/map", since=since)
        edges = found["edges"]
        names = sorted({edge[end] for edge in edges for end in ("source", "target")} - {""})
        services = [
            {
                "service": cut(name),
                "requests_answered": sum(edge["requests"] for edge in edges if edge["target"] == name),
                "requests_sent": sum(edge["requests"] for edge in edges if edge["source"] == name),
                "errors_answered": sum(edge["errors"] for edge in edges if edge["target"] == name),
            }
            for name in names
        ]
        return told({"services": services, "calls": trimmed(edges)}, "services", "calls")

    def search_exchanges(self, query: str = "", limit: int = 20) -> str:
        """Exchanges that a query asks for, newest first."""
        _within("limit", limit, 1, MAX_LISTED)
        found = [
            {name: each[name] for name in _LISTED if name in each} for each in self._client.exchanges(query, limit)
        ]
        return told({"exchanges": trimmed(found)}, "exchanges")

    def get_exchange(self, span_id: str, max_body: int = 4096) -> str:
        """One exchange in full, its bodies cut."""
        _within("max_body", max_body, 0, MAX_BODY)
        found = self._exchange(span_id)
        bodies = {}
        for name in ("request", "response"):
            body = found[name].pop("body")
            if body is not None:
                bodies[f"{name}_body"] = {**trimmed(body), "data": cut(body["data"], max_body)}
        # The header fields stand in the attributes once more.
        attributes = {
            name: value
            for name, value in found.pop("attributes").items()
            if not name.startswith(("http.request.header.", "http.response.header."))
        }
        details = {"attributes": attributes, "resource": found.pop("resource"), "details": found.pop("details")}
        return told({**trimmed(found), **bodies, **trimmed(details)}, optional=("details", "resource", "attributes"))

    def get_trace(self, trace_id: str) -> str:
        """The call tree of a trace, a span a line, each with how deep it stands."""
        _identity("trace_id", trace_id, _TRACE)
        found = self._client.get(f"/traces/{trace_id}")
        if found is None:
            raise ToolError("there is no trace of this id")
        spans: list[dict[str, Any]] = []
        waiting = [(root, 0) for root in reversed(found["roots"])]
        while waiting and len(spans) < MAX_SPANS:
            node, depth = waiting.pop()
            spans.append({"depth": depth, **trimmed(_flat(node["span"]))})
            waiting += [(child, depth + 1) for child in reversed(node["children"])]
        more = {"spans_left_out": found["spans"] - len(spans)} if found["spans"] > len(spans) else {}
        logs = self._client.get("/logs", trace=trace_id, limit=50)["logs"]
        head = {name: value for name, value in found.items() if name in _OF_TRACE}
        return told({"trace": trimmed(head), **more, "call_tree": spans, "logs": trimmed(logs)}, "call_tree", "logs")

    def explain_rule(
        self,
        host: str,
        path: str = "/",
        method: str = "GET",
        direction: Way = "inbound",
        headers: dict[str, str] | None = None,
    ) -> str:
        """Whether the settings' rules would capture a request, which rule decides, and what was looked at before it."""
        if direction not in get_args(Way):
            raise ToolError("direction: allowed: inbound, outbound")
        fields = {"host": host, **(headers or {})}
        for name, value in fields.items():
            if not _FIELD_NAME.fullmatch(name) or not value.isprintable():
                raise ToolError(f"headers: {cut(name, 64)!r} is no header field")
        block = "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = Request(
            Direction(direction),
            method.encode("utf-8", "replace"),
            path.encode("utf-8", "replace"),
            host.encode("utf-8", "replace"),
            block.lower().encode("utf-8", "replace"),
        )
        try:
            found = to_builtins(explain(self._policy, request, compile_pattern))
        except ValueError as error:
            raise ToolError(str(error)) from None
        return told(trimmed(found), "steps")

    def replay_exchange(self, span_id: str, ignore: list[str] | None = None) -> str:
        """Send one captured request again, and compare the answer with the recorded one."""
        if self.replaying is None:
            raise ToolError("nothing is replayed: the server was started without --replay-to")
        recorded = read(self._exchange(span_id))
        try:
            book = RuleBook(with_options(self.replaying.file, ignore=tuple(ignore or ())))
        except ReplayError as error:
            raise ToolError(str(error)) from None
        options = Options(speed=None, concurrency=1)
        report: Report = trio.run(
            partial(replay, [recorded], self.replaying.changes, book, options, redaction=self.replaying.redaction)
        )
        outcome = report.outcomes[0]
        compared = outcome.comparison
        return told(
            {
                "to": report.to,
                "sent": not outcome.skipped,
                "reason_not_sent": outcome.skipped,
                "no_answer": cut(outcome.no_answer),
                "status": outcome.status,
                "recorded_status": recorded.status,
                "same": bool(report.sent and not outcome.differs),
                "differences": [to_builtins(each) for each in compared.differences] if compared else [],
                "notes": list(compared.notes) if compared else [],
            },
            "differences",
        )

    def _exchange(self, span_id: str) -> dict[str, Any]:
        _identity("span_id", span_id, _SPAN)
        found: dict[str, Any] | None = self._client.get(f"/exchanges/{span_id}")
        if found is None:
            raise ToolError("there is no exchange of this span id")
        return found


def _flat(span: dict[str, Any]) -> dict[str, Any]:
    """A span without what its exchange says once more."""
    exchange = span["exchange"]
    if exchange is None:
        return span
    return {**span, "exchange": {name: exchange[name] for name in _LISTED[6:] if name in exchange}}


def _identity(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        digits = 16 if pattern is _SPAN else 32
        raise ToolError(f"{name}: found {cut(value, 64)!r}; allowed: {digits} hex digits")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ToolError(f"{name}: found {value}; allowed: {low} to {high}")
