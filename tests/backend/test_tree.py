import msgspec

from sp_proxy.backend.tree import call_tree
from tests.backend.tracing import inbound, outbound, span


def test_a_trace_is_told_as_a_whole():
    spans = [span("c", "a", 5, service="b"), span("b", "a", 2), span("a"), span("d", "c", 6, failed=True, service="")]
    tree = call_tree(spans, truncated=True)
    assert (tree.trace_id, tree.spans, tree.services, tree.errors, tree.truncated) == ("t", 4, ["a", "b"], 1, True)
    assert (tree.start_unix_ns, tree.duration_ns) == (100, 16)
    assert [node.span.span_id for node in tree.roots] == ["a"]
    assert [row.span_id for row in tree.rows] == ["a", "b", "c", "d"]
    assert sum(share.duration_ns for share in tree.spent) == sum(part.duration_ns for part in tree.critical_path) == 10


def test_times_are_on_the_clock_of_the_root():
    tree = call_tree([outbound("a", "", 500, 30), inbound("b", "a", 0, 10)], truncated=False)
    assert (tree.start_unix_ns, tree.duration_ns) == (600, 30)
    assert tree.roots[0].children[0].shift_ns == 510


def test_a_very_deep_trace_stays_readable():
    spans = [
        outbound(f"{number:05}", f"{number - 1:05}" if number else "", number)
        if number % 2
        else inbound(f"{number:05}", f"{number - 1:05}" if number else "", number)
        for number in range(5000)
    ]
    decoded = msgspec.json.decode(msgspec.json.encode(call_tree(spans, truncated=False)))
    assert sum(1 + bool(row["inbound_span_id"]) for row in decoded["rows"]) == 5000
