from hypothesis import given

from sp_proxy.backend.critical_path import critical_path
from sp_proxy.backend.forest import every, grow
from tests.backend.tracing import inbound, outbound, span, traces


def path(*spans):
    return [
        (each.span_id, each.start_unix_ns - 100, each.start_unix_ns - 100 + each.duration_ns)
        for each in critical_path(grow(spans))
    ]


def test_nothing_has_none():
    assert critical_path([]) == []


def test_of_calls_one_after_the_other():
    assert path(span("a", "", 0, 100), span("b", "a", 10, 20), span("c", "a", 40, 30)) == [
        ("a", 0, 10),
        ("b", 10, 30),
        ("a", 30, 40),
        ("c", 40, 70),
        ("a", 70, 100),
    ]


def test_of_calls_side_by_side_the_last_to_end():
    spans = [span("a", "", 0, 100), span("short", "a", 10, 30), span("long", "a", 15, 60), span("before", "a", 2, 8)]
    assert path(*spans) == [("a", 0, 2), ("before", 2, 10), ("a", 10, 15), ("long", 15, 75), ("a", 75, 100)]


def test_through_both_halves_of_a_hop():
    spans = [inbound("in", "", 0, 100), outbound("out", "in", 20, 60), inbound("far", "out", 30, 40, service="b")]
    assert path(*spans) == [("in", 0, 20), ("out", 20, 30), ("far", 30, 70), ("out", 70, 80), ("in", 80, 100)]


def test_what_goes_on_after_the_answer_is_not_waited_for():
    assert path(span("a", "", 0, 10), span("late", "a", 5, 100)) == [("a", 0, 5), ("late", 5, 10)]
    assert path(span("a", "", 0, 10), span("later", "a", 50, 100)) == [("a", 0, 10)]


def test_between_two_trees_nothing_ran():
    assert path(span("a", "gone", 0, 10), span("b", "gone", 30, 5)) == [("a", 0, 10), ("", 10, 30), ("b", 30, 35)]


def test_of_trees_side_by_side_the_one_that_began_first():
    assert path(span("a", "gone", 0, 20), span("b", "gone", 10, 20)) == [("a", 0, 10), ("b", 10, 30)]
    assert path(span("a", "gone", 0, 50), span("b", "gone", 10, 20)) == [("a", 0, 50)]


def test_a_trace_that_took_no_time_has_none():
    assert path(span("a", "", 0, 0), span("b", "a", 0, 0)) == []


@given(traces())
def test_it_is_the_whole_time_of_the_roots_without_gap_or_overlap(spans):
    roots = grow(spans)
    found = critical_path(roots)
    moment = min(root.start for root in roots)
    for segment in found:
        assert segment.start_unix_ns == moment
        assert segment.duration_ns > 0
        moment += segment.duration_ns
    assert moment == max(root.end for root in roots)


@given(traces())
def test_each_part_is_a_spans_own_time(spans):
    """Nothing below a span that was over by a moment of its own, or ran at it, would rather have been on the path."""
    roots = grow(spans)
    nodes = {node.span.span_id: node for node in every(roots)}
    found = critical_path(roots)
    for segment in found:
        end = segment.start_unix_ns + segment.duration_ns
        if not segment.span_id:
            assert all(root.end <= segment.start_unix_ns or end <= root.start for root in roots)
            continue
        node = nodes[segment.span_id]
        assert node.start <= segment.start_unix_ns
        assert end <= node.end
        # What had ended by the end of this part has ended before it began, or took no time.
        for child in node.children:
            begun = max(child.start, node.start)
            assert not (begun < child.end <= end and child.end > segment.start_unix_ns)
