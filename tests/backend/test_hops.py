from hypothesis import given

from sp_proxy.backend.critical_path import critical_path
from sp_proxy.backend.forest import every, grow
from sp_proxy.backend.hops import Row, rows_of, shares_of
from tests.backend.tracing import inbound, outbound, span, traces


def rows(*spans) -> list[Row]:
    roots = grow(spans)
    return rows_of(roots, critical_path(roots))


HOP = [
    inbound("in", "", 0, 100, service="orders"),
    outbound("out", "in", 20, 60, service="orders", host="payment:8080"),
    inbound("far", "out", 30, 40, service="payment"),
    span("sql", "far", 35, 20, service="payment"),
]


def test_both_halves_stand_in_one_row_with_the_network_time_between_them():
    found = [(row.span_id, row.inbound_span_id, row.depth, row.below, row.network_ns) for row in rows(*HOP)]
    assert found == [("in", "", 0, 2, None), ("out", "far", 1, 1, 20), ("sql", "", 2, 0, None)]


def test_rows_know_their_part_of_the_critical_path():
    assert [row.critical_ns for row in rows(*HOP)] == [40, 40, 20]


def test_where_the_time_went():
    roots = grow([*HOP, outbound("db", "in", 85, 10, service="orders", host="db:5432")])
    shares = shares_of(roots, critical_path(roots))
    assert [(one.spent, one.service, one.peer, one.duration_ns) for one in shares] == [
        ("service", "payment", "", 40),
        ("service", "orders", "", 30),
        ("network", "orders", "payment", 20),
        ("elsewhere", "orders", "db:5432", 10),
    ]


def test_time_in_which_nothing_ran_is_nowhere():
    roots = grow([inbound("a", "", 0, 10), inbound("b", "", 30, 10)])
    assert ("nowhere", 20) in [(one.spent, one.duration_ns) for one in shares_of(roots, critical_path(roots))]


def test_a_call_with_nothing_at_the_other_end_is_explained():
    (row,) = rows(outbound("a", service="orders", host="payment:8080"))
    assert row.notes == ["orders called payment:8080; nothing was captured there."]
    (row,) = rows(outbound("a", service="orders", host="payment:8080", status=0, error="connection_refused"))
    assert row.notes == [
        "orders called payment:8080 and got no response (connection_refused); nothing was captured there."
    ]
    (row,) = rows(outbound("a", service="", host=""))
    assert row.notes == ["A service without a name called a host without a name; nothing was captured there."]


def test_a_caller_that_is_not_there_is_explained():
    (row,) = rows(inbound("a", "feed", service="orders"))
    assert row.notes == ["Who called orders was not captured: span feed is not here."]
    (row,) = rows(span("a", "feed", service="orders"))
    assert row.notes == ["What orders did this for is not here: span feed."]
    assert rows(inbound("a", service="orders"))[0].notes == []


def test_what_goes_on_is_said_and_has_no_network_time():
    (row,) = rows(outbound("a", "", 0, 30), inbound("b", "a", 5, 10, partial=True))
    assert (row.notes, row.network_ns) == (["This still goes on."], None)


def test_a_half_that_is_longer_has_no_network_time():
    (row,) = rows(outbound("a", "", 0, 30), inbound("b", "a", 5, 50))
    assert row.network_ns is None


def test_a_clock_that_was_set_right_is_said():
    (row,) = rows(
        outbound("a", "", 0, 3_000_000, service="orders"),
        inbound("b", "a", 6_000_000, 1_000_000, service="payment"),
    )
    assert row.notes == [
        "The clock of payment is 5.0 ms ahead of that of orders: what it saw is shown set right.",
    ]
    assert row.network_ns == 2_000_000


def test_of_several_inbound_halves_the_first_is_joined():
    found = rows(outbound("a", "", 0, 90), inbound("b", "a", 5, 10), inbound("c", "a", 30, 10))
    assert [(row.span_id, row.inbound_span_id, row.depth) for row in found] == [("a", "b", 0), ("c", "", 1)]


@given(traces())
def test_every_span_stands_in_one_row(spans):
    found = rows(*spans)
    named = [name for row in found for name in (row.span_id, row.inbound_span_id) if name]
    assert sorted(named) == sorted(one.span_id for one in spans)


@given(traces())
def test_what_belongs_to_a_row_follows_it(spans):
    found = rows(*spans)
    for place, row in enumerate(found):
        inside = found[place + 1 : place + 1 + row.below]
        assert len(inside) == row.below
        assert all(one.depth > row.depth for one in inside)
        assert place + 1 + row.below == len(found) or found[place + 1 + row.below].depth <= row.depth


@given(traces())
def test_the_whole_path_is_told(spans):
    roots = grow(spans)
    path = critical_path(roots)
    total = sum(segment.duration_ns for segment in path)
    assert sum(share.duration_ns for share in shares_of(roots, path)) == total
    nowhere = sum(segment.duration_ns for segment in path if not segment.span_id)
    assert sum(row.critical_ns for row in rows_of(roots, path)) == total - nowhere
    assert len({(share.spent, share.service, share.peer) for share in shares_of(roots, path)}) == len(
        shares_of(roots, path)
    )
    assert len(every(roots)) == len(spans)
