from hypothesis import given

from sp_proxy.backend.forest import MAX_DEPTH, Node, every, grow, other_half
from tests.backend.tracing import inbound, outbound, span, traces


def shape(node: Node):
    return (node.span.span_id, [shape(child) for child in node.children])


def test_children_stand_below_their_parents_by_start_time():
    roots = grow([span("c", "a", 5), span("b", "a", 2), span("a"), span("d", "c", 6)])
    assert [shape(root) for root in roots] == [("a", [("b", []), ("c", [("d", [])])])]


def test_unknown_parents_make_roots():
    roots = grow([span("b", "gone", 3), span("a", "", 5), span("c", "b", 4)])
    assert [shape(root) for root in roots] == [("b", [("c", [])]), ("a", [])]


def test_circles_lose_nothing():
    roots = grow([span("a", "b", 1), span("b", "a", 2), span("c", "b", 3), span("self", "self", 0)])
    assert [shape(root) for root in roots] == [("self", []), ("a", [("b", [("c", [])])])]


def test_a_very_deep_chain_goes_on_sideways():
    spans = [span(f"{number:05}", f"{number - 1:05}" if number else "", number) for number in range(5000)]
    (root,) = grow(spans)
    assert [node.span.span_id for node in every([root])] == sorted(one.span_id for one in spans)
    depth, here = 1, root
    while here.children:
        here, depth = here.children[0], depth + 1
    assert depth <= MAX_DEPTH


def test_the_inbound_half_is_found_among_the_children():
    (root,) = grow(
        [outbound("call", "", 0, 50), span("sdk", "call", 1), inbound("b", "call", 9), inbound("a", "call", 5)]
    )
    half = other_half(root)
    assert half is not None
    assert half.span.span_id == "a"
    assert other_half(half) is None


def test_a_clock_that_is_ahead_is_set_right_with_all_below():
    spans = [
        outbound("call", "", 0, 30),
        inbound("served", "call", 1000, 20),
        span("work", "served", 1010, 5),
        outbound("next", "served", 1002, 8),
        inbound("last", "next", 0, 4),
    ]
    (call,) = grow(spans)
    placed = {node.span.span_id: (node.start - 100, node.end - 100) for node in every([call])}
    assert placed == {"call": (0, 30), "served": (5, 25), "next": (7, 15), "last": (9, 13), "work": (15, 20)}


def test_what_lies_inside_or_does_not_fit_stays_where_it_is():
    (root,) = grow([outbound("call", "", 0, 30), inbound("inside", "call", 2, 20), inbound("longer", "call", 3, 40)])
    assert [node.shift_ns for node in root.children] == [0, 0]
    (root,) = grow([span("sdk", "", 0, 30), inbound("elsewhere", "sdk", 500, 5)])
    assert root.children[0].shift_ns == 0


@given(traces())
def test_every_span_stands_once(spans):
    assert sorted(node.span.span_id for node in every(grow(spans))) == sorted(one.span_id for one in spans)


@given(traces())
def test_an_inbound_half_that_fits_lies_inside(spans):
    for node in every(grow(spans)):
        half = other_half(node)
        if half is not None and half.span.duration_ns <= node.span.duration_ns:
            assert node.start <= half.start
            assert half.end <= node.end
