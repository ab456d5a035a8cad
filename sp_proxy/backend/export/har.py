"""HAR 1.2 (the HTTP Archive format), entry by entry (pure). What HAR has no place for stands in fields that begin with ``_``."""

import base64
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from sp_proxy import __version__
from sp_proxy.backend.detail import BodyView, ExchangeView, MessageView
from sp_proxy.backend.model import ExchangeSummary

CREATOR = {"name": "sp_proxy", "version": __version__}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entry(summary: ExchangeSummary, view: ExchangeView) -> dict[str, Any]:
    """One exchange. Times are in milliseconds; -1 is HAR's word for what is not known."""
    total = summary.duration_ns / 1e6
    wait = view.ttfb_ms if view.ttfb_ms is not None else total
    version = f"HTTP/{view.attributes.get('network.protocol.version', '1.1')}"
    address = view.attributes.get("network.peer.address") if summary.direction == "outbound" else None
    return {
        "startedDateTime": moment(summary.start_unix_ns),
        "time": total,
        "request": _request(summary, view, version),
        "response": _response(summary, view.response, version),
        "cache": {},
        "timings": {
            "blocked": -1,
            "dns": -1,
            "connect": -1,
            "ssl": -1,
            "send": 0,
            "wait": wait,
            "receive": total - wait,
        },
        **({"serverIPAddress": str(address)} if address else {}),
        "_traceId": summary.trace_id,
        "_spanId": summary.span_id,
        "_service": summary.service,
        "_direction": summary.direction,
        "_session": summary.session_id,
        "_error": summary.error,
        "_truncated": view.truncated,
        "_partial": summary.partial,
    }


def moment(unix_ns: int) -> str:
    """A time as RFC 3339 has it, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=unix_ns // 1000)).isoformat().replace("+00:00", "Z")


def url_of(summary: ExchangeSummary, view: ExchangeView) -> str:
    """The absolute URL, as far as it can be told."""
    full = view.attributes.get("url.full")
    if isinstance(full, str) and full:
        return full
    if "://" in summary.path:
        return summary.path
    return f"{summary.scheme or 'http'}://{summary.host}{summary.path}"


def _request(summary: ExchangeSummary, view: ExchangeView, version: str) -> dict[str, Any]:
    query = summary.path.partition("?")[2]
    request: dict[str, Any] = {
        "method": summary.method,
        "url": url_of(summary, view),
        "httpVersion": version,
        "cookies": [],
        "headers": _headers(view.request),
        "queryString": [
            {"name": name, "value": value} for name, value in parse_qsl(query, keep_blank_values=True, errors="replace")
        ],
        "headersSize": -1,
        "bodySize": view.request.size,
    }
    body = view.request.body
    if body is not None:
        request["postData"] = {"mimeType": body.content_type, "text": body.data}
        if body.encoding == "base64":
            request["postData"]["_encoding"] = "base64"
    return request


def _response(summary: ExchangeSummary, message: MessageView, version: str) -> dict[str, Any]:
    headers = dict(message.headers)
    return {
        "status": summary.status,
        "statusText": _phrase(summary.status),
        "httpVersion": version,
        "cookies": [],
        "headers": _headers(message),
        "content": _content(message.body, message.size, headers.get("content-type", "")),
        "redirectURL": headers.get("location", ""),
        "headersSize": -1,
        "bodySize": message.size,
    }


def _content(body: BodyView | None, size: int, content_type: str) -> dict[str, Any]:
    content: dict[str, Any] = {"size": size, "mimeType": content_type}
    if body is not None:
        content["text"] = body.data
        if body.encoding == "base64":
            content["encoding"] = "base64"
    return content


def _headers(message: MessageView) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in message.headers]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def body_bytes(body: BodyView) -> bytes:
    """The captured bytes of a body; what claims to be base64 and is not is taken as it stands."""
    if body.encoding == "base64":
        try:
            return base64.b64decode(body.data, validate=True)
        except ValueError:
            pass
    return body.data.encode(errors="surrogatepass")
