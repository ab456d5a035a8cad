"""What every store promises, on every engine."""

import os
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from sp_proxy.backend.model import ExchangeFilter
from sp_proxy.backend.sqlite.store import open_store
from sp_proxy.backend.store import BadCursorError
from tests.backend.requests import HOSTILE, START, batch_of, exchange_span, partial_span, sdk_span

TRACE = b"t" * 16
EVERYTHING = ExchangeFilter()
FAR = 2**62


@pytest.fixture(params=["file", "memory"])
def engine(request, tmp_path):
    """Opens a fresh store."""
    numbers = iter(range(1000))

    @asynccontextmanager
    async def fresh():
        path = ":memory:" if request.param == "memory" else str(tmp_path / f"store-{next(numbers)}.sqlite3")
        async with open_store(path) as store:
            yield store

    return fresh


async def paths(store, wanted=EVERYTHING, *, limit=1000):
    page = await store.exchanges(wanted, before="", limit=limit)
    return [exchange.path for exchange in page.exchanges]


async def test_an_empty_store(engine):
    async with engine() as store:
        assert (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges == []
        assert await store.span(b"s" * 8, None) is None
        assert await store.trace(TRACE, limit=10) == []
        assert (await store.sessions(before="", limit=10)).sessions == []
        assert await store.session("x", limit=10) is None
        assert await store.expire(received_before_unix_ns=FAR, max_bytes=0) == 0
        appended = await store.append(batch_of())
        assert (appended.stored, appended.duplicates, appended.exchanges) == (0, 0, [])
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.appended) == (0, 0, 0, 0)


async def test_what_is_appended_is_found_in_full(engine):
    span = exchange_span(trace=TRACE, span=b"s" * 8, parent=b"p" * 8, request_body="hello", response_body="x" * 5000)
    batch = batch_of(span, tenant="key", received=77)
    async with engine() as store:
        appended = await store.append(batch)
        record = await store.span(b"s" * 8, None)
        assert record is not None
        assert record.exchange == appended.exchanges[0]
        assert (record.trace_id, record.span_id, record.parent_span_id) == (TRACE.hex(), "73" * 8, "70" * 8)
        assert (record.tenant, record.received_unix_ns, record.kind) == ("key", 77, "server")
        assert record.resource == {"service.name": "orders"}
        assert record.details == batch.spans[0].details
        assert (record.request_body, record.response_body) == (b"hello", b"x" * 5000)
        page = await store.exchanges(EVERYTHING, before="", limit=10)
        assert page.exchanges == appended.exchanges
        assert page.next == ""


async def test_duplicates_are_ignored_within_a_batch_and_between_batches(engine):
    one = exchange_span(trace=TRACE, span=b"1" * 8, path="/first")
    again = exchange_span(trace=TRACE, span=b"1" * 8, path="/again")
    elsewhere = exchange_span(trace=b"u" * 16, span=b"1" * 8, path="/other-trace")
    async with engine() as store:
        first = await store.append(batch_of(one, again))
        assert (first.stored, first.duplicates, len(first.exchanges)) == (1, 1, 1)
        second = await store.append(batch_of(again, elsewhere))
        assert (second.stored, second.duplicates) == (1, 1)
        assert [exchange.path for exchange in second.exchanges] == ["/other-trace"]
        third = await store.append(batch_of(one))
        assert (third.stored, third.duplicates) == (0, 1)
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.duplicates) == (2, 2, 1, 3)
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert record.name == "/first"
        newest = await store.span(b"1" * 8, None)
        assert newest is not None
        assert newest.name == "/other-trace"


IDS: dict[str, Any] = {"trace": TRACE, "span": b"1" * 8, "parent": b"0" * 8}


async def test_an_exchange_that_has_ended_takes_the_place_of_its_partial_record(engine):
    async with engine() as store:
        going_on = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one", status=503)))
        assert [exchange.partial for exchange in going_on.exchanges] == [True]
        await store.append(batch_of(sdk_span(trace=TRACE, parent=b"1" * 8)))
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert record.exchange is not None
        assert (record.exchange.partial, record.parent_span_id, record.response_body) == (True, "30" * 8, b"one")
        again = await store.append(batch_of(partial_span(**IDS, session="s", response_body="one")))
        assert (again.stored, again.duplicates) == (0, 1)
        before = await store.stats()

        ended = await store.append(batch_of(exchange_span(**IDS, session="s", response_body="one two")))
        assert [exchange.partial for exchange in ended.exchanges] == [False]
        assert (await store.exchanges(EVERYTHING, before="", limit=10)).exchanges == ended.exchanges
        record = await store.span(b"1" * 8, TRACE)
        assert record is not None
        assert (record.exchange, record.response_body) == (ended.exchanges[0], b"one two")
        assert len(await store.trace(TRACE, limit=10)) == 2
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions) == (before.spans, before.exchanges, before.sessions)
        (session,) = (await store.sessions(before="", limit=10)).sessions
        assert (session.exchanges, session.errors, session.services) == (1, 0, ["orders"])

        late = await store.append(batch_of(partial_span(**IDS, session="s")))
        assert (late.stored, late.duplicates, late.exchanges) == (0, 1, [])
        assert await store.expire(received_before_unix_ns=FAR, max_bytes=FAR) == 2
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
            sessions = (await store.sessions(before="", limit=10)).sessions
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


async def test_spans_of_sdks_join_the_trace_and_are_no_exchanges(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(trace=TRACE, span=b"1" * 8, at=0)))
        await store.append(batch_of(sdk_span(trace=TRACE, parent=b"1" * 8, at=1), sdk_span(), service="db"))
        spans = await store.trace(TRACE, limit=10)
        assert [(span.name, span.service, span.exchange is None) for span in spans] == [
            ("/api/orders?id=7", "orders", False),
            ("SELECT", "db", True),
        ]
        assert len(await paths(store)) == 1
        assert len(await store.trace(TRACE, limit=1)) == 1


async def test_newest_first_whatever_the_order_of_arrival(engine):
    async with engine() as store:
        for at in (5, 1, 9, 3):
            await store.append(batch_of(exchange_span(at=at, path=f"/{at}")))
        assert await paths(store) == ["/9", "/5", "/3", "/1"]


async def test_pages_are_complete_and_do_not_shift(engine):
    async with engine() as store:
        # Several exchanges of the same moment: the cursor must not skip or repeat any.
        await store.append(batch_of(*(exchange_span(at=number // 4, path=f"/{number}") for number in range(30))))
        seen, cursor = [], ""
        while True:
            page = await store.exchanges(EVERYTHING, before=cursor, limit=7)
            seen += [exchange.path for exchange in page.exchanges]
            await store.append(batch_of(exchange_span(at=1000 + len(seen))))
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == sorted(f"/{number}" for number in range(30))


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1.", ".1", "1.2.3", "-1.2", "1.x", f"{2**63}.1", "9" * 30 + ".1", "\u0661.\u0661"]
)
async def test_foreign_cursors(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.exchanges(EVERYTHING, before=cursor, limit=5)


@pytest.mark.parametrize("cursor", ["x", "1", "x.s", f"{2**63}.s"])
async def test_foreign_cursors_of_sessions(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.sessions(before=cursor, limit=5)


services = st.sampled_from(["orders", "payment"])
made = st.fixed_dictionaries(
    {
        "service": services,
        "direction": st.sampled_from(["inbound", "outbound", "auto"]),
        "method": st.sampled_from(["GET", "POST"]),
        "host": st.sampled_from(["a", "b:80"]),
        "path": st.sampled_from(["/x", "/x%y", "/X_", HOSTILE]),
        "status": st.sampled_from([0, 200, 404, 503]),
        "session": st.sampled_from(["", "s1", "s2"]),
        "at": st.integers(0, 3),
        "trace": st.sampled_from([TRACE, b"u" * 16]),
    }
)
filters = st.builds(
    ExchangeFilter,
    service=st.sampled_from(["", "orders"]),
    direction=st.sampled_from(["", "inbound", "unknown"]),
    method=st.sampled_from(["", "GET"]),
    host=st.sampled_from(["", "b:80"]),
    path=st.sampled_from(["", "x", "%", "_", "<script>", "'", "\x00"]),
    status_min=st.sampled_from([-1, 0, 400]),
    status_max=st.just(499),
    session=st.sampled_from(["", "s1"]),
    trace=st.sampled_from(["", TRACE.hex()]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(made, max_size=12), wanted=st.lists(filters, min_size=1, max_size=6))
def test_the_store_and_the_live_filter_agree(engine, rows, wanted):
    async def check():
        async with engine() as store:
            appended = await store.append(batch_of(*(exchange_span(**row) for row in rows)))
            for one in wanted:
                page = await store.exchanges(one, before="", limit=100)
                expected = [exchange for exchange in appended.exchanges if one.matches(exchange)]
                assert sorted(page.exchanges, key=identity) == sorted(expected, key=identity)

    trio.run(check)


def identity(exchange):
    return (exchange.trace_id, exchange.span_id)


async def test_sessions(engine):
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(session="a", at=1, service="orders"),
                exchange_span(session="a", at=9, service="payment", status=503),
                exchange_span(session="b", at=5),
                exchange_span(session="", at=7),
                sdk_span(at=100),
            )
        )
        await store.append(batch_of(exchange_span(session="a", at=4, service="orders", status=404)))
        page = await store.sessions(before="", limit=10)
        first, second = page.sessions
        assert (first.session_id, first.exchanges, first.errors, first.services) == ("a", 3, 1, ["orders", "payment"])
        assert (first.first_seen_unix_ns, first.last_seen_unix_ns) == (START + 1_000_000, START + 9_000_000)
        assert (second.session_id, second.exchanges, second.errors) == ("b", 1, 0)
        detail = await store.session("a", limit=2)
        assert detail is not None
        assert detail.session == first
        assert [exchange.start_unix_ns - START for exchange in detail.exchanges] == [1_000_000, 4_000_000]
        assert detail.truncated
        whole = await store.session("a", limit=3)
        assert whole is not None
        assert not whole.truncated


async def test_pages_of_sessions(engine):
    async with engine() as store:
        await store.append(batch_of(*(exchange_span(session=f"s.{number}", at=number // 3) for number in range(10))))
        seen, cursor = [], ""
        while True:
            page = await store.sessions(before=cursor, limit=4)
            seen += [session.session_id for session in page.sessions]
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == [f"s.{number}" for number in range(10)]


async def test_hostile_texts_come_back_as_they_were(engine):
    span = exchange_span(
        path=HOSTILE,
        host=HOSTILE,
        service=HOSTILE,
        session=HOSTILE,
        method="'; DROP TABLE spans; --",
        response_body=HOSTILE,
    )
    async with engine() as store:
        (exchange,) = (await store.append(batch_of(span))).exchanges
        (found,) = (await store.exchanges(ExchangeFilter(service=HOSTILE), before="", limit=5)).exchanges
        assert found == exchange
        assert found.path == HOSTILE
        detail = await store.session(HOSTILE, limit=5)
        assert detail is not None
        assert detail.session.services == [HOSTILE]
        record = await store.span(bytes.fromhex(found.span_id), None)
        assert record is not None
        assert record.response_body == HOSTILE.encode()


async def test_age_removes_whole_batches_in_order_of_arrival(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(session="a", at=1, path="/old"), sdk_span(), received=100))
        await store.append(batch_of(exchange_span(session="a", at=9, path="/new", service="other"), received=200))
        assert await store.expire(received_before_unix_ns=100, max_bytes=FAR) == 0
        assert await store.expire(received_before_unix_ns=101, max_bytes=FAR) == 2
        assert await paths(store) == ["/new"]
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.expired) == (1, 1, 1, 2)
        (session,) = (await store.sessions(before="", limit=5)).sessions
        assert (session.exchanges, session.services) == (1, ["other"])
        assert session.first_seen_unix_ns == session.last_seen_unix_ns == START + 9_000_000
        assert await store.expire(received_before_unix_ns=FAR, max_bytes=FAR) == 1
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions) == (0, 0, 0)
        assert (await store.sessions(before="", limit=5)).sessions == []


async def test_a_clock_set_back_removes_nothing_too_early(engine):
    async with engine() as store:
        await store.append(batch_of(exchange_span(path="/kept"), received=500))
        await store.append(batch_of(exchange_span(path="/later"), received=50))
        assert await store.expire(received_before_unix_ns=100, max_bytes=FAR) == 0


async def test_size_removes_the_oldest_and_no_more_than_needed(engine):
    async with engine() as store:
        for number in range(30):
            body = os.urandom(30_000).hex()
            await store.append(batch_of(exchange_span(at=100 - number, path=f"/{number}", response_body=body)))
        before = (await store.stats()).bytes
        limit = before // 2
        removed = await store.expire(received_before_unix_ns=0, max_bytes=limit)
        stats = await store.stats()
        assert 0 < removed < 25
        assert limit * 0.7 < stats.bytes <= limit
        assert sorted(await paths(store)) == sorted(f"/{number}" for number in range(removed, 30))
        assert await store.expire(received_before_unix_ns=0, max_bytes=limit) == 0


async def test_many_at_once(engine):
    batches = [batch_of(*(exchange_span(session=f"s{n}") for _ in range(5)), sdk_span()) for n in range(40)]
    async with engine() as store:
        stored = []

        async def append(batch):
            stored.append((await store.append(batch)).stored)
            await store.exchanges(EVERYTHING, before="", limit=3)

        async with trio.open_nursery() as nursery:
            for batch in batches:
                nursery.start_soon(append, batch)
                nursery.start_soon(append, structs.replace(batch))
        assert sum(stored) == 240
        stats = await store.stats()
        assert (stats.spans, stats.exchanges, stats.sessions, stats.duplicates) == (240, 200, 40, 240)


async def test_a_cancelled_append_leaves_the_store_usable(engine):
    async with engine() as store:
        for _ in range(10):
            with trio.move_on_after(0):
                await store.append(batch_of(exchange_span()))
        await store.append(batch_of(exchange_span(path="/after")))
        assert "/after" in await paths(store)
