"""A whole trace, as the API answers it (pure): its trees, its rows, its critical path and where that was spent."""

from collections.abc import Sequence

from msgspec import Struct

from sp_proxy.backend.critical_path import Segment, critical_path
from sp_proxy.backend.forest import Node, every, grow
from sp_proxy.backend.hops import Row, Share, rows_of, shares_of
from sp_proxy.backend.model import TraceSpan


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
    rows: list[Row]
    """The trees from top to bottom, the two halves of an exchange in one."""
    critical_path: list[Segment]
    spent: list[Share]
    """The critical path added up, most first."""


def call_tree(spans: Sequence[TraceSpan], *, truncated: bool) -> Tree:
    """The tree of a trace's spans, of which there must be one at least."""
    roots = grow(spans)
    nodes = every(roots)
    path = critical_path(roots)
    start = min(node.start for node in nodes)
    return Tree(
        trace_id=nodes[0].span.trace_id,
        spans=len(nodes),
        services=sorted({span.service for span in spans if span.service}),
        start_unix_ns=start,
        duration_ns=max(node.end for node in nodes) - start,
        errors=sum(span.failed for span in spans),
        truncated=truncated,
        roots=roots,
        rows=rows_of(roots, path),
        critical_path=path,
        spent=shares_of(roots, path),
    )
