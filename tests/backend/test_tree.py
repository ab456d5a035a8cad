import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.model import TraceSpan
from sp_proxy.backend.tree import MAX_DEPTH, Node, call_tree


def span(name: str, parent: str = "", at: int = 0, *, service: str = "a", failed: bool = False) -> TraceSpan:
    return TraceSpan(
        trace_id="t",
        span_id=name,
        parent_span_id=parent,
        name=name,
        kind="server",
        start_unix_ns=100 + at,
        duration_ns=10,
        failed=failed,
        service=service,
        exchange=None,
    )


def shape(node: Node):
    return (node.span.span_id, [shape(child) for child in node.children])


def names(node: Node) -> list[str]:
    found, waiting = [], [node]
    while waiting:
        here = waiting.pop()
        found.append(here.span.span_id)
        waiting += here.children
    return found


def test_children_stand_below_their_parents_by_start_time():
    spans = [span("c", "a", 5, service="b"), span("b", "a", 2), span("a"), span("d", "c", 6, failed=True)]
    tree = call_tree(spans, truncated=False)
    assert [shape(root) for root in tree.roots] == [("a", [("b", []), ("c", [("d", [])])])]
    assert (tree.spans, tree.services, tree.errors, tree.truncated) == (4, ["a", "b"], 1, False)
    assert (tree.start_unix_ns, tree.duration_ns) == (100, 16)


def test_unknown_parents_make_roots():
    tree = call_tree([span("b", "gone", 3), span("a", "", 5), span("c", "b", 4)], truncated=True)
    assert [shape(root) for root in tree.roots] == [("b", [("c", [])]), ("a", [])]
    assert tree.truncated


def test_circles_lose_nothing():
    spans = [span("a", "b", 1), span("b", "a", 2), span("c", "b", 3), span("self", "self", 0)]
    tree = call_tree(spans, truncated=False)
    assert [shape(root) for root in tree.roots] == [("self", []), ("a", [("b", [("c", [])])])]


def test_a_very_deep_chain_stays_readable():
    spans = [span(f"{number:05}", f"{number - 1:05}" if number else "", number) for number in range(5000)]
    tree = call_tree(spans, truncated=False)
    (root,) = tree.roots
    assert sorted(names(root)) == [one.span_id for one in spans]
    decoded = msgspec.json.decode(msgspec.json.encode(tree))
    depth, here = 1, decoded["roots"][0]
    while here["children"]:
        here, depth = here["children"][0], depth + 1
    assert depth <= MAX_DEPTH


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5)), min_size=1, unique_by=lambda t: t[0])
)
def test_every_span_stands_once(rows):
    spans = [span(str(one), str(parent), at) for one, parent, at in rows]
    tree = call_tree(spans, truncated=False)
    placed = [name for root in tree.roots for name in names(root)]
    assert sorted(placed) == sorted(one.span_id for one in spans)
