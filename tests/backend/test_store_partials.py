"""Every store: an exchange that goes on, and its end, in whatever order they come."""

from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.store import Keep
from tests.backend.requests import START, batch_of, exchange_span, partial_span, sdk_span
from tests.backend.stores import FAR, TRACE, edges, summaries

IDS: dict[str, Any] = {"trace": TRACE, "span": b"1" * 8, "parent": b"0" * 8}


async def test_an_exchange_that_has_ended_takes_the_place_of_its_partial_record(engine):
    async with engine() as store:
        going_on = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one", status=503)))
        assert [one.partial for one in summaries(going_on)] == [True]
        await store.append(batch_of(sdk_span(trace=TRACE, parent=b"1" * 8)))
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert record.exchange is not None
        assert (record.exchange.partial, record.parent_span_id, record.response_body) == (True, "30" * 8, b"one")
        again = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one")))
        assert (again.stored, again.duplicates) == (0, 1)
        before = await store.stats()

        ended = await store.append(batch_of(exchange_span(**IDS, session="s", response_body="one two")))
        assert [one.partial for one in summaries(ended)] == [False]
        assert (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges == summaries(ended)
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert (record.exchange, record.response_body) == (ended.exchanges[0].summary, b"one two")
        assert len(await store.trace(TRACE, limit=10)) == 2
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions) == (before.spans, before.exchanges, before.sessions)
        (session,) = (await store.sessions(EVERYTHING, before="", limit=10)).sessions
        assert (session.exchanges, session.errors, session.services) == (1, 0, ["orders"])

        late = await store.append(batch_of(partial_span(**IDS, session="s")))
        assert (late.stored, late.duplicates, late.exchanges) == (0, 1, [])
        assert await store.expire(Keep(FAR, FAR)) == 2
        assert (await store.stats()).sessions == 0


arrivals = st.lists(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([b"1" * 8, b"2" * 8]),
            st.sampled_from(["", "s1", "s2"]),
            st.sampled_from(["orders", "payment"]),
            st.sampled_from([200, 503]),
            st.integers(0, 3),
        ),
        max_size=4,
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=arrivals)
def test_whatever_the_order_each_exchange_counts_once(engine, batches):
    """A model: the first of a kind stays, and what has ended takes the place of what goes on."""

    async def check():
        known: dict[bytes, tuple[Any, ...]] = {}
        async with engine() as store:
            for batch in batches:
                spans = []
                for partial, span, session, service, status, at in batch:
                    make = partial_span if partial else exchange_span
                    values = {"session": session, "service": service, "status": status, "at": at}
                    spans.append(make(trace=TRACE, span=span, **values))
                    if span not in known or (known[span][0] and not partial):
                        known[span] = (partial, session, service, status, START + at * 1_000_000)
                await store.append(batch_of(*spans))
            found = (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges
            assert {
                bytes.fromhex(each.span_id): (
                    *(each.partial, each.session_id, each.service, each.status, each.start_unix_ns),
                )
                for each in found
            } == known
            stats = await store.stats()
            assert (stats.spans, stats.exchanges) == (len(known), len(known))
            sessions = (await store.sessions(EVERYTHING, before="", limit=10)).sessions
            assert stats.sessions == len(sessions)
            assert {
                each.session_id: (
                    *(each.exchanges, each.errors, each.services, each.first_seen_unix_ns, each.last_seen_unix_ns),
                )
                for each in sessions
            } == {
                name: (
                    len(own),
                    sum(each[3] >= 500 for each in own),
                    sorted({each[2] for each in own}),
                    min(each[4] for each in own),
                    max(each[4] for each in own),
                )
                for name in {each[1] for each in known.values()} - {""}
                if (own := [each for each in known.values() if each[1] == name])
            }

    trio.run(check)


async def test_what_goes_on_is_no_call_until_it_ends(engine):
    ids: dict[str, Any] = {"trace": TRACE, "span": b"1" * 8, "direction": "outbound", "host": "pay:80"}
    inside = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="pay:80")
    async with engine() as store:
        await store.append(batch_of(partial_span(**ids)))
        await store.append(batch_of(inside))
        assert await edges(store) == [("", "pay:80", "payment", 1, 0)]
        (ended,) = summaries(await store.append(batch_of(exchange_span(**ids))))
        assert ended.peer == "payment"
        assert await edges(store) == [("orders", "pay:80", "payment", 1, 0)]
