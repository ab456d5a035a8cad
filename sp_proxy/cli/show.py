"""``sp-proxy show``: one exchange, trace or session in full."""

import json
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.asking import (
    FAILED,
    UrlOption,
    asking,
    console,
    duration,
    exchange_line,
    moment,
    size,
    status_style,
)
from sp_proxy.cli.options import ConfigOption, SetOption, say
from sp_proxy.terminal import safe

if TYPE_CHECKING:
    from rich.text import Text

    from sp_proxy.backend.client import Client

_TAG = "sp.tag."
_SPAN = re.compile(r"[0-9a-fA-F]{16}")
_TRACE = re.compile(r"[0-9a-fA-F]{32}")


class Form(StrEnum):
    """How it may be shown."""

    TEXT = "text"
    JSON = "json"
    HAR = "har"
    CURL = "curl"
    HTTPIE = "httpie"
    OTLP = "otlp"
    JSONL = "jsonl"


def show(
    identity: Annotated[str, typer.Argument(metavar="ID", help="A span id, a trace id, or a session id.")],
    form: Annotated[Form, typer.Option("--as", help="Text for a person, the API's JSON, or an export.")] = Form.TEXT,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Print an exchange in full (by its span id), a trace as a call tree with its log records, or a session.

    Exit codes: 0, or 1 when there is none of this id or nobody answers.
    """
    with asking(url, config, assignments) as client:
        if form not in {Form.TEXT, Form.JSON}:
            _export(client, identity, form)
            return
        found = _find(client, identity)
        if found is None:
            say(f"there is no span, trace or session of the id {safe(identity)[:200]}")
            raise typer.Exit(FAILED)
        if form is Form.JSON:
            print(json.dumps(found))
            return
        out = console()
        for line in _lines(found):
            out.print(line)


def _find(client: "Client", identity: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    if _SPAN.fullmatch(identity):
        found = client.get(f"/exchanges/{identity}") or client.get(f"/spans/{identity}")
    elif _TRACE.fullmatch(identity):
        found = client.get(f"/traces/{identity}")
        if found is not None:
            found["logs"] = client.get("/logs", trace=identity, limit=1000)["logs"]
    if found is None:
        from urllib.parse import quote

        found = client.get(f"/sessions/{quote(identity, safe='')}")
    return found


def _export(client: "Client", identity: str, form: Form) -> None:
    if _SPAN.fullmatch(identity):
        query = f"span:{identity}"
    elif _TRACE.fullmatch(identity):
        query = f"trace:{identity}"
    else:
        from sp_proxy.backend.query.syntax import Match, exactly, text_of

        query = text_of(Match("session", exactly(identity)))
    client.download(form, query, sys.stdout.buffer.write)
    sys.stdout.buffer.flush()


def _lines(found: dict[str, Any]) -> Iterator["str | Text"]:
    if "roots" in found:
        yield from _trace(found)
    elif "exchanges" in found:
        yield from _session(found)
    elif "request" in found:
        yield from _exchange(found)
    else:
        yield from _span(found)


def _exchange(found: dict[str, Any]) -> Iterator["str | Text"]:
    from rich.text import Text

    yield exchange_line(found)
    yield f"trace {found['trace_id']}  span {found['span_id']}  session {safe(found['session_id'])}"
    if found["ttfb_ms"] is not None:
        yield f"first byte after {found['ttfb_ms']:g}ms, all after {duration(found['duration_ns'])}"
    if found["name"] not in {"", found["path"], found["path"].partition("?")[0]}:
        yield f"name {safe(found['name'])}"
    tags = {name.removeprefix(_TAG): value for name, value in found["attributes"].items() if name.startswith(_TAG)}
    if tags:
        yield "tags " + "  ".join(f"{safe(name)}={safe(str(value))}" for name, value in tags.items())
    yield ""
    yield Text.assemble((f"{safe(found['method'])} {safe(found['path'])}", "bold"))
    yield from _message(found["request"])
    yield ""
    status = found["status"] or f"no response: {safe(found['error'])}"
    yield Text.assemble((str(status), status_style(found)))
    yield from _message(found["response"])
    if found["truncated"]:
        yield "(a body is longer than what was captured of it)"


def _message(message: dict[str, Any]) -> Iterator["str | Text"]:
    from rich.text import Text

    for name, value in message["headers"]:
        yield Text.assemble((safe(name), "cyan"), f": {safe(value)}")
    body = message["body"]
    if body is None:
        return
    yield ""
    if body["encoding"] == "text":
        yield safe(body["data"], lines=True)
    else:
        yield f"({size(message['size'])} that are no text)"


def _span(found: dict[str, Any]) -> Iterator["str | Text"]:
    yield f"{moment(found['start_unix_ns'])} {safe(found['service'])}: {safe(found['name'])} ({found['kind']})"
    yield f"trace {found['trace_id']}  span {found['span_id']}  {duration(found['duration_ns'])}"
    for name, value in {**found["resource"], **found["attributes"]}.items():
        yield f"{safe(name)}: {safe(value if isinstance(value, str) else json.dumps(value))}"


def _trace(found: dict[str, Any]) -> Iterator["str | Text"]:
    from rich.text import Text

    yield f"trace {found['trace_id']}: {found['spans']} spans, {duration(found['duration_ns'])}"
    waiting = [(node, 0) for node in reversed(found["roots"])]
    while waiting:
        node, depth = waiting.pop()
        span = node["span"]
        if span["exchange"]:
            yield Text("  " * depth).append_text(exchange_line(span["exchange"]))
        else:
            line = f"{moment(span['start_unix_ns'])}    - {safe(span['service'])}: {safe(span['name'])}"
            yield f"{'  ' * depth}{line}  {duration(span['duration_ns'])}"
        waiting += [(child, depth + 1) for child in reversed(node["children"])]
    if found["logs"]:
        yield ""
    for log in reversed(found["logs"]):
        severity = safe(log["severity_text"]) or str(log["severity"])
        yield f"{moment(log['time_unix_ns'])} {safe(log['service'])} {severity}: {safe(log['body'])}"


def _session(found: dict[str, Any]) -> Iterator["str | Text"]:
    session = found["session"]
    yield (
        f"session {safe(session['session_id'])}: {session['exchanges']} exchanges, {session['errors']} errors,"
        f" {', '.join(map(safe, session['services']))}"
    )
    for exchange in found["exchanges"]:
        yield exchange_line(exchange)
    if found["truncated"]:
        yield "(there are more)"
