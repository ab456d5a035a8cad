"""The critical path of a trace (pure): at each moment the one span that everything above it was waiting for.

Walked from the end: what ran last below a span is what it waited for, and before that began, what had ended last by
then. (The last finishing child, as in Jaeger and in Uber's CRISP.) Between them the span's own time is on the path. What
a span goes on with after whoever called it has ended, nobody waited for: it is not on the path.
"""

from collections.abc import Sequence

from msgspec import Struct

from sp_proxy.backend.forest import Node


class Segment(Struct, frozen=True):
    """A part of the path. All of them, in order, are the time from the first root's start to the last root's end."""

    span_id: str
    """Whose own time it is; empty where no root ran."""
    start_unix_ns: int
    """On the clock of the root."""
    duration_ns: int


def critical_path(roots: Sequence[Node]) -> list[Segment]:
    """The path through all the trees of a trace, in order of time. Trees are at most ``forest.MAX_DEPTH`` deep."""
    found: list[Segment] = []
    by_end = sorted(roots, key=lambda root: (root.end, root.span.span_id))
    moment = by_end[-1].end if by_end else 0
    first: Node | None = None
    # Whether one tree waited for another is not known: of those that ran at a moment, the one that began first.
    while True:
        while by_end and by_end[-1].end >= moment:
            root = by_end.pop()
            if first is None or root.start < first.start:
                first = root
        if first is not None and first.start < moment:
            _walk(first.span.span_id, first.start, moment, first.children, found)
            moment = first.start
        elif by_end:
            _add("", by_end[-1].end, moment, found)
            moment = by_end[-1].end
        else:
            found.reverse()
            return found


def _walk(span_id: str, start: int, end: int, children: Sequence[Node], found: list[Segment]) -> None:
    """Find the path within a time, its last segment first."""
    inside = sorted(
        ((min(child.end, end), max(child.start, start), child) for child in children),
        key=lambda each: (-each[0], each[1], each[2].span.span_id),
    )
    moment = end
    for child_end, child_start, child in inside:
        if child_start >= child_end or child_end > moment:
            continue  # it took no time, or ran beside what is on the path
        _add(span_id, child_end, moment, found)
        _walk(child.span.span_id, child_start, child_end, child.children, found)
        moment = child_start
    _add(span_id, start, moment, found)


def _add(span_id: str, start: int, end: int, found: list[Segment]) -> None:
    if end > start:
        found.append(Segment(span_id, start, end - start))
