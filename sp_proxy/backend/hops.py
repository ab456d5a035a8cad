"""What a trace looks like row by row (pure): both halves of a hop in one, and in words what is not there.

A row is one span, or an outbound half with its inbound half. What the first took longer than the second was spent between
the two services: connecting, on the network, and in what lies between. No clocks are compared for that.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sp_proxy.backend.critical_path import Segment
from sp_proxy.backend.forest import Node, every, is_half, other_half


class Row(Struct, frozen=True, kw_only=True):
    """One line of the waterfall. The ``below`` rows after it belong to it."""

    span_id: str
    inbound_span_id: str
    """The inbound half, where ``span_id`` is the outbound half of the same exchange; else empty."""
    depth: int
    below: int
    network_ns: int | None
    """What was spent between the two services; null where that is not known."""
    critical_ns: int
    """How much of the critical path is this row's own."""
    notes: list[str]
    """What is not there or was set right, a sentence each."""


class Share(Struct, frozen=True, kw_only=True):
    """Where a part of the critical path was spent."""

    spent: Literal["service", "network", "elsewhere", "nowhere"]
    """``service``: in ``service``; ``network``: between ``service`` and ``peer``; ``elsewhere``: at the host ``peer``, which
    ``service`` called and where nothing was captured; ``nowhere``: no span of the trace ran.
    """
    service: str
    peer: str
    duration_ns: int


def rows_of(roots: Sequence[Node], path: Sequence[Segment]) -> list[Row]:
    """All rows, each before those below it."""
    own: dict[str, int] = {}
    for segment in path:
        own[segment.span_id] = own.get(segment.span_id, 0) + segment.duration_ns
    known = {node.span.span_id for node in every(roots)}
    rows: list[Row] = []
    for root in roots:
        _rows(root, 0, own, known, rows)
    return rows


def shares_of(roots: Sequence[Node], path: Sequence[Segment]) -> list[Share]:
    """The whole path by where it was spent, most first."""
    nodes = {node.span.span_id: node for node in every(roots)}
    sums: dict[tuple[Literal["service", "network", "elsewhere", "nowhere"], str, str], int] = {}
    for segment in path:
        where = _where(nodes.get(segment.span_id))
        sums[where] = sums.get(where, 0) + segment.duration_ns
    return [
        Share(spent=where[0], service=where[1], peer=where[2], duration_ns=duration)
        for where, duration in sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    ]


def _rows(node: Node, depth: int, own: Mapping[str, int], known: set[str], rows: list[Row]) -> None:
    inbound = other_half(node)
    children = node.children
    if inbound is not None:
        children = sorted(
            [*(child for child in children if child is not inbound), *inbound.children],
            key=lambda child: (child.start, child.span.span_id),
        )
    place = len(rows)
    rows.append(_row(node, inbound, depth, 0, own, known))
    for child in children:
        _rows(child, depth + 1, own, known, rows)
    if len(rows) - place > 1:
        rows[place] = _row(node, inbound, depth, len(rows) - place - 1, own, known)


def _row(node: Node, inbound: Node | None, depth: int, below: int, own: Mapping[str, int], known: set[str]) -> Row:
    return Row(
        span_id=node.span.span_id,
        inbound_span_id=inbound.span.span_id if inbound else "",
        depth=depth,
        below=below,
        network_ns=_network(node, inbound) if inbound else None,
        critical_ns=own.get(node.span.span_id, 0) + (own.get(inbound.span.span_id, 0) if inbound else 0),
        notes=_notes(node, inbound, known),
    )


def _network(outbound: Node, inbound: Node) -> int | None:
    halves = (outbound.span.exchange, inbound.span.exchange)
    if any(half is None or half.partial for half in halves):
        return None
    between = outbound.span.duration_ns - inbound.span.duration_ns
    return between if between >= 0 else None


def _where(node: Node | None) -> tuple[Literal["service", "network", "elsewhere", "nowhere"], str, str]:
    if node is None:
        return ("nowhere", "", "")
    span = node.span
    if span.exchange is None or not is_half(span, "outbound"):
        return ("service", span.service, "")
    inbound = other_half(node)
    if inbound is not None:
        return ("network", span.service, inbound.span.service)
    return ("elsewhere", span.service, span.exchange.host)


def _notes(node: Node, inbound: Node | None, known: set[str]) -> list[str]:
    span, found = node.span, []
    name = span.service or "A service without a name"
    missing = span.parent_span_id if span.parent_span_id not in known else ""
    exchange = span.exchange
    if missing and is_half(span, "inbound"):
        found.append(f"Who called {name} was not captured: span {missing} is not here.")
    elif missing:
        found.append(f"What {name} did this for is not here: span {missing}.")
    if exchange is not None and exchange.direction == "outbound" and inbound is None:
        said = "" if exchange.status or exchange.partial else f" and got no response{_in_words(exchange.error)}"
        found.append(f"{name} called {exchange.host or 'a host without a name'}{said}; nothing was captured there.")
    halves = (exchange, inbound.span.exchange if inbound is not None else None)
    if any(half is not None and half.partial for half in halves):
        found.append("This still goes on.")
    if inbound is not None and inbound.shift_ns != node.shift_ns:
        ahead = node.shift_ns - inbound.shift_ns
        found.append(
            f"The clock of {inbound.span.service or 'the service called'} is {abs(ahead) / 1e6:.1f} ms"
            f" {'ahead of' if ahead > 0 else 'behind'} that of {name}: what it saw is shown set right."
        )
    return found


def _in_words(error: str) -> str:
    return f" ({error})" if error else ""
