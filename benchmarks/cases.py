"""What is measured: one case is one table."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a case is driven."""

    LOAD = "wrk"
    HTTP2 = "h2load"
    DOWNLOAD = "100 MiB down"
    UPLOAD = "100 MiB up"
    IDLE = "idle connections"


@dataclass(frozen=True, slots=True)
class Case:
    """One table."""

    name: str
    title: str
    kind: Kind
    connections: int = 1
    """Of an HTTP/2 case: streams at a time, on one connection."""
    method: str = "GET"
    path: str = "/small"
    close: bool = False
    """A new connection for each request."""
    workers: int = 1


def _cases() -> list[Case]:
    cases = [
        Case(f"{method.lower()}-{count}", f"{method} 1 KiB, {_connections(count)}", Kind.LOAD, count, method)
        for method in ("GET", "POST")
        for count in (1, 16, 64, 512)
    ]
    return [
        *cases,
        Case("large-16", "GET 100 KiB, 16 connections", Kind.LOAD, 16, path="/large"),
        Case("new-16", "GET 1 KiB, a new connection for each request, 16 at a time", Kind.LOAD, 16, close=True),
        Case("two-workers-64", "GET 1 KiB, 64 connections, two workers", Kind.LOAD, 64, workers=2),
        Case("down", "100 MiB answer, one connection", Kind.DOWNLOAD, path="/huge"),
        Case("up", "100 MiB request, one connection", Kind.UPLOAD),
        *(
            Case(f"h2-{count}", f"HTTP/2 cleartext, GET 1 KiB, one connection, {_streams(count)}", Kind.HTTP2, count)
            for count in (1, 10, 100)
        ),
        Case("idle-1000", "1,000 idle connections", Kind.IDLE, 1000),
        Case("idle-10000", "10,000 idle connections", Kind.IDLE, 10_000),
    ]


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams at a time"


CASES = {case.name: case for case in _cases()}
