"""Whether the backends can be reached, and take our key: asked with a request that has no span in it."""

import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import trio

from sp_proxy import __version__
from sp_proxy.core.otlp import encode_request, encode_resource, encode_scope
from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Permanent, Retryable, TooLarge
from sp_proxy.exporter.resource import PUBLIC_KEY
from sp_proxy.exporter.routes import Route, World, routes
from sp_proxy.settings.masking import masked_url
from sp_proxy.settings.model import SettingsModel

AREA = Area("backend")
_KEY = frozenset({"http_401", "http_403"})
_REMEDIES = {
    "connect_timeout": "a firewall, a wrong address, or netfilter.restrict_egress without this backend",
    "connect_error": "look at the address, the name server, and whether the backend runs",
    "http_404": "there is no OTLP/HTTP at this URL: look at sp_backend_url or exporters[].url (without /v1/traces is fine)",
    "http_429": "the backend is overloaded, or our share of it is used up: sampling, limits",
    "http_503": "the backend is not well: records wait in the queue and the spool meanwhile",
}


def examine(settings: SettingsModel, environ: Mapping[str, str]) -> Iterator[Finding]:
    """To be asked as the user who is to connect, and to read certificates."""
    no_spool = settings.spool.model_copy(update={"mode": "off"})
    try:
        found = routes(settings.model_copy(update={"spool": no_spool}), environ, World(time.time, lambda: 0.5))
    except ValueError as error:
        yield AREA.fail(str(error), "correct it, or the file that it names")
        return
    for route in found:
        if not route.url:
            yield AREA.ok(f"{route.name}: on this machine")
            continue
        began = time.monotonic()
        outcome = trio.run(_try, route)
        seconds = time.monotonic() - began
        yield judge(route.name, masked_url(route.url), outcome, seconds, has_key=PUBLIC_KEY in route.form.resource)


async def _try(route: Route) -> Outcome:
    sink: Any = route.sink
    async with sink:
        outcome: Outcome = await sink.send(nothing())
    return outcome


def nothing() -> Payload:
    """A whole request without a span, which any OTLP backend must take."""
    body = encode_request(
        encode_resource({"service.name": "sp-proxy-doctor"}), encode_scope("sp-proxy", __version__), []
    )
    return Payload(body, 0, "", len(body))


def judge(name: str, url: str, outcome: Outcome, seconds: float, *, has_key: bool) -> Finding:
    """From what came of the attempt."""
    match outcome:
        case Accepted():
            return AREA.ok(f"{name}: {url} accepts, in {seconds * 1000:.0f} ms{', with our key' if has_key else ''}")
        case Permanent(reason, detail) if reason in _KEY:
            return AREA.fail(
                f"{name}: {url} refuses us: {detail}",
                "set public_key (or the headers of this exporter) to one that it knows",
            )
        case Permanent(reason, detail) if reason == "http_404":
            return AREA.fail(f"{name}: {url}: {detail}", _REMEDIES["http_404"])
        case Permanent(reason, detail):
            return AREA.warn(
                f"{name}: {url} answers, and refuses a request without spans: {detail}",
                "look at the status of the exporter: sp-proxy status",
            )
        case TooLarge(detail):
            return AREA.fail(
                f"{name}: {url} takes no request at all: {detail}", "look at the limits of what is in between"
            )
        case Retryable(reason, _, detail) if reason in {"http_429", "http_502", "http_503", "http_504"}:
            return AREA.warn(f"{name}: {url}: {detail}", _REMEDIES.get(reason, _REMEDIES["http_503"]))
        case Retryable(reason, _, detail):
            host = urlsplit(url).hostname or url
            return AREA.fail(
                f"{name}: {url} cannot be reached: {detail}",
                _REMEDIES.get(reason, f"look at the way to {host}: upload.* has proxy, authorities and timeouts"),
            )
