from sp_proxy.backend.sqlite import traffic
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.backend.sqlite.write import insert_batches
from tests.backend.requests import START, batch_of, exchange_span, partial_span

TRACE = b"t" * 16


def insert(connection, *spans):
    insert_batches(connection, [pack_batch(batch_of(*spans))])


def edges(connection, limit=100):
    found = traffic.service_map(connection, START, START + 10**9, limit)
    return [(edge.source, edge.host, edge.target, edge.requests) for edge in found.edges]


def half(span, parent=b"", **more):
    return exchange_span(trace=TRACE, span=span * 8, parent=parent * 8, **more)


def test_a_second_inbound_half_of_one_call_is_not_counted(connection):
    insert(connection, half(b"1", service="orders", direction="outbound", host="pay"))
    insert(connection, half(b"2", b"1", service="payment", host="pay"))
    insert(connection, half(b"3", b"1", service="shadow", host="pay"))
    assert edges(connection) == [("orders", "pay", "payment", 1)]
    assert connection.execute("SELECT peer FROM exchanges ORDER BY id").fetchall() == [
        ("payment",),
        ("orders",),
        ("orders",),
    ]


def test_a_parent_that_is_no_outbound_half_is_none(connection):
    insert(connection, half(b"1", service="orders"))
    insert(connection, half(b"2", b"1", service="payment", host="pay"))
    assert sorted(edges(connection)) == [("", "pay", "payment", 1), ("", "shop.local:8080", "orders", 1)]


def test_who_waits_is_forgotten_when_found(connection):
    insert(connection, half(b"2", b"1", service="payment", host="pay"))
    assert connection.execute("SELECT count(*) FROM waiting").fetchone() == (1,)
    insert(connection, partial_span(trace=TRACE, span=b"1" * 8, direction="outbound"))
    assert connection.execute("SELECT count(*) FROM waiting").fetchone() == (1,)
    insert(connection, half(b"1", service="orders", direction="outbound", host="pay"))
    assert connection.execute("SELECT count(*) FROM waiting").fetchone() == (0,)


def test_hosts_without_end_become_one(connection, monkeypatch):
    monkeypatch.setattr(traffic, "MAX_EDGES", 3)
    insert(connection, *(exchange_span(direction="outbound", host=f"h{number}") for number in range(10)))
    assert edges(connection)[0] == ("orders", "", "", 7)
    assert len(edges(connection)) == 4
    assert len(edges(connection, limit=2)) == 2


def test_the_hour_and_its_minutes_say_the_same(connection):
    minute = 60_000
    insert(connection, *(exchange_span(direction="outbound", host="h", at=at * minute) for at in range(0, 300, 10)))
    for first, last in ((0, 300), (7, 250), (59, 61), (60, 120), (100, 101)):
        since = START + first * minute * 1_000_000
        found = traffic.service_map(connection, since, START + last * minute * 1_000_000, 10)
        span = range(since // (60 * 10**9), -(-(START + last * minute * 1_000_000) // (60 * 10**9)))
        times = [(START + at * minute * 1_000_000) // (60 * 10**9) for at in range(0, 300, 10)]
        expected = sum(time in span for time in times)
        assert sum(edge.requests for edge in found.edges) == expected


def test_calls_older_than_every_exchange_are_forgotten(connection):
    insert(connection, exchange_span(direction="outbound", host="old", at=0))
    insert(connection, exchange_span(direction="outbound", host="new", at=10 * 3600_000))
    connection.execute("DELETE FROM exchanges WHERE host = 'old'")
    traffic.forget(connection)
    assert connection.execute("SELECT count(*) FROM calls").fetchone() == (2,)
    connection.execute("DELETE FROM exchanges")
    traffic.forget(connection)
    assert connection.execute("SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM edges)").fetchone() == (0, 0)
