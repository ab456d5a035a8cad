"""The call tree of a trace (pure): every span once, whatever its parent ids say.

A span whose parent was not captured is a root. Parent ids come from outside, so they may form a circle: then its
earliest span is a root. A tree deeper than ``MAX_DEPTH`` goes on sideways, since JSON readers have limits too.
"""

from collections.abc import Sequence

from msgspec import Struct

from sp_proxy.backend.model import TraceSpan

MAX_DEPTH = 64


class Node(Struct, kw_only=True):
    """A span with the spans that name it as their parent, by start time."""

    span: TraceSpan
    children: list["Node"]


class Tree(Struct, frozen=True, kw_only=True):
    """A trace. ``truncated``: there are more spans than are shown."""

    trace_id: str
    spans: int
    services: list[str]
    start_unix_ns: int
    duration_ns: int
    errors: int
    truncated: bool
    roots: list[Node]


def call_tree(spans: Sequence[TraceSpan], *, truncated: bool) -> Tree:
    """The tree of a trace's spans, of which there must be one at least."""
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
    roots.sort(key=lambda node: (node.span.start_unix_ns, node.span.span_id))
    start = ordered[0].start_unix_ns
    return Tree(
        trace_id=ordered[0].trace_id,
        spans=len(ordered),
        services=sorted({span.service for span in ordered if span.service}),
        start_unix_ns=start,
        duration_ns=max(span.start_unix_ns + span.duration_ns for span in ordered) - start,
        errors=sum(span.failed for span in ordered),
        truncated=truncated,
        roots=roots,
    )


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
