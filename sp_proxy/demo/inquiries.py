"""The questions that the demo asks of its daemons and its backend, over HTTP."""

import http.client
import json
from typing import Any

from sp_proxy.demo.counts import Counts, parse_metrics
from sp_proxy.demo.layout import LOOPBACK, HostPort, Member
from sp_proxy.demo.places import Place

TIMEOUT_SECONDS = 5.0


class Unanswered(Exception):  # noqa: N818 - not a fault by itself: it may answer the next time
    """There was no answer, or not a good one."""


def get(address: HostPort, target: str) -> bytes:
    """The body of a 200 answer. Raises Unanswered."""
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unanswered(f"{target}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Unanswered(f"{target}: status {response.status}: {body[:200].decode(errors='replace')}")
    return body


def ready(place: Place, member: Member) -> bool:
    """Whether a daemon takes traffic."""
    try:
        place.call(lambda: get(member.admin, "/healthz/ready"))
    except Unanswered:
        return False
    return True


def daemon_counts(place: Place, member: Member) -> Counts:
    """What a daemon has counted. Raises Unanswered."""
    return parse_metrics(place.call(lambda: get(member.admin, "/metrics")).decode())


class BackendApi:
    """The backend's API."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}/"

    def json(self, target: str) -> Any:
        """An answer of the API. Raises Unanswered."""
        return json.loads(get((LOOPBACK, self.port), target))

    def stored(self) -> int:
        """Exchanges that it has. Raises Unanswered."""
        return int(self.json("/api/v1/stats")["exchanges"])

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The latest exchanges, newest first. Raises Unanswered."""
        found: list[dict[str, Any]] = self.json(f"/api/v1/exchanges?limit={limit}")["exchanges"]
        return found

    def widest_trace(self) -> dict[str, Any] | None:
        """A trace that goes through as many services as any of the latest; None when there is none. Raises Unanswered."""
        # Payment comes last in an order: a trace that has reached it has been everywhere.
        found = self.json("/api/v1/exchanges?service=payment&direction=inbound&limit=20")["exchanges"]
        traces: list[dict[str, Any]] = [self.json(f"/api/v1/traces/{exchange['trace_id']}") for exchange in found]
        return max(traces, key=lambda trace: (len(trace["services"]), trace["spans"]), default=None)
