"""Spans as trees (pure): every span once, whatever its parent ids say, and on one clock where that can be known.

A span whose parent was not captured is a root. Parent ids come from outside, so they may form a circle: then its
earliest span is a root. A tree deeper than ``MAX_DEPTH`` goes on sideways, since JSON readers have limits too.

The two halves of an exchange were seen on two hosts, whose clocks differ. What arrived cannot have arrived before it was
sent: where an inbound half does not lie inside its outbound half, and would fit, everything below is moved to the middle
of it, as Jaeger does.
"""

from collections.abc import Sequence

from msgspec import Struct

from sp_proxy.backend.model import TraceSpan

MAX_DEPTH = 64


class Node(Struct, kw_only=True):
    """A span with the spans that name it as their parent, by start time."""

    span: TraceSpan
    children: list["Node"]
    shift_ns: int = 0
    """What to add to its start to have it on the clock of the root."""

    @property
    def start(self) -> int:
        """On the clock of the root."""
        return self.span.start_unix_ns + self.shift_ns

    @property
    def end(self) -> int:
        """On the clock of the root."""
        return self.start + self.span.duration_ns


def grow(spans: Sequence[TraceSpan]) -> list[Node]:
    """The trees of a trace's spans, by start."""
    ordered = sorted(spans, key=lambda span: (span.start_unix_ns, span.span_id))
    known = {span.span_id for span in ordered}
    by_parent: dict[str, list[TraceSpan]] = {}
    tops: list[TraceSpan] = []
    for span in ordered:
        if span.parent_span_id in known and span.parent_span_id != span.span_id:
            by_parent.setdefault(span.parent_span_id, []).append(span)
        else:
            tops.append(span)
    placed: set[str] = set()
    # What no top leads to stands in a circle, or below one. Placing a span places everything below it.
    roots = [_place(top, by_parent, placed) for top in [*tops, *ordered] if top.span_id not in placed]
    for root in roots:
        _align(root)
    roots.sort(key=_by_start)
    return roots


def is_half(span: TraceSpan, direction: str) -> bool:
    """Whether a span is an exchange as it was seen in this direction."""
    return span.exchange is not None and span.exchange.direction == direction


def other_half(node: Node) -> Node | None:
    """Of an outbound half, the inbound one: the first, if what lies between the two services has sent it to several."""
    return next((child for child in node.children if _are_halves(node.span, child.span)), None)


def every(roots: Sequence[Node]) -> list[Node]:
    """All nodes, each before those below it."""
    found: list[Node] = []
    waiting = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting.extend(reversed(node.children))
    return found


def _are_halves(caller: TraceSpan, called: TraceSpan) -> bool:
    return is_half(caller, "outbound") and is_half(called, "inbound") and called.parent_span_id == caller.span_id


def _by_start(node: Node) -> tuple[int, str]:
    return node.start, node.span.span_id


def _place(top: TraceSpan, by_parent: dict[str, list[TraceSpan]], placed: set[str]) -> Node:
    root = Node(span=top, children=[])
    placed.add(top.span_id)
    # Without recursion: the depth is the sender's choice. Each entry: a node, where its children go, and their depth.
    waiting: list[tuple[Node, Node, int]] = [(root, root, 1)]
    while waiting:
        node, home, depth = waiting.pop()
        for span in by_parent.get(node.span.span_id, ()):
            if span.span_id in placed:
                continue
            placed.add(span.span_id)
            child = Node(span=span, children=[])
            home.children.append(child)
            waiting.append((child, child if depth + 1 < MAX_DEPTH else home, depth + 1))
    return root


def _align(root: Node) -> None:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for child in node.children:
            child.shift_ns = node.shift_ns
            if _are_halves(node.span, child.span):
                child.shift_ns += _correction(node, child)
        node.children.sort(key=_by_start)
        waiting.extend(node.children)


def _correction(outbound: Node, inbound: Node) -> int:
    slack = outbound.span.duration_ns - inbound.span.duration_ns
    if slack < 0 or (outbound.start <= inbound.start and inbound.end <= outbound.end):
        return 0
    return outbound.start + slack // 2 - inbound.start
