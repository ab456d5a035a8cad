"""Every store: the two halves of an exchange, and the map of calls."""

import pytest

from sp_proxy.backend.query.syntax import EVERYTHING
from tests.backend.requests import START, batch_of, exchange_span, sdk_span
from tests.backend.stores import TRACE, ask, edges, paths, summaries


async def test_the_two_halves_of_an_exchange_find_each_other(engine):
    """Whichever comes first; and a call is counted once."""
    out = exchange_span(trace=TRACE, span=b"1" * 8, service="orders", direction="outbound", host="pay:80")
    inside = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="pay:80")
    for first, second in ((out, inside), (inside, out)):
        async with engine() as store:
            (alone,) = summaries(await store.append(batch_of(first)))
            assert alone.peer == ""
            (joined,) = summaries(await store.append(batch_of(second)))
            assert joined.peer == ("payment" if second is out else "orders")
            page = await store.exchanges(EVERYTHING, before="", limit=5)
            assert {one.service: one.peer for one in page.exchanges} == {"orders": "payment", "payment": "orders"}
            assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]
            assert await paths(store, ask("peer:payment direction:outbound")) == ["/api/orders?id=7"]
        async with engine() as store:
            await store.append(batch_of(first, second))
            assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]


async def test_the_map(engine):
    minute = 60_000
    async with engine() as store:
        assert await edges(store) == []
        await store.append(
            batch_of(
                *(exchange_span(direction="outbound", service="orders", host="db", at=at) for at in range(3)),
                exchange_span(direction="outbound", service="orders", host="db", at=5, status=503),
                exchange_span(service="orders", host="shop", at=7),
                exchange_span(service="orders", host="shop", at=10 * minute),
                exchange_span(service="orders", host="shop", at=200 * minute),
                exchange_span(direction="auto", at=8),
                sdk_span(at=9),
            )
        )
        first = [("orders", "db", "", 4, 1), ("", "shop", "orders", 1, 0)]
        assert await edges(store) == first
        assert await edges(store, until=START + 11 * minute * 10**6) == [first[0], ("", "shop", "orders", 2, 0)]
        assert await edges(store, until=START + 300 * minute * 10**6) == [first[0], ("", "shop", "orders", 3, 0)]
        assert await edges(store, since=START + minute * 10**6, until=START + 2 * minute * 10**6) == []
        found = await store.service_map(since_unix_ns=START, until_unix_ns=START + 10**9, limit=1)
        assert len(found.edges) == 1
        (edge,) = found.edges
        assert edge.p50_ns == pytest.approx(12_000_000, rel=0.1)
        assert edge.p95_ns == pytest.approx(12_000_000, rel=0.1)
        assert found.since_unix_ns <= START < START + 10**9 <= found.until_unix_ns
